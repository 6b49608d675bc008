"""Live text as items: its words, kept in a spool until they are read, whatever was killed."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from streamdyn.errors import ConfigError, SourceError
from streamdyn.items import Block
from streamdyn.protocols import Position, SourceInfo
from streamdyn.receipt import Receipt
from streamdyn.registry import source
from streamdyn.sources.live.packets import LivePacket, Section
from streamdyn.sources.live.receiving import SpoolReceiver
from streamdyn.sources.live.reconnect import Receiving, Reconnect, Why
from streamdyn.sources.live.spool import Spool, SpoolReader
from streamdyn.sources.live.text_feeds import Feed, Place, feed_of, packed, unpacked
from streamdyn.sources.live.urls import redacted
from streamdyn.sources.tokens import TIME_BASE, Tokenizer, TokenWindow

WAIT_SECONDS = 0.2
CODEC = "text"
FULL_SECONDS = 0.5
"""Between two tries to store on a full disk."""


@source("live_text")
class LiveText:
    """Live text: `-` for standard input, a file that grows, server-sent events, a Redis stream.

    Its items are words and punctuation marks; a pts is the character a word begins with, counted
    since the stream began. What came is kept in a spool until it is read, and reading goes on where
    it was: in a file by place, in Redis and server-sent events by id. Nothing is ever dropped.

    Args:
        path: `-`, a file, http(s)://..., redis://HOST/0?stream=KEY[&field=NAME].
        stream: Id in results; the address without credentials when not given.
        spool: Folder of the text; a temporary one when not given, and then nothing is resumed.
        spool_bytes: Text to keep on disk; when it is full, reading waits.
        encoding: Of a file or standard input.
        block_size: Tokens of a block, at most.
        retry_seconds: Before the first try to connect again; doubled at each further one.
        longest_retry_seconds: Between two tries.
    """

    is_hurried = False

    def __init__(
        self,
        path: str | Path,
        *,
        stream: str | None = None,
        spool: str | Path | None = None,
        spool_bytes: int = 64 << 20,
        encoding: str = "utf-8",
        block_size: int = 512,
        retry_seconds: float = 1.0,
        longest_retry_seconds: float = 30.0,
    ) -> None:
        if block_size < 1:
            raise ConfigError(f"block_size must be at least 1 token, got {block_size}")
        self.name = redacted(str(path))
        self.stream = stream if stream is not None else self.name
        self.feed = feed_of(str(path), encoding)
        self.encoding, self.block_size = encoding, block_size
        self.spool, self.spool_bytes = None if spool is None else Path(spool), spool_bytes
        self.reconnect = Reconnect(retry_seconds, longest_retry_seconds)

    def receive(self, resume_from: Position | None = None) -> TextReceiver:
        """Begin to receive, after the last closed token of an earlier run."""
        return TextReceiver(self, resume_from)

    def open(self, resume_from: Position | None = None) -> LiveTokenCursor:
        """A cursor that receives by itself, after the last closed token of an earlier run."""
        receiver = self.receive(resume_from)
        cursor = receiver.open(resume_from)
        cursor.when_closed = receiver.close
        return cursor


class TextReceiver(SpoolReceiver):
    """Live text that comes in, whoever reads it.

    Args:
        text: What to receive.
        resume_from: Where an earlier run stood.
    """

    waiting_seconds = 0.0
    """Text has no seconds."""

    def __init__(self, text: LiveText, resume_from: Position | None) -> None:
        self._text = text
        super().__init__(text.spool, resume_from, max_bytes=text.spool_bytes, may_wait=True)
        self._start(TextIngest(text.name, text.feed, self.spool, text.reconnect))

    def open(self, resume_from: Position | None) -> LiveTokenCursor:
        """A cursor after the last closed token of an earlier one."""
        return LiveTokenCursor(self._text, self.spool, resume_from)

    def connect_again(self) -> None:
        """Text that came is of use: nothing is done."""


class TextIngest(Receiving):
    """The thread that receives text.

    Args:
        name: To print.
        feed: Where from.
        spool: Where to.
        reconnect: When it breaks.
    """

    def __init__(self, name: str, feed: Feed, spool: Spool, reconnect: Reconnect) -> None:
        super().__init__(name, spool, reconnect)
        self._feed = feed
        # The pts of a record is its last character: the next one begins after it.
        self._next = 0 if spool.last_ticks is None else spool.last_ticks + 1
        self._place: Place = _last_place(spool)

    def _receive(self) -> tuple[Why | None, str]:
        status, spool = self.status, self._spool
        if spool.section is None:
            spool.begin(Section(1, CODEC, b"", 0, 0, 0, goes_back=False))
        try:
            for text, place in self._feed.read(self._place, self._is_over.is_set):
                status.state = "up"
                status.connected_at = status.connected_at or time.time()
                if text:
                    self._place = place
                    last = self._next + len(text) - 1
                    now = time.time()
                    packet = LivePacket(last, None, True, True, True, now, packed(text, place))
                    if not self._stored(packet):
                        return None, ""
                    self._next = last + 1
                    status.num_packets += 1
                    status.num_bytes += len(packet.data)
                    status.last_packet_at = now
        except SourceError as exc:
            return "broken", str(exc)
        if self._feed.has_end or self._is_over.is_set():
            return None, ""
        return "ended", "the source closed the connection"

    def _stored(self, packet: LivePacket) -> bool:
        """Waits for room on a full disk; false where it was told to end meanwhile."""
        while not self._spool.append(packet):
            if self._spool.is_closed or self._is_over.wait(FULL_SECONDS):
                return False
            self.status.last_error = f"no room for text in {self._spool.folder}"
        return True


def _nothing() -> None:
    return


def _last_place(spool: Spool) -> Place:
    place: Place = {}
    if spool.last_ticks is not None:
        with closing(SpoolReader(spool, spool.last_ticks)) as reader:
            while (record := reader.next(0.0, lambda: True)) is not None:
                if isinstance(record, LivePacket):
                    place = unpacked(record.data)[1]
    return place


class LiveTokenCursor(TokenWindow):
    """Where we are in live text; used by one thread.

    Args:
        text: What is read.
        spool: Has it.
        resume_from: Where an earlier run stood.
    """

    def __init__(self, text: LiveText, spool: Spool, resume_from: Position | None) -> None:
        super().__init__(text.stream)
        self._block_size, self._spool = text.block_size, spool
        self._after = None if resume_from is None else resume_from.after_ticks
        self._first = self._next = 0 if resume_from is None else resume_from.ordinal
        self._reader = SpoolReader(spool, self._after)
        self._tokenizer: Tokenizer | None = None
        self._is_draining = self._has_ended = False
        self._skip_until = 0
        self._arrivals: dict[int, float] = {}
        self.when_closed = _nothing
        note = "its seconds are characters"
        self.info = SourceInfo(text.stream, "token", text.encoding, TIME_BASE, live=True, note=note)

    def drain(self) -> None:
        """Hand out what is here and then nothing more; may be called by any thread."""
        self._is_draining = True

    def next_block(self) -> Block | None:
        """The next tokens, fewer where no more come for now; waits for them."""
        while True:
            held = self._first + len(self._words) - self._next
            if held >= self._block_size or self._has_ended:
                break
            record = self._reader.next(WAIT_SECONDS, lambda: self._is_draining)
            if record is not None:
                if isinstance(record, LivePacket):
                    self._take(record)
                continue
            self._has_ended = self._reader.has_ended
            if self._has_ended and self._tokenizer is not None:
                self._add(*self._tokenizer.feed(None))
            if held or self._is_draining or self._has_ended:
                break
        block = self._hand_out(self._block_size)
        if block is not None and block.stop <= self._skip_until:
            self.release(block.stop)
            return self.next_block()
        if block is not None and block.first < self._skip_until:
            return block.slice(self._skip_until - block.first, len(block))
        return block

    def _take(self, record: LivePacket) -> None:
        with self._receipt.timed("demux"):
            text, _ = unpacked(record.data)
            if self._tokenizer is None:
                self._tokenizer = Tokenizer(record.ticks + 1 - len(text))
            starts, words = self._tokenizer.feed(text)
            if starts:
                self._arrivals[starts[0]] = record.arrived_at
            self._add(starts, words)

    def _add(self, starts: list[int], words: list[str]) -> None:
        if self._after is not None:
            new = sum(start <= self._after for start in starts)
            starts, words = starts[new:], words[new:]
        self._starts += starts
        self._words += words
        self._receipt.num_demuxed += len(words)

    def hop_to(self, ordinal: int) -> None:
        """Leave the tokens before `ordinal` unseen."""
        self._skip_until = max(self._skip_until, ordinal)

    def latency_seconds(self, window: Block) -> float | None:
        """Since the text of a window came; `None` where that is not known."""
        last = int(window.pts[-1])
        came = [start for start in self._arrivals if start <= last]
        times = [self._arrivals.pop(start) for start in came]
        return max(0.0, time.time() - times[0]) if times else None

    def take_receipt(self) -> Receipt:
        """What was spent since the last call."""
        spent, self._receipt = self._receipt, Receipt()
        return spent

    def close(self) -> None:
        """Let go of the spool; may be called twice."""
        self._reader.close()
        then, self.when_closed = self.when_closed, _nothing
        then()
