"""From a container to GOPs: pts, sizes and keyframe flags of every item, nothing decoded.

A GOP is the packets from one keyframe to the next in decode order. Its items in pts order follow
all items of the GOP before, so that blocks cut from GOPs follow each other:

```
decode order   K0 P3 B1 B2 | K6 B4 B5 P7 ...     B4 B5 lead K6: an open GOP
pts order      K0 B1 B2 P3 | B4 B5 K6 P7 ...     they are decoded from K0, not from K6
```
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate
from typing import Any, NamedTuple

import av
import numpy as np

from streamdyn.errors import SourceError
from streamdyn.items import Block
from streamdyn.receipt import Receipt
from streamdyn.sources.container import open_container, video_stream
from streamdyn.sources.picture_order import MAX_REORDER
from streamdyn.sources.reorder import Coded, choose_order, coded_pictures


@dataclass(slots=True)
class Gop:
    """The packets between two keyframes; items are added as they become certain."""

    number: int
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


class GopStart(NamedTuple):
    """Enough to begin reading at a keyframe as if all before had been read."""

    number: int
    """Of the GOP."""
    ordinal: int
    """Of its first item."""
    after_ticks: int
    """Pts of the item before."""
    keyframe_pts: int
    """And below the size of its packet: to find it again. Where a container stores no dts, as
    Matroska, it is another one after a seek."""
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item is coded."""

    gop: int
    decode_index: int
    ticks: int


