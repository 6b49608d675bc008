"""What a packet of MPEG-4 part 2 (DivX, Xvid) says of its picture (ISO/IEC 14496-2, 6.2)."""

from __future__ import annotations

import re

from streamdyn.sources.bits import Bits

LAYER_START = re.compile(rb"\x00\x00\x01[\x20-\x2f]")
VOP_START = b"\x00\x00\x01\xb6"
I_VOP, B_VOP = 0, 2
HEADER_BYTES = 32


def mpeg4_time_bits(data: bytes) -> int | None:
    """Length of the time field of a picture; `None` where no layer header is in `data`."""
    found = LAYER_START.search(data)
    if found is None:
        return None
    bits = Bits(data[found.end() : found.end() + HEADER_BYTES])
    bits.read(1 + 8)
    if bits.flag():
        bits.read(4 + 3)
    if bits.read(4) == 15:  # The shape of a pixel is written out.
        bits.read(8 + 8)
    if bits.flag():
        bits.read(2 + 1)
        if bits.flag():
            bits.read(79)  # Sizes of the decoder's buffers.
    bits.read(2 + 1)
    return max(1, (bits.read(16) - 1).bit_length())


def mpeg4_vop_type(data: bytes, time_bits: int | None) -> int | None:
    """0: I, 1: P, 2: B, 3: S; `None`: no picture, "show the last one again".

    Args:
        data: The packet.
        time_bits: From `mpeg4_time_bits`; `None`: take every picture for a coded one.
    """
    place = data.find(VOP_START)
    if place < 0 or place + len(VOP_START) >= len(data):
        return None
    bits = Bits(data[place + len(VOP_START) :][:HEADER_BYTES])
    kind = bits.read(2)
    if time_bits is None:
        return kind
    while bits.flag():
        continue
    bits.read(1 + time_bits + 1)
    return kind if bits.flag() else None
