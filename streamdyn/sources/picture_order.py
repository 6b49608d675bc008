"""The order in which H.264 pictures are shown, from their slice headers, where no pts says it.

Each slice carries a picture order count (ITU-T H.264, 8.2.1) that starts anew at every IDR picture.
FFmpeg's `dts2pts` filter reads it too, but mixes up the pictures around an IDR picture.

```
decode order   I0 P2 b1 P4 b3 | I5 ...
count           0  4  2  8  6 |  0
place           0  2  1  4  3 |  0       the k-th shown since I0 has the k-th dts since I0
```
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from streamdyn.sources.bits import Bits

MAX_REORDER = 16
"""Pictures that may be decoded between a picture and one shown before it (H.264 A.3.1)."""
SLICE, IDR_SLICE, SPS = 1, 5, 7
HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
"""`profile_idc` of the profiles whose SPS has chroma and scaling fields (7.3.2.1.1)."""
START_CODE = b"\x00\x00\x01"
HEADER_BYTES = 64
"""Of a NAL unit, enough for the fields read here unless there are long scaling lists."""


@dataclass(frozen=True, slots=True)
class SequenceHeader:
    """What a sequence parameter set says about the order of pictures."""

    separate_planes: bool
    frame_num_bits: int
    count_bits: int | None
    """Of `pic_order_cnt_lsb`; `None`: pictures are shown in the order they are decoded in."""
    frames_only: bool

    @staticmethod
    def parse(nal: bytes) -> SequenceHeader:
        """Read an SPS (7.3.2.1.1).

        Raises:
            ValueError: It is damaged, or counts in the one way not read here (type 1).
        """
        bits = Bits(_payload(nal))
        profile = bits.read(8)
        bits.read(16)
        bits.golomb()
        separate_planes = False
        if profile in HIGH_PROFILES:
            separate_planes = _skip_chroma_fields(bits)
        frame_num_bits = bits.golomb() + 4
        count_type, count_bits = bits.golomb(), None
        if count_type == 0:
            count_bits = bits.golomb() + 4
        elif count_type == 1:
            raise ValueError("picture order count of type 1")
        bits.golomb()
        bits.read(1)
        bits.golomb()
        bits.golomb()
        return SequenceHeader(separate_planes, frame_num_bits, count_bits, bool(bits.read(1)))


def _payload(nal: bytes) -> bytes:
    """Without the type byte and the bytes that keep start codes from appearing (7.4.1)."""
    return nal[1:].replace(b"\x00\x00\x03", b"\x00\x00")


def _skip_chroma_fields(bits: Bits) -> bool:
    chroma_format = bits.golomb()
    separate_planes = chroma_format == 3 and bool(bits.read(1))
    bits.golomb()
    bits.golomb()
    bits.read(1)
    if bits.read(1):
        for index in range(12 if chroma_format == 3 else 8):
            if bits.read(1):
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return separate_planes


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_golomb()) % 256
        last = following or last


class _Counter:
    """Follows the picture order count of a stream."""

    def __init__(self) -> None:
        self._header: SequenceHeader | None = None
        self._high, self._low = 0, 0

    def read(self, nals: Iterator[bytes]) -> tuple[bool, int | None]:
        """Whether an access unit is an IDR picture, and its count (`None`: unknown)."""
        for nal in nals:
            kind = nal[0] & 0x1F
            if kind == SPS:
                self._header = SequenceHeader.parse(nal)
            elif kind in (SLICE, IDR_SLICE):
                return kind == IDR_SLICE, self._count(nal, kind == IDR_SLICE)
        return False, None

    def _count(self, nal: bytes, is_idr: bool) -> int | None:
        header = self._header
        if header is None or header.count_bits is None:
            return None
        bits = Bits(_payload(nal[:HEADER_BYTES]))
        for _ in range(3):
            bits.golomb()
        bits.read(2 if header.separate_planes else 0)
        bits.read(header.frame_num_bits)
        if not header.frames_only and bits.read(1):
            bits.read(1)
        if is_idr:
            bits.golomb()
            self._high, self._low = 0, 0
        low, period, high = bits.read(header.count_bits), 1 << header.count_bits, self._high
        if self._low - low >= period // 2:
            high += period
        elif low - self._low > period // 2:
            high -= period
        if nal[0] >> 5 & 3:  # Only pictures that others refer to carry the count on.
            self._high, self._low = high, low
        return high + low


class _Period:
    """Pictures from one IDR picture to the next, waiting until their places are certain."""

    def __init__(self) -> None:
        self._dts: list[int | None] = []
        self._sorted: list[int] = []
        self._waiting: deque[tuple[Any, int]] = deque()

    def add(self, packet: Any, count: int | None) -> Iterator[tuple[Any, int | None]]:
        known = len(self._dts) if count is None else count
        self._dts.append(packet.dts)
        insort(self._sorted, known)
        self._waiting.append((packet, known))
        if len(self._waiting) > MAX_REORDER:
            yield self._first()

    def rest(self) -> Iterator[tuple[Any, int | None]]:
        while self._waiting:
            yield self._first()

    def _first(self) -> tuple[Any, int | None]:
        packet, count = self._waiting.popleft()
        return packet, self._dts[bisect_left(self._sorted, count)]


def in_shown_order(packets: Iterator[Any], stream: Any) -> Iterator[tuple[Any, int | None]]:
    """Each packet of an H.264 stream, in decode order, with the dts of its place in shown order.

    Args:
        packets: In decode order, none empty.
        stream: That they belong to.

    Raises:
        ValueError: Headers that cannot be read.
    """
    extradata, length_size = stream.codec_context.extradata or b"", nal_length_size(stream)
    counter, period = _Counter(), _Period()
    counter.read(_units(extradata[6:], 2) if length_size else _units(extradata, 0))
    for packet in packets:
        is_idr, count = counter.read(_units(bytes(packet), length_size))
        if is_idr:
            yield from period.rest()
            period = _Period()
        yield from period.add(packet, count)
    yield from period.rest()


def nal_length_size(stream: Any) -> int:
    """Bytes of the size before each NAL unit of an H.264 stream; 0: it has start codes instead."""
    extradata = stream.codec_context.extradata or b""
    return (extradata[4] & 3) + 1 if extradata[:1] == b"\x01" and len(extradata) > 6 else 0


def is_referred_to(packet: Any, length_size: int) -> bool:
    """Whether other pictures may be decoded from this H.264 picture (`nal_ref_idc`)."""
    for nal in _units(bytes(packet), length_size):
        if nal[0] & 0x1F in (SLICE, IDR_SLICE):
            return bool(nal[0] >> 5 & 3)
    return True


def _units(data: bytes, length_size: int) -> Iterator[bytes]:
    """The NAL units of an access unit, with sizes before them or, for size 0, start codes."""
    place = length_size or _after_start_code(data, 0)
    while place < len(data):
        if length_size:
            stop = place + int.from_bytes(data[place - length_size : place], "big")
            following = stop + length_size
        else:
            following = _after_start_code(data, place)
            stop = following - len(START_CODE)
        if stop > place:
            yield data[place:stop]
        place = following


def _after_start_code(data: bytes, place: int) -> int:
    found = data.find(START_CODE, place)
    return (found if found >= 0 else len(data)) + len(START_CODE)
