"""What live sources owe whoever watches them: see `Live` and `LiveText`."""

from __future__ import annotations

from typing import Protocol

from streamdyn.items import Block
from streamdyn.protocols import Cursor, Position
from streamdyn.sources.live.ingest import IngestStatus, Reconnect


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
