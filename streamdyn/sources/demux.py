"""From a container to GOPs: pts, sizes and keyframe flags of every item, nothing decoded."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av

from streamdyn.errors import SourceError
from streamdyn.items import Block
from streamdyn.sources.container import open_container, video_stream
from streamdyn.sources.gops import Gop, GopBuilder, key_of
from streamdyn.sources.picture_order import MAX_REORDER
from streamdyn.sources.reorder import Coded, choose_order, coded_pictures


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


class Demuxer(GopBuilder):
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
        self.path, self._options = path, options
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
        super().__init__(
            stream_id,
            Fraction(self.stream.time_base),
            max_block_items=max_block_items,
            max_packet_bytes=max_packet_bytes,
            # Where we set the pts, none is below the dts of a packet so many before.
            reorder_lag=0 if self._order == "container" else MAX_REORDER,
        )
        self._pictures = self._coded(self.container, self.stream)
        self._held_back: Coded | None = None
        if start is not None:
            self._begin_at(start)

    def next_block(self) -> Block | None:
        """The next items, of one GOP; `None` at the end."""
        with self.receipt.timed("demux"):
            while (coded := self._next_picture()) is not None:
                block = self.feed(coded, self._ticks(coded))
                if block is not None:
                    return block
            return self.flush()

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
        self._held_back = coded
        self.begin_at(start.ordinal, start.number, start.after_ticks)

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

    def _ticks(self, coded: Coded) -> int:
        if coded.ticks is None:
            raise SourceError(
                f"cannot order the pictures of {self.path}: a packet after item "
                f"{self.next_ordinal + len(self._pending)} has neither pts nor dts; "
                "remux it with ffmpeg -fflags +genpts -i IN -c copy OUT"
            )
        return coded.ticks

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
            if not found and key_of(packet) != gop.key:
                continue
            packet.opaque = (gop.number, len(found))
            found.append(packet)
            if len(found) == len(gop.disposable):
                return found
        return []

    def close(self) -> None:
        """Close the container."""
        self.container.close()
