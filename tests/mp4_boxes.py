"""Change boxes of an mp4 file in place: display matrix and edit list (ISO/IEC 14496-12)."""

from __future__ import annotations

from pathlib import Path

ONE, MINUS_ONE = 0x0001_0000, 0xFFFF_0000
"""1 and -1 in 16.16 fixed point."""
MATRICES = {
    90: (0, ONE, MINUS_ONE, 0),
    180: (MINUS_ONE, 0, 0, MINUS_ONE),
    270: (0, MINUS_ONE, ONE, 0),
}
"""Degrees clockwise → a, b, c, d of the display matrix."""


def _body_of(data: bytearray, name: bytes) -> int:
    """Offset of the first byte after the type of the only box called `name`."""
    if data.count(name) != 1:
        raise ValueError(f"need one {name!r} box, found {data.count(name)}")
    return data.index(name) + 4


def rotate(path: Path, clockwise: int) -> None:
    """Make players turn the pictures of the only track by 90, 180 or 270 degrees."""
    data = bytearray(path.read_bytes())
    matrix = _body_of(data, b"tkhd") + 40
    a, b, c, d = (value.to_bytes(4, "big") for value in MATRICES[clockwise])
    data[matrix : matrix + 8] = a + b
    data[matrix + 12 : matrix + 20] = c + d
    path.write_bytes(data)


def trim(path: Path, *, start_ticks: int, duration_ms: int) -> None:
    """Let the only edit of the only track begin later and last `duration_ms`.

    Args:
        path: A file whose movie time scale is 1000, as FFmpeg writes it.
        start_ticks: Media ticks to leave out at the beginning.
        duration_ms: Length of what remains.
    """
    data = bytearray(path.read_bytes())
    entry = _body_of(data, b"elst") + 8
    media_time = int.from_bytes(data[entry + 4 : entry + 8], "big") + start_ticks
    data[entry : entry + 8] = duration_ms.to_bytes(4, "big") + media_time.to_bytes(4, "big")
    path.write_bytes(data)
