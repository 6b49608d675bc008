"""How packets and sections lie in the files of a spool."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict
from typing import BinaryIO

from streamdyn.sources.live.packets import LivePacket, Section

_HEAD = struct.Struct("<BBIIqqd")
"""Kind, flags, length of the data, its CRC-32, pts, dts, arrival."""
_SECTION, _PACKET = 1, 2
_KEYFRAME, _DISPOSABLE, _SHOWN, _HAS_DTS = 1, 2, 4, 8
Record = Section | LivePacket


def packed_packet(packet: LivePacket) -> bytes:
    """A packet as a record."""
    flags = (
        _KEYFRAME * packet.keyframe
        | _DISPOSABLE * packet.disposable
        | _SHOWN * packet.shown
        | _HAS_DTS * (packet.dts is not None)
    )
    data = packet.data
    head = _HEAD.pack(
        _PACKET, flags, len(data), zlib.crc32(data), packet.ticks, packet.dts or 0,
        packet.arrived_at,
    )  # fmt: skip
    return head + data


def packed_section(section: Section) -> bytes:
    """A section as a record."""
    table = asdict(section) | {"extradata": section.extradata.hex()}
    data = json.dumps(table).encode()
    return _HEAD.pack(_SECTION, 0, len(data), zlib.crc32(data), 0, 0, 0.0) + data


def read_record(stored: BinaryIO) -> Record | None:
    """The record at the place of a file; `None` where there is none that is whole."""
    head = stored.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    kind, flags, size, crc, ticks, dts, arrived_at = _HEAD.unpack(head)
    data = stored.read(size)
    if len(data) < size or zlib.crc32(data) != crc:
        return None
    if kind == _SECTION:
        table = json.loads(data)
        return Section(**table | {"extradata": bytes.fromhex(table["extradata"])})
    return LivePacket(
        ticks,
        dts if flags & _HAS_DTS else None,
        bool(flags & _KEYFRAME),
        bool(flags & _DISPOSABLE),
        bool(flags & _SHOWN),
        arrived_at,
        data,
    )
