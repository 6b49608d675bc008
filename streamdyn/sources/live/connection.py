"""One connection to a live source: packets as they come, until it breaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from streamdyn.errors import SourceError
from streamdyn.sources.container import video_stream
from streamdyn.sources.live.packets import TICKS_PER_SECOND, TIME_BASE
from streamdyn.sources.live.urls import Address, redacted
from streamdyn.sources.live.web import StalledError
from streamdyn.sources.reorder import Coded, coded_pictures

OPEN_SECONDS = 10.0
MAX_UNTIMED = 100
"""Pictures without a time that are held until one comes that has one."""


@dataclass(frozen=True, slots=True)
class Break:
    """Before a picture: what comes does not go on from what came."""

    has_new_times: bool
    """Else only a decoder must know."""
    filmed_at: float | None
    """The picture, seconds since the epoch."""
    follows: bool
    """Nothing is missing between."""
    is_exact: bool
    """`filmed_at` is what the source says, and no estimate."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A coded picture with the source's own times, in ticks of 1/90000 s."""

    coded: Coded
    pts: int
    dts: int
    breaks: Break | None = None


class Connection:
    """An open live source, read by FFmpeg.

    Args:
        address: What to open.
        stall_seconds: A read that takes longer fails.
        may_skip: See `Address.options`.

    Raises:
        SourceError: It cannot be opened, or has no video.
    """

    def __init__(self, address: Address, stall_seconds: float, *, may_skip: bool = False) -> None:
        self.address = address
        waits = None if address.is_file else (OPEN_SECONDS, stall_seconds)
        try:
            self.container = av.open(
                address.location,
                format=address.format,
                options=address.options(stall_seconds, may_skip=may_skip),
                timeout=waits,
            )
        except (av.error.FFmpegError, OSError, ValueError) as exc:
            raise SourceError(f"cannot open {address.name}: {_why(exc)}") from exc
        try:
            self.stream = video_stream(self.container, address.name)
        except SourceError:
            self.container.close()
            raise

    @property
    def knows_times(self) -> bool:
        """Of a camera only the clock tells when its pictures are of."""
        return self.address.is_file

    @property
    def has_end(self) -> bool:
        """A file, or a recording on demand: its end is no fault."""
        return self.address.is_file or self.container.duration is not None

    def pictures(self) -> Iterator[Arrival]:
        """Coded pictures in decode order; ends where the source does.

        Raises:
            SourceError: The connection broke, or nothing came for too long.
        """
        return arrivals(self.container, self.stream, self.address.name)

    def parameters(self) -> dict[str, Any]:
        """What a decoder must know."""
        return parameters_of(self.stream)

    def close(self) -> None:
        """Hang up."""
        self.container.close()


def arrivals(container: Any, stream: Any, name: str) -> Iterator[Arrival]:
    """Coded pictures of a container in decode order.

    Args:
        container: To read.
        stream: Of video.
        name: To print.

    Raises:
        SourceError: It breaks, or gives no times.
        StalledError: Nothing came for too long.
    """
    factor = Fraction(stream.time_base) / TIME_BASE
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    untimed: list[Coded] = []
    step, last = round(TICKS_PER_SECOND / rate), None
    try:
        for coded in coded_pictures(container.demux(stream), stream, "container"):
            if coded.ticks is None:
                # RTSP gives none to the first picture, and to the first one after a pause.
                untimed.append(coded)
                if len(untimed) > MAX_UNTIMED:
                    raise SourceError(f"{name} gives its pictures no times")
                continue
            pts, dts = round(coded.ticks * factor), coded.packet.dts
            dts = pts if dts is None else round(dts * factor)
            for place, earlier in enumerate(untimed):
                ticks = dts - step * (len(untimed) - place)
                yield Arrival(earlier, ticks, ticks)
            if last is not None and not untimed and 0 < dts - last < TICKS_PER_SECOND:
                step = dts - last
            untimed.clear()
            last = dts
            yield Arrival(coded, pts, dts)
    except SourceError:
        raise
    except (av.error.ExitError, av.error.TimeoutError) as exc:
        raise StalledError(f"{name} sent nothing for too long") from exc
    except (av.error.FFmpegError, OSError) as exc:
        raise SourceError(f"cannot read on from {name}: {_why(exc)}") from exc


def parameters_of(stream: Any) -> dict[str, Any]:
    """What a decoder must know: `codec`, `extradata`, `width`, `height`."""
    context = stream.codec_context
    return {
        "codec": context.name,
        "extradata": bytes(context.extradata or b""),
        "width": context.width,
        "height": context.height,
    }


def _why(exc: Exception) -> str:
    return redacted(str(getattr(exc, "strerror", None) or exc))
