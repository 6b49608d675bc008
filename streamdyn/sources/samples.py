"""The samples of a file's audio stream, by index: mono, float32, at the rate they are coded in.

Reading goes on from where the decoder stands. A stretch that is not wanted is jumped over by
seeking where what follows is then bit-equal to a full decode (tested):

| codec | starts before the wanted sample by |
|---|---|
| pcm_*, flac | nothing |
| mp3, mp3float | 0.5 s: its bit reservoir reaches back 9 frames, its filters 1 |

and only if the container's pts name the sample exactly (not in Matroska, which counts in ms). All
others are decoded from the start: AAC fills noise bands from a generator that runs from the first
frame on, Opus predicts from frame to frame without end.

A packet that the decoder refuses is silence, and noted as damage. FFmpeg's FLAC and PCM decoders
refuse nothing, so damage there is noise. A gap between packets is silence.

Memory: the last 30 s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from streamdyn.errors import SourceError
from streamdyn.items import Array
from streamdyn.receipt import Receipt
from streamdyn.sources.container import open_container

KEPT_SECONDS = 30
_PREROLL_SECONDS = {"flac": Fraction(0), "mp3": Fraction(1, 2), "mp3float": Fraction(1, 2)}


class NoAudio(SourceError):
    """The file has no audio stream."""


def audio_stream(container: Any, path: str) -> Any:
    """The first audio stream that can be decoded.

    Raises:
        NoAudio: There is none.
        SourceError: No decoder for it.
    """
    for stream in container.streams.audio:
        if stream.codec_context is None:
            raise SourceError(
                f"cannot decode the audio of {path}: no decoder for its codec in this FFmpeg "
                "build; convert it to FLAC"
            )
        return stream
    kinds = sorted({s.type for s in container.streams}) or ["nothing"]
    raise NoAudio(
        f"cannot listen to {path}: it has no audio stream, only {', '.join(kinds)}; name a file "
        "with sound"
    )


class SampleReader:
    """Reads sample ranges of one file; ranges should increase, a step back may decode again.

    Args:
        path: File or URL.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.receipt = Receipt()
        """What was spent; whoever reads may set a fresh one."""
        self.rate = 0
        """Samples a second."""
        self._open()
        first = next(self._frames, None)
        if first is None:
            self.close()
            raise SourceError(
                f"cannot listen to {path}: not one audio frame can be decoded; copy it"
            )
        self.rate = int(first.rate)
        self.start = first.pts * first.time_base if first.pts is not None else Fraction(0)
        """Time of sample 0 in seconds."""
        self.codec: str = self._stream.codec_context.name
        time_base = Fraction(self._stream.time_base)
        exact = time_base * self.rate <= 1
        preroll = Fraction(0) if self.codec.startswith("pcm_") else _PREROLL_SECONDS.get(self.codec)
        self._preroll = None if preroll is None or not exact else int(preroll * self.rate)
        self._tolerance = int(time_base * self.rate) + 2
        self._add(first)

    def read(self, start: int, stop: int) -> tuple[Array, int]:
        """Samples `start` to `stop` (half open), and how many of them there are in the file.

        Returns:
            `(stop - start,)` float32 in [-1, 1], 0 where the file has none; a count.
        """
        self._move_to(max(start, 0))
        while self._position < stop and (frame := next(self._frames, None)) is not None:
            self._add(frame)
            self._forget(start)
        samples = np.zeros(stop - start, np.float32)
        found = 0
        for place, chunk in self._chunks:
            left, right = max(place, start), min(place + len(chunk), stop)
            if left < right:
                samples[left - start : right - start] = chunk[left - place : right - place]
                found += right - left
        return samples, found

    def damage(self, start: int, stop: int) -> str | None:
        """What the decoder said of a packet in this range, if it could not decode it."""
        for left, right, reason in self._damaged:
            if left < stop and start < right:
                return reason
        return None

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _open(self) -> None:
        self._container = open_container(self.path)
        try:
            self._stream = audio_stream(self._container, self.path)
        except SourceError:
            self._container.close()
            raise
        self._chunks: deque[tuple[int, Array]] = deque()
        self._damaged: list[tuple[int, int, str]] = []
        self._kept_from = 0  # Samples from here on are in `_chunks`.
        self._position = 0  # Sample that the next frame should begin with.
        self._frames = self._decode()

    def _decode(self) -> Iterator[Any]:
        packets = self._container.demux(self._stream)
        while True:
            with self.receipt.timed("demux"):
                packet = self._next_packet(packets)
            if packet is None:
                return
            is_end = packet.size == 0 and packet.dts is None
            self.receipt.num_demuxed += not is_end
            self.receipt.num_decoded += not is_end
            try:
                with self.receipt.timed("decode"):
                    frames = self._stream.codec_context.decode(None if is_end else packet)
            except av.error.FFmpegError as exc:
                length = int((packet.duration or 0) * self._stream.time_base * self.rate)
                self._note_damage(self._position, length, str(exc.strerror or exc))
                continue
            yield from frames

    def _note_damage(self, place: int, length: int, reason: str) -> None:
        self._damaged.append((place, place + max(length, 1), reason))

    def _next_packet(self, packets: Iterator[Any]) -> Any:
        try:
            return next(packets, None)
        except av.error.FFmpegError as exc:
            raise SourceError(
                f"cannot read on in the audio of {self.path}: {exc.strerror or exc}; the file is "
                "damaged there"
            ) from exc

    def _add(self, frame: Any) -> None:
        if frame.rate != self.rate:
            raise SourceError(
                f"cannot listen on in {self.path}: the sample rate changes from {self.rate} to "
                f"{frame.rate} Hz on the way; convert it to one rate"
            )
        place = self._position
        if frame.pts is not None:
            told = round((frame.pts * frame.time_base - self.start) * self.rate)
            if abs(told - place) > self._tolerance:
                place = told  # A gap, or the place after a seek.
        samples = mono(frame)
        if frame.is_corrupt:
            self._note_damage(place, len(samples), "the decoder marked the sound as damaged")
        self._chunks.append((place, samples))
        self._position = place + len(samples)

    def _forget(self, start: int) -> None:
        oldest = start - KEPT_SECONDS * self.rate
        self._damaged = [entry for entry in self._damaged if entry[1] > oldest]
        while self._chunks and self._chunks[0][0] + len(self._chunks[0][1]) <= oldest:
            place, chunk = self._chunks.popleft()
            self._kept_from = place + len(chunk)

    def _move_to(self, start: int) -> None:
        if start < self._kept_from:
            self._start_over()
        if self._preroll is None:
            return
        target = start - self._preroll
        # A seek costs about as much as decoding a second.
        if target - self._position >= self.rate and not self._seek(target, start):
            self._start_over()

    def _start_over(self) -> None:
        self.receipt.num_restarts += 1
        self.close()
        self._open()

    def _seek(self, target: int, start: int) -> bool:
        """Stand at or before sample `target`; false where the container does not get there."""
        ticks = int((self.start + Fraction(target, self.rate)) / self._stream.time_base)
        self.receipt.num_seeks += 1
        self._container.seek(ticks, stream=self._stream, backward=True)
        self._chunks.clear()
        self._damaged.clear()
        self._frames = self._decode()
        # What is decoded first has no past: it must not be kept for a step back.
        self._kept_from = start
        frame = next(self._frames, None)
        if frame is None or frame.pts is None:
            return False
        self._position = round((frame.pts * frame.time_base - self.start) * self.rate)
        self._add(frame)
        return self._chunks[0][0] <= target


def mono(frame: Any) -> Array:
    """The mean of a frame's channels.

    Returns:
        `(samples,)` float32; integer formats are scaled to [-1, 1].
    """
    samples = frame.to_ndarray()
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        samples = samples.reshape(-1, channels).T
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    return samples.mean(axis=0, dtype=np.float32)  # type: ignore[no-any-return]
