"""The writer of a stream job on Ray, at both its ends.

```
stream actor ─┐
stream actor ─┼─▶ LiveWriter (where the driver is) ─▶ LiveBook
stream actor ─┘     answers when the window is stored
```

Every call may come twice, since Ray repeats it when the writer was killed, and changes nothing
then. An actor that was given up and lives on, behind a network that was cut, writes nothing more:
its term is over once the next one has asked for the page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from streamdyn.claims import claim
from streamdyn.errors import ConfigError
from streamdyn.events import EventState
from streamdyn.index.live_book import Entry, LiveBook, StreamPage
from streamdyn.protocols import Position
from streamdyn.run.ray_actor import ActorFacts, get

CLAIM_SECONDS = 60.0
"""For the writer of a driver that was killed to end."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How a page stands when it is opened."""

    position: Position | None
    checkpoint: bytes | None
    events: EventState


class LiveWriter:
    """Writes what stream actors see; killed, it starts again and goes on.

    Args:
        open_book: Opens the index.
        state: Folder of the job; one writer has it at a time.
    """

    def __init__(self, open_book: Callable[[], LiveBook], state: Path) -> None:
        self._open_book, self._state = open_book, state
        self._opened: tuple[LiveBook, TextIO] | None = None
        self._pages: dict[str, StreamPage] = {}
        self._terms: dict[str, int] = {}

    def _book(self) -> LiveBook:
        """Opened when it is asked for: an actor that fails while it is made is not made again."""
        if self._opened is None:
            lock = claim(self._state, "writer.lock", wait_seconds=CLAIM_SECONDS)
            try:
                self._opened = self._open_book(), lock
            except BaseException:
                lock.close()
                raise
        return self._opened[0]

    def facts(self) -> ActorFacts:
        """What it is and where, once the index is open."""
        self._book()
        return ActorFacts.here()

    def open(self, stream: str, config_hash: str, term: int) -> Opening:
        """Take up a stream; what an actor of an earlier term sends is refused from now on."""
        self._check(stream, term)
        page = self._pages[stream] = self._book().page(stream, config_hash)
        return Opening(page.position, page.checkpoint, page.events)

    def write(self, stream: str, config_hash: str, term: int, entry: Entry) -> None:
        """Store a window; see `StreamPage.write`."""
        self._page(stream, config_hash, term).write(entry)

    def refresh(self, stream: str, config_hash: str, term: int) -> None:
        """See `StreamPage.refresh`."""
        self._page(stream, config_hash, term).refresh()

    def finish(self, stream: str, config_hash: str, term: int) -> None:
        """See `StreamPage.finish`."""
        self._page(stream, config_hash, term).finish()

    def close(self) -> None:
        """Let go of the index; a writer that is killed need not."""
        if self._opened is not None:
            for one in self._opened:
                one.close()
            self._opened = None

    def _page(self, stream: str, config_hash: str, term: int) -> StreamPage:
        """After a restart the page is opened again, at its last window."""
        self._check(stream, term)
        if stream not in self._pages:
            self._pages[stream] = self._book().page(stream, config_hash)
        return self._pages[stream]

    def _check(self, stream: str, term: int) -> None:
        if term < self._terms.get(stream, 0):
            raise ConfigError(f"stream {stream} is watched by another actor now; this one is over")
        self._terms[stream] = term


@dataclass(frozen=True, slots=True)
class RemotePages:
    """The writer, as a stream actor sees it."""

    writer: Any
    """Handle of a `LiveWriter`."""
    term: int
    """Of the actor: later ones of a stream have greater numbers."""

    def page(self, stream: str, config_hash: str) -> RemotePage:
        """Of one stream."""
        opening: Opening = get(self.writer.open.remote(stream, config_hash, self.term))
        return RemotePage(self.writer, (stream, config_hash, self.term), opening)


class RemotePage:
    """A stream of the writer's book; what it has answered is stored.

    Args:
        writer: Handle of a `LiveWriter`.
        key: Stream, hash of its configuration, and term.
        opening: How it stands.
    """

    def __init__(self, writer: Any, key: tuple[str, str, int], opening: Opening) -> None:
        self._writer, self._key = writer, key
        self.position, self.checkpoint = opening.position, opening.checkpoint
        self.events = opening.events

    def write(self, entry: Entry) -> None:
        """Store a window with all that belongs to it, or nothing.

        Raises:
            StoreError: The disk is full.
            ConfigError: Another actor watches the stream now.
        """
        get(self._writer.write.remote(*self._key, entry))
        window = entry.result.window
        self.position = Position(window.stop, int(window.pts[-1]))

    def refresh(self) -> None:
        """Let what is there be searched."""
        get(self._writer.refresh.remote(*self._key))

    def finish(self) -> None:
        """The stream has ended."""
        get(self._writer.finish.remote(*self._key))
