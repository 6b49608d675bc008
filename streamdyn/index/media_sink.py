"""The sink of one media file: a window and the checkpoint that covers it commit together."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from streamdyn.errors import StoreError
from streamdyn.index.database import Database
from streamdyn.index.finish import forget_segments, store_segments
from streamdyn.index.records import (
    AUDIT_COLUMNS,
    OUTCOME_COLUMNS,
    WINDOW_COLUMNS,
    MediaRow,
    media_values,
    outcome_values,
    receipt_json,
    window_values,
)
from streamdyn.protocols import WHOLE_FILE, MediaRange
from streamdyn.timeline import Propagation, WindowResult


class MediaSink:
    """Takes the windows of one file or range; made by `SqliteIndex.begin`, used by one thread.

    End it with `finish` or `fail`; without either the file stays `running` and a later run goes
    on after the last checkpoint. Where it is of a range, `finish` only notes that the range is
    done; see `SqliteIndex.finish`.
    """

    def __init__(
        self, database: Database, media: MediaRow, media_range: MediaRange = WHOLE_FILE
    ) -> None:
        self.media = media
        """As in the index; stream and time base are known from the first window on."""
        self._database = database
        self._range = media_range

    def write(
        self,
        result: WindowResult,
        checkpoint: bytes | None,
        also: Callable[[sqlite3.Connection], None] = lambda connection: None,
    ) -> None:
        """Store a window and the checkpoint that covers it, or neither.

        A window that is there already is replaced, so writing twice changes nothing.

        Args:
            result: The window.
            checkpoint: To go on after it.
            also: Writes more in the same transaction.

        Raises:
            StoreError: The disk is full, or the window does not belong to this file.
        """
        self._check(result)
        window = result.window
        doing = f"write items {window.first}..{window.stop} of {self.media.path}"
        kept = f"everything before item {window.first} is kept"
        media = replace(self.media, stream=window.stream, time_base=window.time_base)
        with self._database.transaction(f"{doing} to {self._database.path}", kept) as connection:
            forget_windows(connection, media.id, window.first, window.stop)
            if media != self.media:
                _update(connection, media)
            _insert_window(connection, media, result)
            if checkpoint is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?)",
                    (media.id, self._range.first, window.stop, checkpoint),
                )
            also(connection)
        self.media = media

    def _check(self, result: WindowResult) -> None:
        window, media = result.window, self.media
        if media.stream and media.stream != window.stream:
            raise StoreError(
                f"cannot write a window of stream {window.stream!r} to {media.path}: its earlier "
                f"windows are of stream {media.stream!r}; use one sink a stream"
            )
        if media.time_base and media.time_base != window.time_base:
            raise StoreError(
                f"cannot write a window with time base {window.time_base} to {media.path}: the "
                f"source announced {media.time_base}; a source must keep to one time base"
            )
        strays = [o.ordinal for o in result.outcomes if not window.first <= o.ordinal < window.stop]
        if strays:
            raise StoreError(
                f"cannot write items {window.first}..{window.stop} of {media.path}: the window "
                f"has outcomes of items {strays[:5]}; hand each outcome over with its own window"
            )

    def finish(self, propagation: Propagation = "two-sided", tuning: bytes | None = None) -> None:
        """Make the segments and the words to search for, drop the checkpoint, mark it done.

        Args:
            propagation: Which neighbours stand in for skipped items.
            tuning: Where the next file's policy should start, see `SqliteIndex.tuning`.
        """
        doing = f"finish {self.media.path} in {self._database.path}"
        with self._database.transaction(doing, "its outcomes are kept") as connection:
            if self._range == WHOLE_FILE:
                self.media = finish_media(connection, self.media, propagation)
            else:
                connection.execute(
                    "UPDATE ranges SET is_done = 1 WHERE media_id = ? AND first = ?",
                    (self.media.id, self._range.first),
                )
            connection.execute(
                "DELETE FROM checkpoints WHERE media_id = ? AND first = ?",
                (self.media.id, self._range.first),
            )
            if tuning is not None:
                connection.execute(
                    "INSERT INTO tuning SELECT ?, count(*), ? FROM audits WHERE media_id = ? "
                    "AND ordinal >= ? AND ordinal < ? "
                    "ON CONFLICT (config_hash) DO UPDATE SET state = excluded.state, "
                    "num_audits = num_audits + excluded.num_audits",
                    (
                        self.media.config_hash, tuning, self.media.id, self._range.first,
                        self._range.stop,
                    ),
                )  # fmt: skip

    def refresh(self, propagation: Propagation = "two-sided") -> None:
        """Make the segments of what is there so far, so that it can be searched."""
        doing = f"refresh {self.media.path} in {self._database.path}"
        with self._database.transaction(doing, "its outcomes are kept") as connection:
            forget_segments(connection, self.media.id)
            so_far = store_segments(connection, self.media, propagation)
            # How long it is shows when it is finished.
            known = replace(so_far, duration_seconds=self.media.duration_seconds)
            _update(connection, replace(known, status=self.media.status))

    def fail(self, error: str) -> None:
        """Mark the file failed; what was written, and its checkpoint, stay."""
        media = replace(self.media, status="failed", error=error)
        doing = f"mark {media.path} as failed in {self._database.path}"
        with self._database.transaction(doing, "its outcomes are kept") as connection:
            _update(connection, media)
        self.media = media

    def close(self) -> None:
        """Nothing is held back: every write was committed. The index itself stays open."""


def finish_media(
    connection: sqlite3.Connection, media: MediaRow, propagation: Propagation
) -> MediaRow:
    """Make the segments and the words of a file whose windows are all there, and mark it done."""
    forget_segments(connection, media.id)
    done = store_segments(connection, media, propagation)
    _update(connection, done)
    return done


def forget_windows(connection: sqlite3.Connection, media_id: str, start: int, stop: int) -> None:
    """Delete the windows that overlap items `start` to `stop` and all that came with them."""
    windows = connection.execute(
        "SELECT first, first + num_items FROM windows "
        "WHERE media_id = ? AND first < ? AND first + num_items > ?",
        (media_id, stop, start),
    ).fetchall()
    for first, end in windows:
        for table in ("outcomes", "errors"):
            connection.execute(
                f"DELETE FROM {table} WHERE media_id = ? AND ordinal >= ? AND ordinal < ?",
                (media_id, first, end),
            )
        for table in ("audits", "receipts"):
            connection.execute(
                f"DELETE FROM {table} WHERE media_id = ? AND window_first = ?", (media_id, first)
            )
        connection.execute(
            "DELETE FROM windows WHERE media_id = ? AND first = ?", (media_id, first)
        )


def _insert_window(connection: sqlite3.Connection, media: MediaRow, result: WindowResult) -> None:
    first = result.window.first
    _insert(connection, "windows", WINDOW_COLUMNS, media.id, [window_values(result)])
    try:
        outcomes = map(outcome_values, result.outcomes)
        _insert(connection, "outcomes", OUTCOME_COLUMNS, media.id, outcomes)
    except sqlite3.IntegrityError as exc:
        raise StoreError(
            f"cannot write outcomes of {media.path}: the index has outcomes with the same ids, so "
            f"another file calls its stream {media.stream!r} too; give each file a stream id of "
            "its own, such as its path"
        ) from exc
    connection.executemany(
        f"INSERT OR REPLACE INTO audits VALUES (?, {', '.join('?' * len(AUDIT_COLUMNS))}, ?)",
        ((media.id, *(getattr(a, name) for name in AUDIT_COLUMNS), first) for a in result.audits),
    )
    connection.executemany(
        "INSERT OR REPLACE INTO errors VALUES (?, ?, ?, ?)",
        ((media.id, e.ordinal, e.pts.ticks, e.reason) for e in result.errors),
    )
    receipts = (("plan", result.receipt), ("audit", result.audit_receipt))
    connection.executemany(
        "INSERT INTO receipts VALUES (?, ?, ?, ?)",
        ((media.id, first, kind, receipt_json(receipt)) for kind, receipt in receipts),
    )


def _insert(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[str],
    media_id: str,
    rows: Iterable[tuple[Any, ...]],
) -> None:
    places = ", ".join("?" * (len(columns) + 1))
    connection.executemany(
        f"INSERT INTO {table} (media_id, {', '.join(columns)}) VALUES ({places})",
        ((media_id, *row) for row in rows),
    )


def _update(connection: sqlite3.Connection, media: MediaRow) -> None:
    values = media_values(media)
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    connection.execute(f"UPDATE media SET {assignments} WHERE id = :id", {**values, "id": media.id})
