"""Live streams: cameras (RTSP, RTMP, USB), HLS, MPEG-TS, and files that are played like one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from streamdyn.errors import ConfigError
from streamdyn.protocols import Position
from streamdyn.registry import source
from streamdyn.sources.live.cursor import OVERLOADS, LagRule, LivePictureCursor, Overload
from streamdyn.sources.live.ingest import Ingest
from streamdyn.sources.live.receiving import SpoolReceiver
from streamdyn.sources.live.reconnect import Reconnect
from streamdyn.sources.live.text import LiveText
from streamdyn.sources.live.timekeeper import Timekeeper
from streamdyn.sources.live.urls import Address, redacted

__all__ = ["Live", "LivePictureCursor", "LiveText", "Receiver", "Reconnect", "redacted"]


@source("live")
class Live:
    """A live stream by URL: rtsp, rtmp, HLS, MPEG-TS over tcp or udp, a camera, or a file.

    Its times are those of the clock, in ticks of 1/90000 s since the epoch; a file keeps its own.
    It connects again when the connection breaks; what came is kept in a spool on disk until it is
    watched, so that a late recognizer and a killed process lose nothing of it.

    Args:
        path: URL, file, or `/dev/video0`.
        stream: Id in results; the URL without credentials when not given.
        spool: Folder of the packets; a temporary one when not given, and then nothing is resumed.
        spool_bytes: Packets to keep on disk.
        overload: What to do with items that come faster than they are watched: `wait`,
            `drop_oldest`, `drop_newest` or `newest_only`; dropped ones are counted.
        max_lag_seconds: Media time that may wait before any is dropped.
        pace: Of a file: `real`, as it was filmed, or `fast`.
        loop: A file begins again at its end.
        stall_seconds: Nothing came for so long: connect again.
        retry_seconds: Before the first try to connect again; doubled at each further one.
        longest_retry_seconds: Between two tries.
        max_block_items: Longest block: pictures wait for so many.
        threads: Of the decoder.
        cache_bytes: Decoded pictures to keep for an agent that narrows in on a change.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        stream: str | None = None,
        spool: str | Path | None = None,
        spool_bytes: int = 256 << 20,
        overload: Overload = "drop_oldest",
        max_lag_seconds: float = 10.0,
        pace: Literal["real", "fast"] = "real",
        loop: bool = False,
        stall_seconds: float = 10.0,
        retry_seconds: float = 1.0,
        longest_retry_seconds: float = 30.0,
        max_block_items: int = 16,
        threads: int = 1,
        cache_bytes: int = 64 << 20,
    ) -> None:
        if overload not in OVERLOADS:
            raise ConfigError(f"overload must be one of {', '.join(OVERLOADS)}, got {overload!r}")
        if pace not in ("real", "fast"):
            raise ConfigError(f"pace must be real or fast, got {pace!r}")
        for name, value in (
            ("max_lag_seconds", max_lag_seconds),
            ("stall_seconds", stall_seconds),
            ("retry_seconds", retry_seconds),
            ("spool_bytes", spool_bytes),
            ("max_block_items", max_block_items),
        ):
            if value <= 0:
                raise ConfigError(f"{name} must be above 0, got {value}")
        self.address = Address(str(path))
        self.address.check()
        self.name = self.address.name
        self.stream = stream if stream is not None else self.name
        self.spool, self.spool_bytes = None if spool is None else Path(spool), spool_bytes
        # A file that is read as fast as it goes waits for whoever watches it.
        self.is_hurried = not (self.address.is_file and pace == "fast")
        self.rule = LagRule(overload if self.is_hurried else "wait", max_lag_seconds)
        self.pace: Literal["real", "fast"] = pace if self.address.is_file else "fast"
        self.loop = loop
        self.reconnect = Reconnect(retry_seconds, longest_retry_seconds, stall_seconds)
        self.max_block_items, self.threads, self.cache_bytes = max_block_items, threads, cache_bytes

    def receive(self, resume_from: Position | None = None) -> Receiver:
        """Begin to receive, after the last closed item of an earlier run.

        Raises:
            StoreError: The spool's folder cannot be used.
        """
        return Receiver(self, resume_from)

    def open(self, resume_from: Position | None = None) -> LivePictureCursor:
        """A cursor that receives by itself, after the last closed item of an earlier run.

        Raises:
            StoreError: The spool's folder cannot be used.
        """
        receiver = self.receive(resume_from)
        cursor = receiver.open(resume_from)
        cursor.when_closed(receiver.close)
        return cursor


class Receiver(SpoolReceiver):
    """A live stream that comes in, whoever watches it; cursors may follow one another.

    Args:
        source: What to receive.
        resume_from: Where an earlier run stood.
    """

    def __init__(self, source: Live, resume_from: Position | None) -> None:
        self._source = source
        address, rule = source.address, source.rule
        super().__init__(
            source.spool,
            resume_from,
            max_bytes=source.spool_bytes,
            may_wait=rule.overload == "wait",
        )
        section, done = self.spool.section, self.spool.done_ticks
        latest = [t for t in (done, self.spool.last_ticks) if t is not None]
        timekeeper = Timekeeper(
            from_zero=address.is_file,
            is_repeatable=address.kind in ("file", "hls"),
            anchor=section.anchor_ticks if section is not None else None,
            last=max(latest, default=None),
        )
        self.ingest = Ingest(
            address,
            self.spool,
            timekeeper,
            reconnect=source.reconnect,
            pace=source.pace,
            loop=source.loop,
            refuse_after_seconds=(rule.max_lag_seconds if rule.overload == "drop_newest" else None),
        )
        self._start(self.ingest)

    @property
    def waiting_seconds(self) -> float:
        """Of media that has come and is not done."""
        return self.spool.waiting_seconds

    def connect_again(self) -> None:
        """What comes is of no use: hang up at the next packet and connect anew."""
        self.ingest.connect_again()

    def open(self, resume_from: Position | None) -> LivePictureCursor:
        """A cursor after the last closed item of an earlier one."""
        source = self._source
        return LivePictureCursor(
            source.name,
            source.stream,
            self.spool,
            self.ingest,
            source.rule,
            resume_from,
            max_block_items=source.max_block_items,
            threads=source.threads,
            cache_bytes=source.cache_bytes,
        )
