"""Takes messages from the index to one sink, in order, however often the sink fails."""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from streamdyn.errors import StreamdynError
from streamdyn.index.live_book import LiveBook, Message
from streamdyn.sources.live import redacted

logger = logging.getLogger(__name__)
BATCH = 200
POLL_SECONDS = 0.2


class DeliveryError(StreamdynError):
    """A sink did not take a message; it is offered again."""


class Outlet(Protocol):
    """A sink of messages. A message may be offered twice: it must not appear twice."""

    name: str
    """To print: no credentials."""
    key: str
    """Tells it from all others; stays the same from run to run."""
    topics: frozenset[str]

    def send(self, messages: Sequence[Message]) -> int:
        """Take messages in order; how many of them were taken, 0 where it is too early.

        Raises:
            DeliveryError: It took none.
        """

    def close(self) -> None:
        """Flush; may be called twice."""


@dataclass(slots=True)
class CourierStatus:
    """How a sink fares."""

    name: str
    num_sent: int = 0
    num_failures: int = 0
    last_error: str = ""
    is_failing: bool = False


class Courier(threading.Thread):
    """The thread that serves one sink.

    Args:
        book: Has the messages.
        outlet: Takes them.
        longest_wait_seconds: Between two tries.
    """

    def __init__(
        self, book: LiveBook, outlet: Outlet, *, longest_wait_seconds: float = 30.0
    ) -> None:
        super().__init__(name=f"courier {outlet.name}", daemon=True)
        self.book, self.outlet = book, outlet
        self._longest_wait_seconds = longest_wait_seconds
        self._is_over = threading.Event()
        self._until = 0.0  # Of tries after the stop.
        self.status = CourierStatus(outlet.name)
        book.messages(outlet.key, 0)  # A new sink begins with what comes from now on.

    def run(self) -> None:
        """Deliver until told to stop, then what is left."""
        num_failures = 0
        while True:
            try:
                num_sent = self.deliver()
            except Exception as exc:  # It must go on whatever a library raises.
                num_failures += 1
                is_ours = isinstance(exc, StreamdynError)
                self._note(str(exc) if is_ours else redacted(f"{type(exc).__name__}: {exc}"))
                if self._is_over.is_set() and time.monotonic() > self._until:
                    break
                wait = min(self._longest_wait_seconds, 0.5 * 2.0 ** min(num_failures, 20))
                self._pause(wait * random.uniform(0.7, 1.0))
                continue
            num_failures, self.status.is_failing = 0, False
            if num_sent == 0:
                if self._is_over.is_set():
                    break
                self._is_over.wait(POLL_SECONDS)
        self.outlet.close()

    def _pause(self, seconds: float) -> None:
        """Before the next try; a short one once it was told to stop."""
        if self._is_over.wait(seconds):
            time.sleep(POLL_SECONDS)

    def deliver(self) -> int:
        """One batch; how many messages it was, those that the sink does not want included."""
        messages = self.book.messages(self.outlet.key, BATCH)
        wanted = [m for m in messages if m.topic in self.outlet.topics]
        if not messages:
            return 0
        taken = self.outlet.send(wanted) if wanted else 0
        if wanted and not taken:
            return 0
        self.status.num_sent += taken
        last = messages[-1] if taken == len(wanted) else wanted[taken - 1]
        self.book.delivered(self.outlet.key, last.number)
        return len(messages)

    def _note(self, said: str) -> None:
        status = self.status
        if not status.is_failing:
            logger.warning("%s: %s; messages wait", self.outlet.name, said)
        status.is_failing = True
        status.num_failures += 1
        status.last_error = said

    def stop(self, seconds: float = 10.0) -> None:
        """Deliver what is left, for about so long at most; the rest waits for the next run."""
        self._until = time.monotonic() + seconds
        self._is_over.set()
        if self.ident is None:  # It was not begun.
            self.outlet.close()
        else:
            self.join(2 * seconds)


def key_of(name: str, secret: str, topics: frozenset[str]) -> str:
    """Of a sink: its name and a hash of what the name does not say.

    Args:
        name: To print.
        secret: Address with credentials.
        topics: That it is sent.
    """
    text = " ".join([secret, *sorted(topics)])
    return f"{name}#{hashlib.sha256(text.encode()).hexdigest()[:8]}"
