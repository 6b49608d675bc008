"""Sound as items: windows of samples at one rate, decoded only where they are chosen.

Item `i` holds the samples `i * W` to `(i + 1) * W` after resampling, `W = window_seconds *
sample_rate`, counted from the first decoded sample of the file, so its pts is exact whatever the
file's own clock. Where the codec allows it (PCM and FLAC: at once, MP3: with 0.5 s before), a
stretch without a chosen window is neither read nor decoded; see sources/samples.py. The samples are
the same, bit for bit, whatever else was chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import ceil, floor, gcd
from pathlib import Path
from typing import Any

import av
import numpy as np

from streamdyn.clock import Pts
from streamdyn.errors import ConfigError, SourceError
from streamdyn.items import Array, Block, FrameSpec, Item, ItemError
from streamdyn.observation import Grade
from streamdyn.previews.audio import log_mel, resampler
from streamdyn.protocols import Position, SourceInfo
from streamdyn.receipt import Receipt
from streamdyn.registry import source
from streamdyn.sources.container import open_container
from streamdyn.sources.corrupt import OnCorrupt, check_on_corrupt, corrupt_item
from streamdyn.sources.samples import SampleReader, audio_stream

BLOCK_ITEMS = 32
_RESAMPLER_REACH = 8
"""Samples (of the lower rate) that the resampling filter looks to each side; it needs 7."""


@source("audio")
class Audio:
    """The first audio stream of a file or URL, mono, in windows.

    Args:
        path: File or URL.
        window_seconds: Length of an item.
        sample_rate: Hz of the items; `window_seconds * sample_rate` must be whole.
        stream: Id in results; the path when not given.
        on_corrupt: `raise` a `CorruptMedia`, or `skip`: hand it out as an error, counted.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        window_seconds: float = 0.5,
        sample_rate: int = 16_000,
        stream: str | None = None,
        on_corrupt: OnCorrupt = "raise",
    ) -> None:
        check_on_corrupt(on_corrupt)
        if sample_rate < 1000:
            raise ConfigError(f"sample_rate must be at least 1000 Hz, got {sample_rate}")
        num_samples = round(window_seconds * sample_rate)
        if num_samples < 1 or abs(num_samples - window_seconds * sample_rate) > 1e-6:
            raise ConfigError(
                f"a window of {window_seconds} s holds {window_seconds * sample_rate} samples at "
                f"{sample_rate} Hz; choose window_seconds so that they are a whole number"
            )
        self.path = str(path)
        self.stream = stream if stream is not None else self.path
        self.sample_rate, self.num_samples, self.on_corrupt = sample_rate, num_samples, on_corrupt

    def open(self, resume_from: Position | None = None) -> AudioCursor:
        """A cursor at the start, or after the last closed item of an earlier run.

        Raises:
            SourceError: Not a readable media file, or one without sound.
        """
        cursor = AudioCursor(self)
        if resume_from is not None:
            cursor.hop_to(resume_from.ordinal)
        return cursor


