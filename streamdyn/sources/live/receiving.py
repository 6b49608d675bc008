"""What live sources owe whoever watches them: see `Live` and `LiveText`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Protocol

from streamdyn.items import Block
from streamdyn.protocols import Cursor, Position
from streamdyn.sources.live.reconnect import IngestStatus, Receiving, Reconnect
from streamdyn.sources.live.spool import Spool


class LiveCursor(Cursor, Protocol):
    """A cursor over what is received; waits for what comes."""

    def drain(self) -> None:
        """Hand out what is here and then nothing more; may be called by any thread."""

    def latency_seconds(self, window: Block) -> float | None:
        """Since the first item of a window came; `None` where that is not known any more."""


class LiveReceiver(Protocol):
    """A stream that comes in, whoever watches it; cursors may follow one another."""

    status: IngestStatus

    @property
    def waiting_seconds(self) -> float:
        """Of media that has come and is not done."""

    def open(self, resume_from: Position | None) -> LiveCursor:
        """A cursor after the last closed item of an earlier one."""

    def done(self, ticks: int) -> None:
        """All up to there is committed."""

    def connect_again(self) -> None:
        """What comes is of no use: hang up at the next packet and connect anew."""

    def hang_up(self) -> None:
        """Receive nothing more; what has come is there."""

    def close(self) -> None:
        """Hang up and let go of the spool."""


class LiveSource(Protocol):
    """A live stream."""

    stream: str
    name: str
    """To print: no credentials."""
    is_hurried: bool
    """It does not wait for whoever watches it."""
    reconnect: Reconnect

    def receive(self, resume_from: Position | None = None) -> LiveReceiver:
        """Begin to receive, after the last closed item of an earlier run."""


class SpoolReceiver:
    """What receivers share: a spool, and a thread that fills it.

    Args:
        folder: Of the spool; a temporary one when not given.
        resume_from: Where an earlier run stood.
        max_bytes: Of the spool.
        may_wait: See `Spool`.

    Raises:
        StoreError: The folder cannot be used.
    """

    status: IngestStatus

    def __init__(
        self, folder: Path | None, resume_from: Position | None, *, max_bytes: int, may_wait: bool
    ) -> None:
        self._is_temporary = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="streamdyn-spool-"))
        self.spool = Spool(self._folder, max_bytes=max_bytes, may_wait=may_wait)
        if resume_from is not None and resume_from.after_ticks is not None:
            self.spool.done(resume_from.after_ticks)

    def _start(self, ingest: Receiving) -> None:
        self._thread, self.status = ingest, ingest.status
        ingest.start()

    def done(self, ticks: int) -> None:
        """All up to there is committed."""
        self.spool.done(ticks)

    def hang_up(self) -> None:
        """Receive nothing more; what has come is there."""
        self._thread.hang_up()

    def close(self) -> None:
        """Hang up; what is in the spool stays there, unless it has no folder of its own."""
        self.hang_up()
        self.spool.close()
        if self._is_temporary:
            shutil.rmtree(self._folder, ignore_errors=True)
