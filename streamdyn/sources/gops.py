"""GOPs from coded pictures: blocks in pts order out of packets in decode order.

A GOP is the packets from one keyframe to the next in decode order. Its items in pts order follow
all items of the GOP before, so that blocks cut from GOPs follow each other:

```
decode order   K0 P3 B1 B2 | K6 B4 B5 P7 ...     B4 B5 lead K6: an open GOP
pts order      K0 B1 B2 P3 | B4 B5 K6 P7 ...     they are decoded from K0, not from K6
```
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np

from streamdyn.items import Block
from streamdyn.receipt import Receipt
from streamdyn.sources.reorder import Coded


@dataclass(slots=True)
class Gop:
    """The packets between two keyframes; items are added as they become certain."""

    number: int
    first: bool
    """Nothing before it can be decoded from."""
    packets: list[Any] | None = field(default_factory=list)
    """In decode order; `None` once they were given up to save memory (they can be read again)."""
    key: tuple[int | None, int] = (None, 0)
    """dts and size of the first packet, to find it again."""
    disposable: list[bool] = field(default_factory=list)
    """One a packet."""
    reach: list[int] = field(default_factory=list)
    """One a packet: packets to feed to get its picture, disposable ones left out."""
    keyframe_pts: int = 0
    leading: set[int] = field(default_factory=set)
    """Decode indices of pictures that are shown before the keyframe."""
    num_bytes: int = 0

    @property
    def num_needed(self) -> int:
        """Packets that others are decoded from."""
        return len(self.disposable) - sum(self.disposable)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item is coded."""

    gop: int
    decode_index: int
    ticks: int


Pending = tuple[int, int, Coded]
"""Ticks, decode index, picture."""


