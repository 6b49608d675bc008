"""The order in which H.264 pictures are shown, from their slice headers, where no pts says it.

FFmpeg's `dts2pts` bitstream filter reads the picture order count. The count starts anew at every
IDR picture, which is shown after all pictures before it, and there the filter mixes up the last and
the first pictures, as it does at the end of a stream. So it is used from one IDR picture to the
next, only to rank, and is fed some pictures twice to make it let go of the last ones:

```
decode order   I0 P2 b1 P4 b3 | I5 ...
rank            0  2  1  4  3 |  0          the k-th shown since I0 has the k-th dts since I0
```
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.bitstream import BitStreamFilterContext

MAX_REORDER = 16
"""Pictures that may be shown between the decoding of a picture and its showing (H.264 A.3.1)."""
SLICE, IDR_SLICE = 1, 5
START_CODE = b"\x00\x00\x01"


def in_shown_order(packets: Iterator[Any], stream: Any) -> Iterator[tuple[Any, int | None]]:
    """Each packet of an H.264 stream, in decode order, with the dts of its place in shown order.

    Args:
        packets: In decode order, none empty.
        stream: That they belong to.
    """
    extradata = stream.codec_context.extradata or b""
    # Byte 4 of an avcC box holds the size of the length fields; without one there are start codes.
    length_size = (extradata[4] & 3) + 1 if extradata[:1] == b"\x01" else 0
    period: _Period | None = None
    for packet in packets:
        data = bytes(packet)
        if period is None or _first_slice_type(data, length_size) == IDR_SLICE:
            if period is not None:
                yield from period.rest()
            period = _Period(stream)
        yield from period.add(packet, data)
    if period is not None:
        yield from period.rest()


class _Period:
    """The pictures from one IDR picture to the next."""

    def __init__(self, stream: Any) -> None:
        self._filter = BitStreamFilterContext("dts2pts", stream)
        self._first: list[bytes] = []  # What to feed again at the end.
        self._waiting: deque[Any] = deque()
        self._dts: list[int | None] = []
        self._num_fed = 0
        self._rank_of_first: int | None = None

    def add(self, packet: Any, data: bytes) -> Iterator[tuple[Any, int | None]]:
        if len(self._first) <= MAX_REORDER:
            self._first.append(data)
        self._waiting.append(packet)
        self._dts.append(packet.dts)
        yield from self._feed(data)

    def rest(self) -> Iterator[tuple[Any, int | None]]:
        for turn in range(2 * MAX_REORDER):
            if not self._waiting:
                return
            yield from self._feed(self._first[turn % len(self._first)])
        # The headers promised more pictures than came: what is left keeps its place.
        while self._waiting:
            packet = self._waiting.popleft()
            yield packet, packet.dts

    def _feed(self, data: bytes) -> Iterator[tuple[Any, int | None]]:
        probe = av.Packet(data)
        probe.dts, probe.time_base = self._num_fed, Fraction(1)
        self._num_fed += 1
        for ranked in self._filter.filter(probe):
            if not self._waiting:
                return
            if self._rank_of_first is None:
                self._rank_of_first = ranked.pts
            packet = self._waiting.popleft()
            rank = ranked.pts - self._rank_of_first
            yield packet, self._dts[rank] if rank < len(self._dts) else packet.dts


def _first_slice_type(data: bytes, length_size: int) -> int | None:
    """NAL unit type of the first slice in an access unit; `None` where there is none."""
    place = length_size if length_size else data.find(START_CODE) + len(START_CODE)
    while 0 < place < len(data):
        kind = data[place] & 0x1F
        if SLICE <= kind <= IDR_SLICE:
            return kind
        if length_size:
            size = int.from_bytes(data[place - length_size : place], "big")
            place += size + length_size
        else:
            following = data.find(START_CODE, place)
            place = following + len(START_CODE) if following >= 0 else len(data)
    return None
