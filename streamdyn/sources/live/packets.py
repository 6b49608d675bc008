"""What a live connection delivers, as it is kept in a spool: sections of packets."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

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

    def decoder(self) -> Any:
        """A codec context for its packets."""
        codec: Any = av.CodecContext.create(self.codec, "r")
        codec.extradata = self.extradata or None
        codec.width, codec.height = self.width, self.height  # Some cannot do without.
        return codec


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

    def packet(self) -> Any:
        """For a decoder."""
        packet = av.Packet(self.data)
        packet.pts, packet.dts, packet.time_base = self.ticks, self.dts, TIME_BASE
        packet.is_keyframe = self.keyframe
        return packet