class AudioCursor:
    """Where we are in a sound file; used by one thread.

    It has the file open twice: packets are read ahead to know their sizes and the end, while the
    reader of samples jumps to what was chosen.
    """

    def __init__(self, source: Audio) -> None:
        self._source = source
        self._reader = SampleReader(source.path)
        native, wanted = self._reader.rate, source.sample_rate
        self._resampler = resampler(native, wanted) if native != wanted else None
        self._container = open_container(source.path)
        stream = audio_stream(self._container, source.path)
        self._clock = Fraction(stream.time_base)
        self._packets: Iterator[Any] = self._container.demux(stream)
        self._receipt = Receipt()
        self._num_bytes: dict[int, int] = {}
        self._num_known = 0  # Items that begin before the end of what was read.
        self._num_certain = 0  # Items that no later packet begins in.
        self._next = 0
        self._ended = False
        step = Fraction(1, source.sample_rate)
        self._time_base = _common_tick(step, self._reader.start)
        self._first_ticks = int(self._reader.start / self._time_base)
        self._ticks_per_item = int(step / self._time_base) * source.num_samples
        seconds = stream.duration * self._clock if stream.duration is not None else None
        self.info = SourceInfo(
            source.stream,
            "audio",
            self._reader.codec,
            self._time_base,
            rate_from_header=Fraction(source.sample_rate, source.num_samples),
            duration_from_header_seconds=None if seconds is None else float(seconds),
        )

    def next_block(self) -> Block | None:
        """The next 32 windows, fewer at the end."""
        with self._receipt.timed("demux"):
            while not self._ended and self._num_certain < self._next + BLOCK_ITEMS:
                self._read_packet()
        stop = min(self._next + BLOCK_ITEMS, self._num_known)
        first, n = self._next, stop - self._next
        if n <= 0:
            return None
        ordinals = np.arange(first, stop)
        self._next = stop
        return Block(
            self._source.stream,
            first,
            self._time_base,
            pts=self._first_ticks + ordinals * self._ticks_per_item,
            keyframe=np.ones(n, bool),
            num_bytes=np.array([self._num_bytes.pop(i, 0) for i in range(first, stop)], np.int32),
            disposable=np.ones(n, bool),
            gop=ordinals.astype(np.int32),
            reach=np.ones(n, np.int32),
        )

    def _read_packet(self) -> None:
        try:
            packet = next(self._packets, None)
        except av.error.FFmpegError as exc:
            raise SourceError(
                f"cannot read on in {self._source.path}: {exc.strerror or exc}, after "
                f"{self._receipt.num_demuxed} packets; the file is damaged there"
            ) from exc
        if packet is None:
            self._ended = True
            return
        if packet.size == 0 or packet.pts is None:
            return
        self._receipt.num_demuxed += 1
        seconds = Fraction(self._source.num_samples, self._source.sample_rate)
        begin = (packet.pts * self._clock - self._reader.start) / seconds
        end = begin + (packet.duration or 0) * self._clock / seconds
        ordinal = max(0, floor(begin))
        if ordinal >= self._next:
            self._num_bytes[ordinal] = self._num_bytes.get(ordinal, 0) + packet.size
        self._num_certain = max(self._num_certain, floor(begin))
        self._num_known = max(self._num_known, ordinal + 1, ceil(end))

    def materialize(
        self, ordinals: Sequence[int], spec: FrameSpec
    ) -> tuple[list[Item], list[ItemError]]:
        """Decode and resample the chosen windows; `spec` is for pictures and is not looked at.

        Where there is no sound (the end of the last window, the padding of a codec, a gap) it is
        silence.

        Raises:
            CorruptMedia: One could not be decoded and `on_corrupt` is `raise`.
        """
        items, errors = [], []
        for ordinal in ordinals:
            samples, reason = self._window(ordinal)
            if reason is None:
                pts = self._pts(ordinal)
                items.append(Item(self._source.stream, ordinal, pts, samples[None], "audio"))
            else:
                errors.append(self._error(ordinal, reason))
        return items, errors

    def _error(self, ordinal: int, reason: str) -> ItemError:
        pts = self._pts(ordinal)
        self._receipt.num_errors += 1
        source = self._source
        return corrupt_item(source.path, ordinal, pts, reason, source.on_corrupt)

    def _window(self, ordinal: int) -> tuple[Array, str | None]:
        """`(W,)` float32 of one item, or why there is none.

        Whole periods of the resampling filter are read, aligned to the start of the stream, so
        that a window comes out the same whatever was read before it.
        """
        native, wanted = self._reader.rate, self._source.sample_rate
        common = gcd(native, wanted)
        period_in, period_out = native // common, wanted // common
        margin = ceil(Fraction(_RESAMPLER_REACH * native, min(native, wanted) * period_in)) + 1
        left = ordinal * self._source.num_samples
        first = left // period_out - margin
        last = ceil((left + self._source.num_samples) / period_out) + margin
        start, stop = first * period_in, last * period_in
        samples, _ = self._reader.read(start, stop)
        reason = self._reader.damage(start, stop)
        with self._receipt.timed("convert"):
            self._receipt.num_converted += 1
            if self._resampler is not None:
                samples = _resampled(samples, self._resampler)
        offset = left - first * period_out
        return samples[offset : offset + self._source.num_samples], reason

    def preview(self, grade: Grade, ordinals: Sequence[int]) -> Array:
        """`(n, 32)` float32 log mel energies for `audio`; NaN rows where a window is damaged.

        Raises:
            ConfigError: Another grade.
        """
        if grade != "audio":
            raise ConfigError(f"sound has no preview of grade {grade!r}; it has packet and audio")
        rows = np.full((len(ordinals), 32), np.nan, np.float32)
        for row, ordinal in enumerate(ordinals):
            samples, reason = self._window(ordinal)
            if reason is None:
                with self._receipt.timed("preview"):
                    rows[row] = log_mel(samples[None], self._source.sample_rate)[0]
        return rows

    def release(self, before: int) -> None:
        """Nothing is held for an item."""

    def hop_to(self, ordinal: int) -> None:
        """Leave the windows before `ordinal` unseen and undecoded; their packets are read."""
        self._next = max(self._next, ordinal)
        self._num_bytes = {i: size for i, size in self._num_bytes.items() if i >= self._next}

    def take_receipt(self) -> Receipt:
        """What was spent since the last call."""
        spent = self._receipt + self._reader.receipt
        self._receipt, self._reader.receipt = Receipt(), Receipt()
        return spent

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._reader.close()
        self._container.close()

    def _pts(self, ordinal: int) -> Pts:
        return Pts(self._first_ticks + ordinal * self._ticks_per_item, self._time_base)


def _common_tick(step: Fraction, start: Fraction) -> Fraction:
    """The longest tick that both count in: `step` itself unless the stream starts between two."""
    numerator = gcd(step.numerator * start.denominator, start.numerator * step.denominator)
    return Fraction(numerator, step.denominator * start.denominator)


def _resampled(samples: Array, resample: Any) -> Array:
    import torch

    with torch.inference_mode():
        return resample(torch.from_numpy(samples)).numpy()  # type: ignore[no-any-return]
