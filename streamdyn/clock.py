"""Exact media time: integer ticks of a rational time base; floats only for printing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from functools import total_ordering

EPOCH_SECONDS = 1e8
"""Times from here on are those of live streams, since the epoch: no file is three years long."""


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Pts:
    """A presentation time, compared exactly across time bases."""

    ticks: int
    """Presentation timestamp in units of `time_base`."""
    time_base: Fraction
    """Seconds per tick, positive."""

    def __post_init__(self) -> None:
        if self.time_base <= 0:
            raise ValueError(f"time_base must be positive, got {self.time_base}")

    @property
    def exact(self) -> Fraction:
        """Seconds as a fraction."""
        return self.ticks * self.time_base

    @property
    def seconds(self) -> float:
        """Seconds as a float, for printing and plotting only."""
        return float(self.exact)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pts):
            return NotImplemented
        return self.exact == other.exact

    def __lt__(self, other: Pts) -> bool:
        return self.exact < other.exact

    def __hash__(self) -> int:
        return hash(self.exact)

    def __repr__(self) -> str:
        return f"Pts({self.ticks}*{self.time_base}={self.seconds:.3f}s)"


def format_seconds(seconds: float) -> str:
    """`h:mm:ss.mmm`, as WebVTT and people write it; negative times keep their sign."""
    total = round(abs(seconds) * 1000)
    sign = "-" if seconds < 0 and total else ""
    hours, rest = divmod(total, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    whole, milli = divmod(rest, 1000)
    return f"{sign}{hours}:{minutes:02d}:{whole:02d}.{milli:03d}"


def format_time(seconds: float) -> str:
    """A time of a file as `format_seconds`, one of a live stream by the clock of this place."""
    if seconds < EPOCH_SECONDS:
        return format_seconds(seconds)
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "milliseconds")
