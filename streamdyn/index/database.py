"""The index file as a database: opened and checked, shared by threads, errors in plain words."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from streamdyn.errors import StoreError
from streamdyn.index.schema import SCHEMA_VERSION, check_is_ours, migrate

logger = logging.getLogger(__name__)

Mode = Literal["write", "read"]
_WAIT_SECONDS = 30


class Database:
    """One connection that several threads may share; use it in a `with` block or close it.

    `write` makes the file when it is missing. `read` never does; it still lets a search keep
    what it computed, where the file can be written.

    Raises:
        StoreError: The file is missing, damaged, another program's, or cannot be written.
        SchemaTooNew: A newer streamdyn wrote it.
    """

    def __init__(self, path: str | Path, *, mode: Mode = "write") -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._check_place(mode)
        self.writable = mode == "write" or all(map(_may_write, (self.path, self.path.parent)))
        with _explained(f"open the index {self.path}", "nothing was changed"):
            self._connection = self._connect(mode)
            try:
                self._prepare(mode)
            except BaseException:
                self._connection.close()
                raise

    def _check_place(self, mode: Mode) -> None:
        if not self.path.parent.is_dir():
            raise StoreError(
                f"cannot open the index {self.path}: the folder {self.path.parent} does not "
                "exist; make it first"
            )
        if self.path.is_dir():
            raise StoreError(
                f"cannot open the index {self.path}: it is a folder; name a file, such as "
                f"{self.path / 'index.db'}"
            )
        if mode == "read" and not self.path.exists():
            raise StoreError(
                f"no index at {self.path}; make one with streamdyn index PATH --into {self.path}"
            )

    def _connect(self, mode: Mode) -> sqlite3.Connection:
        if mode == "write":
            access = "mode=rwc"
        elif self.writable:
            access = "mode=rw"
        elif Path(f"{self.path}-wal").exists():
            access = "mode=ro"
        else:
            # In a folder where no lock file can be made, SQLite reads only on this promise.
            access = "immutable=1"
        return sqlite3.connect(
            f"{self.path.absolute().as_uri()}?{access}",
            uri=True,
            timeout=_WAIT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )

    def _prepare(self, mode: Mode) -> None:
        version = check_is_ours(self._connection, self.path)
        if mode == "read" and version == 0:
            raise StoreError(
                f"cannot read the index {self.path}: the file is empty; run streamdyn index PATH "
                f"--into {self.path} first"
            )
        self._connection.execute("PRAGMA foreign_keys = ON")
        if not self.writable:
            return
        (journal,) = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if journal != "wal":
            logger.warning("%s has no write-ahead log (%s): readers wait", self.path, journal)
        # Safe against a killed process; a power cut may cost the last commits, never the file.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        # What reading needs is the same in all versions, and an older streamdyn may be writing.
        if version < SCHEMA_VERSION and mode == "write":
            doing = f"bring the index {self.path} to version {SCHEMA_VERSION}"
            with self.transaction(doing) as connection:
                migrate(connection, self.path)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What the body reads is from one moment, whatever others write meanwhile."""
        self.fetch("BEGIN")
        try:
            yield
        finally:
            self.fetch("COMMIT")

    @contextmanager
    def transaction(
        self, doing: str, kept: str = "nothing was changed"
    ) -> Iterator[sqlite3.Connection]:
        """All that the body writes, or nothing; other threads and processes wait.

        Args:
            doing: For the error message: what cannot be done.
            kept: For the error message: what is safe.
        """
        with self._lock, _explained(doing, kept):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite ends the transaction itself when the disk is full.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def fetch(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """All rows that a SELECT answers."""
        with self._lock, _explained(f"read the index {self.path}", "nothing was changed"):
            return self._connection.execute(sql, parameters).fetchall()

    def close(self) -> None:
        """Let go of the file; may be called twice."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


@contextmanager
def _explained(doing: str, kept: str) -> Iterator[None]:
    """Turn an SQLite error of the body into a `StoreError`."""
    try:
        yield
    except sqlite3.Error as exc:
        why, remedy = _reason(exc)
        raise StoreError(f"cannot {doing}: {why} ({exc}); {kept}; {remedy}") from exc


def _reason(exc: sqlite3.Error) -> tuple[str, str]:
    """Why it failed and what to do."""
    name = getattr(exc, "sqlite_errorname", None) or ""
    if name == "SQLITE_FULL":
        return "the disk is full", "free some space and run the same command again: it goes on"
    if name.startswith("SQLITE_IOERR"):
        return (
            "the disk refused to read or write",
            "check the free space and the disk, then run the same command again: it goes on",
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return (
            f"another process has kept it locked for {_WAIT_SECONDS} seconds",
            "wait for that process or end it, then run the same command again",
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return (
            "the file or its folder cannot be written",
            "check the permissions, or put the index elsewhere",
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return (
            "the file is not an index or is damaged",
            "name another file; a damaged index has to be made again",
        )
    return "SQLite failed", "run streamdyn doctor to see whether SQLite has what is needed"
