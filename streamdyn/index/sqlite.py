"""`SqliteIndex`: one file that holds what was seen in many, and where to go on after a crash."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from streamdyn import __version__
from streamdyn.errors import SourceError
from streamdyn.index.database import Mode
from streamdyn.index.finish import forget_segments
from streamdyn.index.media_sink import MediaSink, finish_media, forget_windows
from streamdyn.index.reading import IndexReader, is_url
from streamdyn.index.records import MediaRow, media_values
from streamdyn.protocols import WHOLE_FILE, MediaRange
from streamdyn.registry import sink
from streamdyn.sources.remote import facts_of, is_remote
from streamdyn.timeline import Propagation, WindowResult

MediaState = Literal["new", "changed", "pending", "running", "failed", "done"]
_EDGE_BYTES = 1 << 16


def _now() -> datetime:
    return datetime.now(UTC)


class SqliteIndex(IndexReader):
    """An index in one SQLite file; threads may share it, processes may open it side by side.

    ```python
    with SqliteIndex("videos.db") as index:
        media = index.describe("clip.mp4")
        if not index.is_current(media, config_hash):
            sink = index.begin(media, config_hash)
            for result, checkpoint in run(resume_from=index.checkpoint(media.id)):
                sink.write(result, checkpoint)
            sink.finish()
    ```

    Args:
        path: The file.
        root: Folder that media paths are relative to; by default the one the index was made
            with, and for a new index the folder it lies in. It is kept relative to the index, so
            that both can move together; giving another one says that the media have moved.
        mode: `read` never makes the file.
        now: Gives the date of a run.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        root: str | Path | None = None,
        mode: Mode = "write",
        now: Callable[[], datetime] = _now,
    ) -> None:
        super().__init__(path, mode=mode)
        self._now = now
        try:
            self.root = self._settle_root(root, mode)
        except BaseException:
            self.close()
            raise

    def _settle_root(self, root: str | Path | None, mode: Mode) -> Path:
        home = self.path.parent.absolute()
        rows = self.fetch("SELECT value FROM meta WHERE key = 'root'")
        stored = rows[0][0] if rows else None
        given = None if root is None else Path(os.path.relpath(root, home)).as_posix()
        wanted = given or stored or "."
        if mode == "write" and wanted != stored:
            with self.transaction(f"write the root to {self.path}") as connection:
                connection.execute("INSERT OR REPLACE INTO meta VALUES ('root', ?)", (wanted,))
        return Path(os.path.normpath(home / wanted))

    def describe(self, location: str | Path) -> MediaRow:
        """A file as it is on disk or in its store now, unopened; another URL has only its name.

        Raises:
            SourceError: The file cannot be read, or its name cannot be stored.
        """
        if is_remote(str(location)):
            facts_there = facts_of(str(location))
            return MediaRow(str(location), facts_there.num_bytes, 0, facts_there.fingerprint)
        if is_url(str(location)):
            return MediaRow(path=str(location))
        path = Path(os.path.relpath(location, self.root)).as_posix()
        try:
            path.encode()
            facts = Path(location).stat()
            fingerprint = fingerprint_of(Path(location), facts.st_size)
        except UnicodeEncodeError as exc:
            raise SourceError(
                f"cannot index {path!r}: its name is not valid UTF-8; rename the file"
            ) from exc
        except OSError as exc:
            raise SourceError(
                f"cannot index {location}: {exc.strerror or exc}; check the path and whether the "
                "file may be read"
            ) from exc
        return MediaRow(path, facts.st_size, facts.st_mtime_ns, fingerprint)

    def state(self, media: MediaRow, config_hash: str) -> MediaState:
        """What the index has of a file as described now, under this configuration."""
        stored = self.find(media.id)
        if stored is None:
            return "new"
        if _identity(stored) != _identity(replace(media, config_hash=config_hash)):
            return "changed"
        return stored.status

    def is_current(self, media: MediaRow, config_hash: str) -> bool:
        """Whether the file was indexed as it is now, under this configuration."""
        return self.state(media, config_hash) == "done"

    def register(self, media: MediaRow, config_hash: str) -> None:
        """Note that a file will be indexed, if it is new or changed; else all stays as it is."""
        with self.transaction(f"register {media.path} in {self.path}") as connection:
            if self.state(media, config_hash) in ("new", "changed"):
                self._place(connection, media, config_hash, status="pending")

    def begin(
        self, media: MediaRow, config_hash: str, media_range: MediaRange = WHOLE_FILE
    ) -> MediaSink:
        """The sink of a file, or of a range of it.

        What an unfinished run left is kept up to its checkpoint and dropped after it; go on from
        `checkpoint(media.id)`. Where the file or the configuration changed, or the file was done,
        its rows are deleted.

        Args:
            media: From `describe`, better still `describe(...).described(cursor.info)`.
            config_hash: Hash of all that the outcomes depend on.
            media_range: One of those that `split` was given.
        """
        with self.transaction(f"begin {media.path} in {self.path}") as connection:
            placed = self._place(
                connection, media, config_hash, status="running", media_range=media_range
            )
        return MediaSink(self, placed, media_range)

    def split(self, media_id: str, ranges: Sequence[MediaRange]) -> None:
        """A registered file will be watched in ranges; end it with `finish` of this class.

        What a run over the whole file left unfinished is dropped.
        """
        with self.transaction(f"split {media_id} in {self.path}") as connection:
            forget_windows(connection, media_id, 0, WHOLE_FILE.stop)
            connection.execute("DELETE FROM checkpoints WHERE media_id = ?", (media_id,))
            connection.executemany(
                "INSERT INTO ranges VALUES (?, ?, ?, ?, ?, 0)",
                [(media_id, r.first, r.stop, r.after_ticks, json.dumps(r.hint)) for r in ranges],
            )

    def finish(self, media_id: str, propagation: Propagation) -> None:
        """All ranges of a file are done, and so the file is; see `MediaSink.finish`."""
        media = self.get(media_id)
        with self.transaction(f"finish {media.path} in {self.path}") as connection:
            finish_media(connection, media, propagation)

    def fail(self, media_id: str, error: str) -> None:
        """Mark a file as failed; what was written, and its checkpoints, stay."""
        MediaSink(self, self.get(media_id)).fail(error)

    def _place(
        self,
        connection: sqlite3.Connection,
        media: MediaRow,
        config_hash: str,
        status: Literal["pending", "running"],
        media_range: MediaRange = WHOLE_FILE,
    ) -> MediaRow:
        state = self.state(media, config_hash)
        placed = replace(media, config_hash=config_hash, status=status, error="")
        if state in ("changed", "done"):
            _delete(connection, media.id)
        elif state != "new":
            first = media_range.first
            stop = connection.execute(
                "SELECT coalesce(max(stop_ordinal), ?) FROM checkpoints "
                "WHERE media_id = ? AND first = ?",
                (first, media.id, first),
            ).fetchone()[0]
            forget_windows(connection, media.id, stop, media_range.stop)
            connection.execute(
                "UPDATE ranges SET is_done = 0 WHERE media_id = ? AND first = ?", (media.id, first)
            )
            if stop > first or media_range != WHOLE_FILE:
                stored = self.get(media.id)
                time_base = placed.time_base or stored.time_base
                placed = replace(placed, stream=stored.stream, time_base=time_base)
        values = media_values(placed)
        names = ", ".join(values)
        assignments = ", ".join(f"{name} = excluded.{name}" for name in values)
        connection.execute(
            f"INSERT INTO media (id, {names}) VALUES (?, {', '.join('?' * len(values))}) "
            f"ON CONFLICT (id) DO UPDATE SET {assignments}",
            (media.id, *values.values()),
        )
        return placed

    def remove(self, media_id: str) -> None:
        """Forget a file and all that is known of it."""
        with self.transaction(f"remove {media_id} from {self.path}") as connection:
            _delete(connection, media_id)

    def tuning(self, config_hash: str) -> tuple[int, bytes | None]:
        """How many audits have tuned the policy of a configuration, and where it stands."""
        rows = self.fetch("SELECT num_audits, state FROM tuning WHERE config_hash = ?", config_hash)
        return rows[0] if rows else (0, None)

    def start_run(self, command: str, config: Mapping[str, Any]) -> int:
        """Note a call of `streamdyn index`; answers its number."""
        with self.transaction(f"note a run in {self.path}") as connection:
            cursor = connection.execute(
                "INSERT INTO runs (started_at, command, config, version) VALUES (?, ?, ?, ?)",
                (self._now().isoformat(), command, json.dumps(config, default=str), __version__),
            )
        return int(cursor.lastrowid or 0)


