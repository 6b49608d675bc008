"""One connection to a live source: packets as they come, until it breaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from streamdyn.errors import SourceError
from streamdyn.sources.container import video_stream
from streamdyn.sources.live.hls import EncryptedError, HlsFiles, StalledError
from streamdyn.sources.live.packets import TICKS_PER_SECOND, TIME_BASE
from streamdyn.sources.live.urls import Address, redacted
from streamdyn.sources.reorder import Coded, coded_pictures

OPEN_SECONDS = 10.0
MAX_UNTIMED = 100
"""Pictures without a time that are held until one comes that has one."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A coded picture with the source's own times, in ticks of 1/90000 s."""

    coded: Coded
    pts: int
    dts: int


class Connection:
    """An open live source.

    Args:
        address: What to open.
        stall_seconds: A read that takes longer fails.
        may_skip: See `Address.options`.

    Raises:
        SourceError: It cannot be opened, or has no video.
    """

    def __init__(self, address: Address, stall_seconds: float, *, may_skip: bool = False) -> None:
        self.address, self._files = address, None
        self._first_pts: int | None = None
        options = address.options(stall_seconds, may_skip=may_skip)
        try:
            if address.kind == "hls":
                self._files = HlsFiles(address, stall_seconds, may_skip=may_skip)
            try:
                self.container = self._opened(options, stall_seconds)
            except EncryptedError:
                self._files = None
                self.container = self._opened(options, stall_seconds)
        except (av.error.FFmpegError, OSError, ValueError) as exc:
            raise SourceError(f"cannot open {address.name}: {_why(exc)}") from exc
        try:
            self.stream = video_stream(self.container, address.name)
        except SourceError:
            self.container.close()
            raise
        self._factor = Fraction(self.stream.time_base) / TIME_BASE

    def _opened(self, options: dict[str, str], stall_seconds: float) -> av.container.InputContainer:
        address, files = self.address, self._files
        # Files of HLS have limits of their own; a file of this machine has none.
        waits = None if address.is_file or files is not None else (OPEN_SECONDS, stall_seconds)
        return av.open(
            address.location,
            format=address.format,
            options=options if files is None else {**options, "seg_max_retry": "0"},
            timeout=waits,
            io_open=None if files is None else files.open,
        )

    def filmed_at(self, pts: int, *, has_jumped: bool) -> float | None:
        """When a picture was filmed, by what the source says; seconds since the epoch.

        Args:
            pts: Of the picture.
            has_jumped: The source's times were set anew with this picture.
        """
        if self._files is None or self._first_pts is None:
            return None
        if has_jumped:
            return self._files.filmed_at
        began = self._files.first_filmed_at
        return None if began is None else began + (pts - self._first_pts) / TICKS_PER_SECOND

    @property
    def has_end(self) -> bool:
        """A file, or a recording on demand: its end is no fault."""
        return self.address.is_file or self.container.duration is not None

    def pictures(self) -> Iterator[Arrival]:
        """Coded pictures in decode order; ends where the source does.

        Raises:
            SourceError: The connection broke, or nothing came for too long.
        """
        packets = self.container.demux(self.stream)
        untimed: list[Coded] = []
        step, last = self._nominal_step(), None
        try:
            for coded in coded_pictures(packets, self.stream, "container"):
                if coded.ticks is None:
                    # RTSP gives none to the first picture, and to the first one after a pause.
                    untimed.append(coded)
                    if len(untimed) > MAX_UNTIMED:
                        raise SourceError(f"{self.address.name} gives its pictures no times")
                    continue
                pts, dts = self._in_ticks(coded.ticks), coded.packet.dts
                dts = pts if dts is None else self._in_ticks(dts)
                for place, earlier in enumerate(untimed):
                    ticks = dts - step * (len(untimed) - place)
                    self._first_pts = ticks if self._first_pts is None else self._first_pts
                    yield Arrival(earlier, ticks, ticks)
                if last is not None and not untimed and 0 < dts - last < TICKS_PER_SECOND:
                    step = dts - last
                untimed.clear()
                last = dts
                self._first_pts = pts if self._first_pts is None else self._first_pts
                yield Arrival(coded, pts, dts)
        except SourceError:
            raise
        except (av.error.ExitError, av.error.TimeoutError) as exc:
            raise StalledError(f"{self.address.name} sent nothing for too long") from exc
        except (av.error.FFmpegError, OSError) as exc:
            raise SourceError(f"cannot read on from {self.address.name}: {_why(exc)}") from exc

    def _nominal_step(self) -> int:
        rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        return round(TICKS_PER_SECOND / rate)

    def _in_ticks(self, source_ticks: int) -> int:
        return round(source_ticks * self._factor)

    def parameters(self) -> dict[str, Any]:
        """What a decoder must know: `codec`, `extradata`, `width`, `height`."""
        context = self.stream.codec_context
        return {
            "codec": context.name,
            "extradata": bytes(context.extradata or b""),
            "width": context.width,
            "height": context.height,
        }

    def close(self) -> None:
        """Hang up."""
        self.container.close()


def _why(exc: Exception) -> str:
    return redacted(str(getattr(exc, "strerror", None) or exc))
