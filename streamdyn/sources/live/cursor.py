"""Where we are in a live stream: blocks from its spool, pictures only where chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from streamdyn.errors import ConfigError
from streamdyn.items import Array, Block
from streamdyn.observation import Grade
from streamdyn.protocols import Position, SourceInfo
from streamdyn.receipt import Receipt
from streamdyn.sources.decode import GopDecoder
from streamdyn.sources.gops import Gop, GopBuilder, Pending
from streamdyn.sources.live.ingest import Ingest
from streamdyn.sources.live.packets import TIME_BASE, LivePacket, Section
from streamdyn.sources.live.spool import Spool, SpoolReader
from streamdyn.sources.pictures import PICTURE_GRADES, PictureCursor
from streamdyn.sources.reorder import Coded

Overload = Literal["wait", "drop_oldest", "drop_newest", "newest_only"]
OVERLOADS: tuple[Overload, ...] = ("wait", "drop_oldest", "drop_newest", "newest_only")
WAIT_SECONDS = 0.25
MAX_ARRIVALS = 1 << 14
"""Times of arrival that are remembered: more than a window has."""


@dataclass(frozen=True, slots=True)
class LagRule:
    """What is dropped of a stream whose items come faster than they are watched.

    Args:
        overload: `wait`: nothing is; `drop_oldest`: what waited longest; `drop_newest`: what comes
            (see `Ingest`); `newest_only`: all but the newest.
        max_lag_seconds: Media time that may wait.
    """

    overload: Overload
    max_lag_seconds: float

    def is_dropping(self, waiting_seconds: float, *, was: bool) -> bool:
        """Whether items are to be dropped.

        Args:
            waiting_seconds: Media that has come and was not looked at.
            was: Whether they were up to now: it goes on for a while, not to begin again at once.
        """
        if self.overload not in ("drop_oldest", "newest_only"):
            return False
        if not was:
            return waiting_seconds > self.max_lag_seconds
        return waiting_seconds > (self.max_lag_seconds / 2 if self.overload == "drop_oldest" else 0)


class LiveGops(GopBuilder):
    """GOPs of a live stream: items that were seen are not handed out again."""

    drop_until: int | None = None

    def _kept(self, entries: list[Pending]) -> list[Pending]:
        new = [e for e in entries if self.last_ticks is None or e[0] > self.last_ticks]
        if self.drop_until is None:
            return new
        kept = [e for e in new if e[0] > self.drop_until]
        self.receipt.num_dropped += len(new) - len(kept)
        return kept

    def certain(self) -> Block | None:
        """What is held back and certain, however little it is."""
        if not self._pending or not self._can_cut:
            return None
        assert self._gop is not None
        bound = self.packets_of(self._gop)[-1].dts
        return self._emit(sum(ticks <= bound for ticks, _, _ in self._pending))

    def end_section(self, *, comes_again: bool) -> Block | None:
        """What is left of a section after which another begins.

        Args:
            comes_again: The other one begins before the end of it: pictures that are still to be
                ordered are in there, with those that go between them.
        """
        block = self.certain() if comes_again else self.flush()
        self._pending.clear()
        return block


class LivePictureCursor(PictureCursor):
    """Where we are in a live stream; used by one thread.

    Args:
        name: To print.
        stream: Id.
        spool: Where packets are.
        ingest: Brings them.
        rule: Of dropping.
        resume_from: Where an earlier run stood.
        max_block_items: Longest block: a picture waits for so many.
        threads: Of the decoder.
        cache_bytes: Decoded pictures to keep.
    """

    def __init__(
        self,
        name: str,
        stream: str,
        spool: Spool,
        ingest: Ingest,
        rule: LagRule,
        resume_from: Position | None,
        *,
        max_block_items: int,
        threads: int,
        cache_bytes: int,
    ) -> None:
        super().__init__(name, stream, "skip")
        self.spool, self.ingest = spool, ingest
        self._rule, self._threads, self._cache_bytes = rule, threads, cache_bytes
        after = None if resume_from is None else resume_from.after_ticks
        self._builder = LiveGops(
            stream, TIME_BASE, max_block_items=max_block_items, max_packet_bytes=1 << 62
        )
        if resume_from is not None:
            self._builder.begin_at(resume_from.ordinal, 0, after)
        self._reader = SpoolReader(spool, after)
        self._section: Section | None = None
        self._is_first = False
        self._section_of: dict[int, Section] = {}  # By number of GOP.
        self._decoders: dict[int, GopDecoder] = {}  # By number of section.
        self._arrivals: dict[int, float] = {}  # By ticks, of items handed out.
        self._is_draining = False
        self._is_dropping = False
        self._skip_until = 0
        self._closing: list[Callable[[], None]] = []
        self.info = _info(stream, spool.section)

    def latency_seconds(self, window: Block) -> float | None:
        """Since the first item of a window came; `None` where that is not known any more."""
        arrived, last = self._arrivals.get(int(window.pts[0])), int(window.pts[-1])
        for old in [ticks for ticks in self._arrivals if ticks <= last]:
            del self._arrivals[old]
        return None if arrived is None else max(0.0, time.time() - arrived)

    def drain(self) -> None:
        """Hand out what is here and then nothing more; may be called by any thread."""
        self._is_draining = True

    def next_block(self) -> Block | None:
        """The next items in pts order, undecoded; waits for them."""
        while (block := self._wait_for_block()) is not None:
            if block.stop > self._skip_until:
                return block.slice(max(0, self._skip_until - block.first), len(block))
            self.release(block.stop)
        return None

    def _wait_for_block(self) -> Block | None:
        block, is_over = None, False
        while block is None and not is_over:
            record = self._reader.next(WAIT_SECONDS, lambda: self._is_draining)
            with self._receipt.timed("demux"):
                if record is None:
                    is_over = self._reader.has_ended or self._is_draining
                    block = self._held_back(is_over)
                elif isinstance(record, Section):
                    block = self._begin(record)
                else:
                    block = self._feed(record)
        return block

    def _held_back(self, is_over: bool) -> Block | None:
        """What can be handed out though nothing comes."""
        hung_up = self.ingest.status.connected_at is None and not self.ingest.comes_again
        return self._builder.flush() if is_over or hung_up else self._builder.certain()

    def _begin(self, section: Section) -> Block | None:
        before, self._section = self._section, section
        self.info = _info(self._stream, section)
        if self._reader.take_gap() or before is None or before.number != section.number:
            self._is_first = True
            return (
                None if before is None else self._builder.end_section(comes_again=section.goes_back)
            )
        return None

    def _feed(self, record: LivePacket) -> Block | None:
        builder, section = self._builder, self._section
        assert section is not None
        if record.keyframe:
            self._section_of[builder.next_number] = section
        waiting = 0.0 if self._is_draining else self._reader.waiting_seconds
        self._is_dropping = self._rule.is_dropping(waiting, was=self._is_dropping)
        if self._is_dropping:
            builder.drop_until = max(record.ticks, builder.drop_until or record.ticks)
        is_first, self._is_first = self._is_first, False
        coded = Coded(
            record.packet(), record.ticks, record.keyframe, record.disposable, record.shown
        )
        self._receipt.num_demuxed += 1
        self._arrivals[record.ticks] = record.arrived_at
        if len(self._arrivals) > MAX_ARRIVALS:
            del self._arrivals[next(iter(self._arrivals))]
        return builder.feed(coded, record.ticks, first=is_first)

    def preview(self, grade: Grade, ordinals: Sequence[int]) -> Array:
        """Small pictures for `luma` and `thumbnail`; `(n, 24, 32)` or `(n, 27, 48, 3)` float32.

        Raises:
            ConfigError: Another grade.
        """
        if grade in PICTURE_GRADES:
            return self._small_pictures(PICTURE_GRADES[grade], ordinals)
        known = ", ".join(["packet", *PICTURE_GRADES])
        raise ConfigError(f"a live stream has no preview of grade {grade!r}; it has {known}")

    def release(self, before: int) -> None:
        """Forget packets and pictures of items below `before`."""
        builder = self._builder
        place = builder.places.get(before)
        builder.release(before)
        number = place.gop if place is not None else builder.next_number - 1
        for gop in [g for g in self._section_of if g < min(builder.gops, default=number)]:
            del self._section_of[gop]
        for decoder in self._decoders.values():
            decoder.release((number, 0))
        in_use = {section.number for section in self._section_of.values()}
        for section in [s for s in self._decoders if s not in in_use]:
            del self._decoders[section]

    def hop_to(self, ordinal: int) -> None:
        """Read past the items before `ordinal` without decoding any."""
        self._skip_until = max(self._skip_until, ordinal)

    def take_receipt(self) -> Receipt:
        """What was spent since the last call."""
        spent = self._receipt + self._builder.receipt
        missed = self.spool.num_lost + self.ingest.status.num_refused
        spent.num_dropped += missed - self.spool.num_told
        self.spool.num_told = missed
        self._receipt, self._builder.receipt = Receipt(), Receipt()
        for decoder in self._decoders.values():
            decoder.receipt = self._receipt
        return spent

    def close(self) -> None:
        """Let go of the spool; may be called twice."""
        self._reader.close()
        while self._closing:
            self._closing.pop()()

    def when_closed(self, then: Callable[[], None]) -> None:
        """Do something after it is closed."""
        self._closing.append(then)

    @property
    def _gops(self) -> GopBuilder:
        return self._builder

    def _decoder_of(self, gop: Gop) -> GopDecoder:
        section = self._section_of[gop.number]
        if section.number not in self._decoders:
            self._decoders[section.number] = GopDecoder(
                self._builder,
                section.decoder(),
                self._receipt,
                threads=self._threads,
                cache_bytes=self._cache_bytes,
            )
        return self._decoders[section.number]


def _info(stream: str, section: Section | None) -> SourceInfo:
    if section is None:
        return SourceInfo(stream, "frame", "unknown", TIME_BASE, live=True)
    return SourceInfo(
        stream, "frame", section.codec, TIME_BASE, section.width, section.height, live=True
    )