def _delete(connection: sqlite3.Connection, media_id: str) -> None:
    forget_segments(connection, media_id)
    connection.execute("DELETE FROM media WHERE id = ?", (media_id,))


def _identity(media: MediaRow) -> tuple[int, int, str, str]:
    return media.bytes, media.mtime_ns, media.fingerprint, media.config_hash


def fingerprint_of(path: Path, num_bytes: int) -> str:
    """Of a file's size and both its ends; 20 hexadecimal digits."""
    digest = hashlib.sha256(str(num_bytes).encode())
    with path.open("rb") as file:
        digest.update(file.read(_EDGE_BYTES))
        file.seek(max(0, num_bytes - _EDGE_BYTES))
        digest.update(file.read(_EDGE_BYTES))
    return digest.hexdigest()[:20]


@sink("sqlite")
class SqliteSink:
    """An index as a sink for any streams: each becomes a media row named after the stream.

    For live streams and for programs that have no files to describe. After a crash, open it
    again and go on from `checkpoint(stream)`.

    Args:
        path: The index file, made when missing.
        config_hash: Hash of all that the outcomes depend on.
    """

    def __init__(self, path: str | Path, *, config_hash: str = "") -> None:
        self._index = SqliteIndex(path)
        self._config_hash = config_hash
        self._sinks: dict[str, MediaSink] = {}

    def checkpoint(self, stream: str) -> bytes | None:
        """Where to go on with a stream."""
        return self._index.checkpoint(MediaRow(stream).id)

    def write(self, result: WindowResult, checkpoint: bytes | None) -> None:
        """Store the results of a window and the checkpoint that covers them, or neither."""
        stream = result.window.stream
        if stream not in self._sinks:
            self._sinks[stream] = self._index.begin(MediaRow(stream), self._config_hash)
        self._sinks[stream].write(result, checkpoint)

    def finish(self, propagation: Propagation = "two-sided") -> None:
        """The streams written to have ended: make their segments, so that they can be searched."""
        for media_sink in self._sinks.values():
            media_sink.finish(propagation)

    def close(self) -> None:
        """Let go of the file; a stream that was not finished can be gone on with."""
        self._index.close()
