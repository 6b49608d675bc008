"""Live streams in an index: chapters that come and go, events, and what sinks are still to be told.

A stream without an end is kept as one media row after another, its chapters; each is finished, and
can be searched, when the next begins, and is deleted when it is older or the index larger than
wanted. Window, checkpoint, events and the messages about them are written in one transaction: what
is told is what is stored, and a killed process repeats neither.
"""

from __future__ import annotations

import json
import pickle
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from streamdyn import checkpoint
from streamdyn.clock import EPOCH_SECONDS, Pts
from streamdyn.errors import ConfigError, StoreError
from streamdyn.events import EventChange, EventState
from streamdyn.index.finish import forget_segments
from streamdyn.index.media_sink import MediaSink
from streamdyn.index.records import MediaRow
from streamdyn.index.sqlite import SqliteIndex
from streamdyn.outcome import Outcome
from streamdyn.protocols import Position, SourceInfo
from streamdyn.timeline import WindowResult

RETENTION_EVERY_SECONDS = 30.0
REFRESH_EVERY_SECONDS = 30.0
"""After so long what a stream has brought can be searched, at the latest."""
_OUTBOX_ROWS = 100_000
"""Messages that are kept though every sink has taken them."""


@dataclass(frozen=True, slots=True)
class Message:
    """What sinks are told."""

    number: int
    """Increases; the same at every try."""
    id: str
    """Of what it is about: a sink that has seen it may leave it out."""
    topic: str
    body: str
    """JSON."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A window, and what is stored with it in one transaction."""

    result: WindowResult
    checkpoint: bytes
    """That covers it."""
    info: SourceInfo
    events: EventState
    """As they stand after it."""
    changes: Sequence[EventChange] = ()


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of live streams; `None`: all.

    Args:
        seconds: Chapters that ended longer ago are deleted.
        num_bytes: The oldest chapters are deleted while the index holds more.
    """

    seconds: float | None = None
    num_bytes: int | None = None


class LiveBook:
    """An index as live streams need it; threads may share it.

    Args:
        path: The index, made when missing.
        chapter_seconds: Of media time.
        retention: What is kept.
        topics: Messages that are written: `event`, `outcome`.
        now: Seconds since the epoch.

    Raises:
        StoreError: The index cannot be opened or written.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        chapter_seconds: float = 600.0,
        retention: Retention = Retention(),
        topics: Sequence[str] = ("event",),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.index = SqliteIndex(path)
        self.chapter_seconds, self.topics = chapter_seconds, tuple(topics)
        self._retention, self.now = retention, now
        self._next_cleaning = 0.0
        with self.index.transaction(f"prepare {path}") as connection:
            # Messages number on from the clock: those of an index made anew come after the old.
            connection.execute(
                "INSERT INTO sqlite_sequence (name, seq) SELECT 'outbox', ? "
                "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'outbox')",
                (int(now() * 1000),),
            )

    def page(self, stream: str, config_hash: str) -> StreamPage:
        """Where a stream is written, and where it stood."""
        return StreamPage(self, stream, config_hash)

    def clean_now_and_then(self) -> None:
        """Every `RETENTION_EVERY_SECONDS`."""
        now = self.now()
        if now >= self._next_cleaning:
            self._next_cleaning = now + RETENTION_EVERY_SECONDS
            self.clean()

    def clean(self) -> int:
        """Delete what is older or more than wanted; how many chapters it was."""
        doomed = self._too_old() if self._retention.seconds is not None else []
        for media_id in doomed:
            self._delete(media_id)
        num_deleted = len(doomed)
        while self._holds_too_much() and (finished := self._finished()):
            self._delete(finished[0][0])
            num_deleted += 1
        with self.index.transaction("delete messages that were delivered") as connection:
            connection.execute(
                "DELETE FROM outbox WHERE number <= (SELECT min(number) FROM deliveries) "
                "AND number < (SELECT max(number) FROM outbox) - ?",
                (_OUTBOX_ROWS,),
            )
        return num_deleted

    def _delete(self, media_id: str) -> None:
        with self.index.transaction(f"delete chapter {media_id}") as connection:
            forget_segments(connection, media_id)
            connection.execute(
                "DELETE FROM events WHERE is_over AND EXISTS (SELECT 1 FROM media m WHERE m.id = ? "
                "AND m.stream = events.stream AND m.time_base = events.time_base "
                "AND events.stop_ticks <= m.stop_ticks)",
                (media_id,),
            )
            connection.execute("DELETE FROM media WHERE id = ?", (media_id,))

    def _finished(self) -> list[tuple[str, float]]:
        """Chapters that are done, and when they ended, the oldest first."""
        rows = self.index.fetch(
            "SELECT m.id, m.stop_ticks, m.time_base, m.mtime_ns FROM media m "
            "WHERE m.status = 'done' AND m.stream IN (SELECT name FROM streams) "
            "AND m.stop_ticks IS NOT NULL"
        )
        # Files and text have times of their own: theirs are those at which they were begun.
        ended = [
            (media_id, at if at >= EPOCH_SECONDS else begun_ns / 1e9)
            for media_id, ticks, base, begun_ns in rows
            for at in [Pts(ticks, Fraction(base)).seconds]
        ]
        return sorted(ended, key=lambda row: row[1])

    def _too_old(self) -> list[str]:
        assert self._retention.seconds is not None
        before = self.now() - self._retention.seconds
        return [media_id for media_id, ended in self._finished() if ended < before]

    def _holds_too_much(self) -> bool:
        if self._retention.num_bytes is None:
            return False
        (pages,), (free,), (size,) = (
            self.index.fetch(f"PRAGMA {name}")[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return bool((pages - free) * size > self._retention.num_bytes)

    def messages(self, sink: str, limit: int) -> list[Message]:
        """Those that a sink has not taken, the oldest first; a new sink begins with now."""
        rows = self.index.fetch("SELECT number FROM deliveries WHERE sink = ?", sink)
        if not rows:
            (last,) = self.index.fetch("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")[0]
            self.delivered(sink, last)
            return []
        found = self.index.fetch(
            "SELECT number, id, topic, message FROM outbox WHERE number > ? ORDER BY number "
            "LIMIT ?",
            rows[0][0],
            limit,
        )
        return [Message(*row) for row in found]

    def keep_sinks(self, keys: Sequence[str]) -> None:
        """Forget sinks that are not among these: what waits for them waits for nobody."""
        places = ", ".join("?" * len(keys))
        with self.index.transaction("forget sinks that are gone") as connection:
            connection.execute(f"DELETE FROM deliveries WHERE sink NOT IN ({places})", (*keys,))

    def delivered(self, sink: str, number: int) -> None:
        """A sink has taken all up to there."""
        with self.index.transaction(f"note what {sink} has taken") as connection:
            connection.execute("INSERT OR REPLACE INTO deliveries VALUES (?, ?)", (sink, number))

    def close(self) -> None:
        """Let go of the file; may be called twice."""
        self.index.close()


class StreamPage:
    """The sink of one live stream; made by `LiveBook.page`, used by one thread.

    Args:
        book: Whose page it is.
        stream: Id.
        config_hash: Of all that outcomes depend on; a changed one begins a new chapter. What stands
            behind a space tells timelines apart.

    Raises:
        ConfigError: The stream has another timeline.
    """

    def __init__(self, book: LiveBook, stream: str, config_hash: str) -> None:
        self._book, self._stream, self._hash = book, stream, config_hash
        self._chapter: MediaSink | None = None
        self._next_refresh = book.now() + REFRESH_EVERY_SECONDS
        self._chapter_from, self._chapter_began = 0, book.now()
        self.position: Position | None = None
        """After the last item that is stored."""
        self.checkpoint: bytes | None = None
        """Of the session; `None` where the configuration is another one now."""
        self.events = EventState()
        rows = book.index.fetch(
            "SELECT media_id, config_hash, stop_ordinal, after_ticks, events FROM streams "
            "WHERE name = ?",
            stream,
        )
        if rows:
            media_id, stored_hash, stop, after, events = rows[0]
            if stored_hash.partition(" ")[2] != config_hash.partition(" ")[2]:
                raise ConfigError(
                    f"stream {stream} of {book.index.path} is another file or text, whose times "
                    "are its own; give this one another name"
                )
            self.position = Position(stop, after)
            self.events = _load_events(events, stream)
            if stored_hash == config_hash:
                self.checkpoint = book.index.checkpoint(media_id)
                self._go_on_with(media_id)
            self._finish_others()

    def _go_on_with(self, media_id: str) -> None:
        media = self._book.index.find(media_id)
        if media is not None and media.status == "running":
            self._chapter = self._book.index.begin(media, self._hash)
            rows = self._book.index.fetch(
                "SELECT pts FROM windows WHERE media_id = ? ORDER BY first LIMIT 1", media_id
            )
            if rows:
                self._chapter_from = int.from_bytes(rows[0][0][:8], "little", signed=True)

    def _finish_others(self) -> None:
        """Chapters that a killed process has left."""
        index = self._book.index
        current = self._chapter.media.id if self._chapter is not None else ""
        for (media_id,) in index.fetch(
            "SELECT id FROM media WHERE stream = ? AND status = 'running' AND id <> ?",
            self._stream,
            current,
        ):
            MediaSink(index, index.get(media_id)).finish("forward")

    def write(self, entry: Entry) -> None:
        """Store a window, the checkpoint that covers it, events and messages, or nothing.

        Raises:
            StoreError: The disk is full.
        """
        result, window, book = entry.result, entry.result.window, self._book
        before, chapter = self._chapter, self._chapter_for(result, entry.info)

        def also(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?, ?, ?)",
                (
                    self._stream, chapter.media.id, self._hash, window.stop, int(window.pts[-1]),
                    pickle.dumps(entry.events, protocol=5),
                ),
            )  # fmt: skip
            for change in entry.changes:
                _store_event(connection, change)
            messages = [
                *(("event", c.id, c.as_dict()) for c in entry.changes if "event" in book.topics),
                *(
                    ("outcome", o.id, outcome_dict(o))
                    for o in result.outcomes
                    if "outcome" in book.topics
                ),
            ]
            connection.executemany(
                "INSERT OR IGNORE INTO outbox (topic, id, message) VALUES (?, ?, ?)",
                ((topic, key, json.dumps(body)) for topic, key, body in messages),
            )

        chapter.write(result, entry.checkpoint, also)
        self._chapter = chapter
        self.position = Position(window.stop, int(window.pts[-1]))
        if before is not None and before is not chapter:
            before.finish("forward")
        if book.now() >= self._next_refresh:
            self.refresh()
        book.clean_now_and_then()

    def _chapter_for(self, result: WindowResult, info: SourceInfo) -> MediaSink:
        window = result.window
        start = int(window.pts[0])
        if self._chapter is not None:
            seconds = float((start - self._chapter_from) * window.time_base)
            if info.kind == "token":  # Its times are characters.
                seconds = self._book.now() - self._chapter_began
            if seconds < self._book.chapter_seconds:
                return self._chapter
        self._chapter_from, self._chapter_began = start, self._book.now()
        path = f"{self._stream}/{_clock_name(window.pts_at(0).seconds)}"
        begun_ns = int(self._book.now() * 1e9)
        media = replace(MediaRow(path, mtime_ns=begun_ns).described(info), stream=self._stream)
        return self._book.index.begin(media, self._hash)

    def refresh(self) -> None:
        """Let what is there be searched, though its chapter goes on."""
        self._next_refresh = self._book.now() + REFRESH_EVERY_SECONDS
        if self._chapter is not None:
            self._chapter.refresh("forward")

    def finish(self) -> None:
        """The stream has ended: its last chapter is done."""
        if self._chapter is not None:
            self._chapter.finish("forward")
            self._chapter = None


def _load_events(data: bytes, stream: str) -> EventState:
    try:
        return checkpoint.load_state(data, EventState)
    except StoreError as exc:
        raise StoreError(
            f"cannot go on with stream {stream}: {exc}; give the job a new index"
        ) from exc


def _store_event(connection: sqlite3.Connection, change: EventChange) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            change.event_id, change.stream, change.label, change.score,
            str(change.start.time_base), change.start.ticks, change.stop.ticks, change.best.ticks,
            change.phase == "end",
        ),
    )  # fmt: skip


def outcome_dict(outcome: Outcome) -> dict[str, Any]:
    """An outcome as a message; without its embedding."""
    return {
        "id": outcome.id,
        "stream": outcome.stream,
        "ordinal": outcome.ordinal,
        "seconds": outcome.pts.seconds,
        "ticks": outcome.pts.ticks,
        "recognizer": outcome.recognizer,
        "labels": list(outcome.labels),
        "scores": [round(score, 4) for score in outcome.scores],
        **({"text": outcome.text} if outcome.text else {}),
    }


def _clock_name(seconds: float) -> str:
    """A name that sorts by time; of a file, whose times are its own, by them."""
    if seconds < EPOCH_SECONDS:
        return f"{seconds:012.3f}s"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
