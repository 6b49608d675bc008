"""Log mel energies of the sound around a moment: what a policy may hear before it looks.

Cost: the audio stream is decoded up to the moment (AAC: about 1 ms a second of sound), then 0.5 to
1 ms a row for resampling and mel energies (44.1 kHz, windows of 0.5 s, one thread).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import floor
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.clock import Pts
from streamdyn.errors import ConfigError, SourceError
from streamdyn.items import Array
from streamdyn.receipt import Receipt
from streamdyn.sources.samples import NoAudio, SampleReader

NUM_MELS = 32
SAMPLE_RATE = 16_000
_FLOOR = 1e-6
"""Energy below which everything counts as silence."""


def log_mel(samples: Array, sample_rate: int = SAMPLE_RATE) -> npt.NDArray[np.float32]:
    """Natural logarithm of the mean mel energies of windows of sound.

    Args:
        samples: `(n, samples)` float32 in [-1, 1], mono.
        sample_rate: Hz.

    Returns:
        `(n, 32)` float32.
    """
    import torch

    with torch.inference_mode():
        energies = _mel(sample_rate)(torch.from_numpy(np.ascontiguousarray(samples)))  # (n, 32, T)
        return np.asarray(torch.log(energies.mean(dim=-1) + _FLOOR).numpy())


@cache
def _mel(sample_rate: int) -> Any:
    import torch
    from torchaudio.transforms import MelSpectrogram

    torch.set_num_threads(1)
    # Frames of 25 ms every 10 ms, as is usual for speech and sound events.
    return MelSpectrogram(
        sample_rate, n_fft=sample_rate // 40, hop_length=sample_rate // 100, n_mels=NUM_MELS
    )


@cache
def resampler(rate: int, sample_rate: int) -> Any:
    """From `(..., samples)` at `rate` to `(..., samples)` at `sample_rate`, both in Hz."""
    import torch
    from torchaudio.transforms import Resample

    torch.set_num_threads(1)
    return Resample(rate, sample_rate)


class AudioPreview:
    """Rows for the grade `audio`; decodes on from where it stands, so ask in pts order.

    Args:
        path: File or URL with sound, the video's own as a rule.
        window_seconds: Length of sound around each moment.

    Raises:
        SourceError: The file has no audio stream.
        SourceError: It cannot be opened or decoded.
    """

    def __init__(self, path: str, *, window_seconds: float = 0.5) -> None:
        if not 0.05 <= window_seconds <= 10:
            raise ConfigError(f"window_seconds must be in [0.05, 10], got {window_seconds}")
        try:
            self._reader = SampleReader(path)
        except NoAudio as exc:
            raise SourceError(
                f"no preview of grade 'audio' for {path}: it has no audio stream; choose a policy "
                "that does not listen"
            ) from exc
        self._length = round(Fraction(window_seconds) * self._reader.rate)

    def at(self, moments: Sequence[Pts]) -> npt.NDArray[np.float32]:
        """Log mel energies of the window around each moment.

        Returns:
            `(n, 32)` float32; NaN where the file has no sound at that moment, or damaged sound.
        """
        import torch

        rows = np.full((len(moments), NUM_MELS), np.nan, np.float32)
        heard, windows = [], []
        for row, pts in enumerate(moments):
            middle = floor((pts.exact - self._reader.start) * self._reader.rate)
            start = middle - self._length // 2
            samples, found = self._reader.read(start, start + self._length)
            if found and self._reader.damage(start, start + self._length) is None:
                heard.append(row)
                windows.append(samples)
        if heard:
            native = torch.from_numpy(np.stack(windows))
            with torch.inference_mode():
                rows[heard] = log_mel(resampler(self._reader.rate, SAMPLE_RATE)(native).numpy())
        return rows

    def take_receipt(self) -> Receipt:
        """What reading and decoding cost since the last call."""
        spent, self._reader.receipt = self._reader.receipt, Receipt()
        return spent

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._reader.close()