class Demuxer:
    """Reads packets once, in order, and hands out blocks; keeps the packets of recent GOPs.

    Memory: the packets of GOPs not released yet, at most `max_packet_bytes` besides the GOP that is
    being read; the oldest are given up first and read again by seeking when they are wanted after
    all.
    """

    def __init__(
        self,
        path: str,
        stream_id: str,
        *,
        max_block_items: int = 64,
        max_packet_bytes: int = 64 << 20,
        options: dict[str, str] | None = None,
        start: GopStart | None = None,
    ) -> None:
        self.path, self.stream_id = path, stream_id
        self.max_block_items, self.max_packet_bytes = max_block_items, max_packet_bytes
        self._options = options
        self.container = open_container(path, options)
        try:
            self.stream = video_stream(self.container, path)
            self._order, self.note = choose_order(
                self.stream, self.container.format.name, lambda: open_container(path, options)
            )
        except av.error.FFmpegError as exc:
            self.container.close()
            raise SourceError(
                f"cannot read the first packets of {path}: {exc.strerror or exc}; the file is "
                "damaged there; convert or copy it again"
            ) from exc
        except SourceError:
            self.container.close()
            raise
        self.time_base = Fraction(self.stream.time_base)
        self.receipt = Receipt()
        self.gops: dict[int, Gop] = {}
        self.places: dict[int, Place] = {}
        self.next_ordinal = 0
        self._released = 0
        self._last_ticks: int | None = None
        self._pending: list[tuple[int, int, Coded]] = []  # (ticks, decode index, picture)
        self._gop: Gop | None = None
        self._pictures = self._coded(self.container, self.stream)
        self._held_back: Coded | None = None
        self._can_cut = True
        self._next_number = 0
        if start is not None:
            self._begin_at(start)

    def next_block(self) -> Block | None:
        """The next items, of one GOP; `None` at the end."""
        with self.receipt.timed("demux"):
            while True:
                coded = self._next_picture()
                if coded is None:
                    return self._emit(len(self._pending)) if self._pending else None
                if self._gop is None or coded.keyframe:
                    if self._pending:
                        self._held_back = coded
                        return self._emit(len(self._pending))
                    self._start_gop(coded)
                self._add(coded)
                if len(self._pending) >= self.max_block_items and (n := self._num_certain()):
                    return self._emit(n)

    def seconds_from_header(self) -> float | None:
        """How long the file says it is."""
        if self.stream.duration is not None:
            return float(self.stream.duration * self.time_base)
        if self.container.duration is not None:
            return float(self.container.duration / 1_000_000)
        return None

    def start_of(self, gop: Gop, ordinal: int, after_ticks: int) -> GopStart | None:
        """To begin there in another demuxer; `None` where times hang on all that came before."""
        if self._order != "container":
            return None
        return GopStart(gop.number, ordinal, after_ticks, gop.keyframe_pts, gop.key[1])

    def _begin_at(self, start: GopStart) -> None:
        with self.receipt.timed("demux"):
            coded = None
            for pictures in self._from(self.container, self.stream, start.keyframe_pts):
                self._pictures = pictures
                while (coded := self._next_picture()) is not None:
                    if coded.keyframe and coded.ticks == start.keyframe_pts:
                        break
                if coded is not None:
                    break
        if coded is None or coded.packet.size != start.num_bytes:
            raise SourceError(
                f"cannot find GOP {start.number} of {self.path}: the file has changed since it was "
                "split; run the same command again"
            )
        self._held_back, self._next_number = coded, start.number
        self.next_ordinal = self._released = start.ordinal
        self._last_ticks = start.after_ticks

    def _coded(self, container: Any, stream: Any) -> Iterator[Coded]:
        return coded_pictures(container.demux(stream), stream, self._order)

    def _next_picture(self) -> Coded | None:
        coded, self._held_back = self._held_back, None
        if coded is not None:
            return coded
        try:
            coded = next(self._pictures, None)
        except av.error.FFmpegError as exc:
            raise SourceError(
                f"cannot read on in {self.path}: {exc.strerror or exc}, after "
                f"{self.next_ordinal} items; the file is damaged there"
            ) from exc
        self.receipt.num_demuxed += coded is not None
        return coded

    def _start_gop(self, coded: Coded) -> None:
        number = self._next_number
        self._next_number += 1
        self._gop = Gop(number, key=_key(coded.packet), keyframe_pts=self._ticks(coded))
        self._can_cut = True
        self.gops[number] = self._gop

    def _add(self, coded: Coded) -> None:
        gop, packet, ticks = self._gop, coded.packet, self._ticks(coded)
        assert gop is not None
        assert gop.packets is not None
        index = len(gop.disposable)
        packet.opaque = (gop.number, index)
        gop.packets.append(packet)
        needed_before = gop.reach[-1] - gop.disposable[-1] if index else 0
        gop.disposable.append(coded.disposable)
        gop.reach.append(needed_before + 1)
        gop.num_bytes += packet.size
        if packet.dts is None or (ticks < packet.dts and self._order == "container"):
            self._can_cut = False
        if not coded.shown:
            return
        if ticks < gop.keyframe_pts and index:
            gop.leading.add(index)
        self._pending.append((ticks, index, coded))

    def _ticks(self, coded: Coded) -> int:
        if coded.ticks is None:
            raise SourceError(
                f"cannot order the pictures of {self.path}: a packet after item "
                f"{self.next_ordinal + len(self._pending)} has neither pts nor dts; "
                "remux it with ffmpeg -fflags +genpts -i IN -c copy OUT"
            )
        return coded.ticks

    def _num_certain(self) -> int:
        """How many pending items come before anything that is still to be read."""
        assert self._gop is not None
        assert self._gop.packets is not None
        # Later packets have a larger dts, and no pts is below its dts; where we set the pts, none
        # is below the dts of a packet so many before.
        lag = 0 if self._order == "container" else MAX_REORDER
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

    def _emit(self, count: int) -> Block:
        gop = self._gop
        assert gop is not None
        self._pending.sort(key=lambda entry: entry[:2])
        entries, self._pending = self._pending[:count], self._pending[count:]
        n, first = len(entries), self.next_ordinal
        pts = np.empty(n, np.int64)
        for i, (ticks, index, _) in enumerate(entries):
            if self._last_ticks is not None and ticks <= self._last_ticks:
                ticks = self._last_ticks + 1
                self.receipt.num_retimed += 1
            self._last_ticks = ticks
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

    def _give_up_packets(self) -> None:
        held = sum(g.num_bytes for g in self.gops.values() if g.packets is not None)
        for gop in self.gops.values():
            if held <= self.max_packet_bytes:
                return
            if gop.packets is not None and gop is not self._gop:
                gop.packets = None
                held -= gop.num_bytes

    def packets_of(self, gop: Gop) -> list[Any]:
        """The packets of a GOP, read again if they were given up."""
        if gop.packets is not None:
            return gop.packets
        with self.receipt.timed("demux"):
            packets = gop.packets = self._read_again(gop)
        self._give_up_packets()
        return packets

    def _read_again(self, gop: Gop) -> list[Any]:
        with open_container(self.path, self._options) as container:
            stream = container.streams[self.stream.index]
            for pictures in self._from(container, stream, gop.key[0]):
                if packets := self._find(gop, pictures):
                    return packets
        raise SourceError(
            f"cannot find GOP {gop.number} of {self.path} again: the file changed while it was read"
        )

    def _from(self, container: Any, stream: Any, ticks: int | None) -> Iterator[Iterator[Coded]]:
        """Pictures from before a time on; then, if seeking missed it, from the start."""
        for seek_to in (ticks, None):
            if seek_to is None:
                container.seek(0)
            else:
                container.seek(seek_to, stream=stream, backward=True)
            self.receipt.num_seeks += 1
            yield self._coded(container, stream)

    def _find(self, gop: Gop, pictures: Iterator[Coded]) -> list[Any]:
        found: list[Any] = []
        for packet, *_ in pictures:
            self.receipt.num_demuxed += 1
            if not found and _key(packet) != gop.key:
                continue
            packet.opaque = (gop.number, len(found))
            found.append(packet)
            if len(found) == len(gop.disposable):
                return found
        return []

    def close(self) -> None:
        """Close the container."""
        self.container.close()


def _key(packet: Any) -> tuple[int | None, int]:
    return packet.dts, packet.size