class GopBuilder:
    """Takes pictures in decode order and gives blocks in pts order; keeps the packets of GOPs.

    Memory: the packets of GOPs not released yet, at most `max_packet_bytes` besides the GOP that is
    being built; the oldest are given up first.

    Args:
        stream_id: Of the blocks.
        time_base: Of all ticks.
        max_block_items: Longest block; a longer GOP is handed out in pieces.
        max_packet_bytes: Of packets to keep.
        reorder_lag: 0 where no pts is below its dts, else the packets after which none is below.
    """

    def __init__(
        self,
        stream_id: str,
        time_base: Fraction,
        *,
        max_block_items: int = 64,
        max_packet_bytes: int = 64 << 20,
        reorder_lag: int = 0,
    ) -> None:
        self.stream_id, self.time_base = stream_id, time_base
        self.max_block_items, self.max_packet_bytes = max_block_items, max_packet_bytes
        self._reorder_lag = reorder_lag
        self.receipt = Receipt()
        self.gops: dict[int, Gop] = {}
        self.places: dict[int, Place] = {}
        self.next_ordinal = 0
        self.next_number = 0
        """Of the next GOP."""
        self.last_ticks: int | None = None
        """Of the last item that was handed out."""
        self._released = 0
        self._pending: list[Pending] = []
        self._gop: Gop | None = None
        self._can_cut = True

    def begin_at(self, ordinal: int, number: int, after_ticks: int | None) -> None:
        """Count from there on, as if all before had been handed out."""
        self.next_ordinal = self._released = ordinal
        self.next_number, self.last_ticks = number, after_ticks

    def feed(self, coded: Coded, ticks: int, *, first: bool = False) -> Block | None:
        """Take a picture in; a block that has become certain by it.

        Args:
            coded: The next in decode order.
            ticks: Its pts.
            first: A keyframe before which nothing can be decoded from.
        """
        block = None
        if self._gop is None or coded.keyframe:
            block = self.flush()
            self._start_gop(coded, ticks, first=first or self._gop is None)
        self._add(coded, ticks)
        if block is None and len(self._pending) >= self.max_block_items:
            count = self._num_certain()
            block = self._emit(count) if count else None
        return block

    def flush(self) -> Block | None:
        """All pictures that are held back: no other comes before them."""
        return self._emit(len(self._pending)) if self._pending else None

    def _start_gop(self, coded: Coded, ticks: int, *, first: bool) -> None:
        number = self.next_number
        self.next_number += 1
        self._gop = Gop(number, first, key=key_of(coded.packet), keyframe_pts=ticks)
        self._can_cut = True
        self.gops[number] = self._gop

    def _add(self, coded: Coded, ticks: int) -> None:
        gop, packet = self._gop, coded.packet
        assert gop is not None
        assert gop.packets is not None
        index = len(gop.disposable)
        packet.opaque = (gop.number, index)
        gop.packets.append(packet)
        needed_before = gop.reach[-1] - gop.disposable[-1] if index else 0
        gop.disposable.append(coded.disposable)
        gop.reach.append(needed_before + 1)
        gop.num_bytes += packet.size
        if packet.dts is None or (ticks < packet.dts and not self._reorder_lag):
            self._can_cut = False
        if not coded.shown:
            return
        if ticks < gop.keyframe_pts and index:
            gop.leading.add(index)
        self._pending.append((ticks, index, coded))

    def _num_certain(self) -> int:
        """How many pending items come before anything that is still to be read."""
        assert self._gop is not None
        assert self._gop.packets is not None
        # Later packets have a larger dts, and no pts is below its dts; where we set the pts, none
        # is below the dts of a packet so many before.
        lag = self._reorder_lag
        if not self._can_cut or len(self._gop.packets) <= lag:
            return 0
        bound = self._gop.packets[-1 - lag].dts
        certain = sum(bool(ticks <= bound) for ticks, _, _ in self._pending)
        if certain < self.max_block_items // 2:
            return 0
        # Best between two runs of B-frames, where all that was decoded so far is shown.
        shown = [index for _, index, _ in sorted(self._pending, key=lambda entry: entry[:2])]
        latest = list(accumulate(shown, max))
        for n in range(certain, self.max_block_items // 2, -1):
            if latest[n - 1] < min(shown[n:], default=latest[-1] + 1):
                return n
        return certain

    def _kept(self, entries: list[Pending]) -> list[Pending]:
        """Those to hand out, in pts order."""
        return entries

    def _emit(self, count: int) -> Block | None:
        gop = self._gop
        assert gop is not None
        self._pending.sort(key=lambda entry: entry[:2])
        entries, self._pending = self._kept(self._pending[:count]), self._pending[count:]
        if not entries:
            return None
        n, first = len(entries), self.next_ordinal
        pts = np.empty(n, np.int64)
        for i, (ticks, index, _) in enumerate(entries):
            if self.last_ticks is not None and ticks <= self.last_ticks:
                ticks = self.last_ticks + 1
                self.receipt.num_retimed += 1
            self.last_ticks = ticks
            pts[i] = ticks
            self.places[first + i] = Place(gop.number, index, ticks)
        indices = [index for _, index, _ in entries]
        before = self.gops.get(gop.number - 1)
        extra = before.num_needed if before is not None else 0
        self.next_ordinal += n
        self._give_up_packets()
        return Block(
            self.stream_id,
            first,
            self.time_base,
            pts=pts,
            keyframe=np.array([index == 0 and coded.keyframe for _, index, coded in entries]),
            num_bytes=np.array([coded.packet.size for _, _, coded in entries], np.int32),
            disposable=np.array([gop.disposable[i] for i in indices]),
            gop=np.full(n, gop.number, np.int32),
            reach=np.array(
                [gop.reach[i] + (extra if i in gop.leading else 0) for i in indices], np.int32
            ),
        )

    def release(self, before: int) -> None:
        """Forget items below ordinal `before`, and the GOPs that nothing left is decoded from."""
        for ordinal in range(self._released, before):
            self.places.pop(ordinal, None)
        self._released = max(self._released, before)
        place = self.places.get(before)
        current = self._gop.number if self._gop is not None else 0
        keep = (place.gop if place is not None else current) - 1
        for number in [n for n in self.gops if n < keep]:
            del self.gops[number]

    def packets_of(self, gop: Gop) -> list[Any]:
        """The packets of a GOP that is not released, in decode order."""
        assert gop.packets is not None
        return gop.packets

    def _give_up_packets(self) -> None:
        held = sum(g.num_bytes for g in self.gops.values() if g.packets is not None)
        for gop in self.gops.values():
            if held <= self.max_packet_bytes:
                return
            if gop.packets is not None and gop is not self._gop:
                gop.packets = None
                held -= gop.num_bytes


def key_of(packet: Any) -> tuple[int | None, int]:
    """The dts and size of a packet, to find it again."""
    return packet.dts, packet.size
