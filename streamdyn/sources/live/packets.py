"""What a live connection delivers, as it is kept in a spool: sections of packets."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

TICKS_PER_SECOND = 90_000
TIME_BASE = Fraction(1, TICKS_PER_SECOND)
"""Of all live streams: sources with different ones may follow each other on one timeline."""


@dataclass(frozen=True, slots=True)
class Section:
    """Packets that one decoder can take one after another; it begins with a keyframe."""

    number: int
    codec: str
    extradata: bytes
    width: int
    height: int
    anchor_ticks: int
    """Added to the source's own times."""
    goes_back: bool
    """It begins with pictures that the section before it holds too: a file or HLS, read again."""


@dataclass(frozen=True, slots=True)
class LivePacket:
    """One coded picture."""

    ticks: int
    dts: int | None
    keyframe: bool
    disposable: bool
    shown: bool
    arrived_at: float
    """Seconds since the epoch, by the clock of this machine."""
    data: bytes
