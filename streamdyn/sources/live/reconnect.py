"""A thread that receives a live source, and connects again when the connection breaks."""

from __future__ import annotations

import logging
import random
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from streamdyn.sources.live.spool import Spool
from streamdyn.sources.live.urls import redacted

logger = logging.getLogger(__name__)
State = Literal["connecting", "up", "waiting", "ended", "failed"]
Why = Literal["refused", "broken", "stalled", "ended", "no pictures"]
"""Why a connection is made again."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How long to wait before connecting again, and when a connection counts as broken.

    Args:
        first_seconds: Before the first try, doubled at each further one.
        longest_seconds: Between two tries.
        stall_seconds: Nothing came, or packets and no picture among them that decoding can begin
            with: connect again.
        stable_seconds: A connection that held so long begins the waits anew.
        jitter: Share of a wait that is drawn at random, so that cameras that went down together
            are not asked at once.
    """

    first_seconds: float = 1.0
    longest_seconds: float = 30.0
    stall_seconds: float = 10.0
    stable_seconds: float = 60.0
    jitter: float = 0.3

    def wait_seconds(self, num_failures: int, draw: float) -> float:
        """After so many failures in a row, at least one.

        Args:
            num_failures: Without a stable connection between them.
            draw: Random, in [0, 1).
        """
        wait = min(self.longest_seconds, self.first_seconds * 2.0 ** min(num_failures - 1, 30))
        return wait * (1 - self.jitter * draw)


@dataclass(slots=True)
class IngestStatus:
    """What is known of a connection; written by one thread, read by others."""

    state: State = "connecting"
    num_packets: int = 0
    num_bytes: int = 0
    num_refused: int = 0
    """Packets that the spool had no room for."""
    num_before_keyframe: int = 0
    """Packets that came before one that decoding can begin with."""
    num_lost_segments: int = 0
    """Of HLS, that could not be had."""
    reconnects: Counter[Why] = field(default_factory=Counter)
    last_error: str = ""
    last_packet_at: float | None = None
    """Seconds since the epoch."""
    connected_at: float | None = None
    """Likewise; `None` while it is not connected."""


class Receiving(threading.Thread, ABC):
    """A thread that receives, and connects again when a connection breaks.

    Args:
        name: To print.
        spool: Where to; it is told of the end.
        reconnect: When it breaks.
    """

    def __init__(self, name: str, spool: Spool, reconnect: Reconnect) -> None:
        super().__init__(name=f"ingest {name}", daemon=True)
        self._label, self._spool, self._reconnect = name, spool, reconnect
        self._is_over = threading.Event()
        self._random = random.Random()
        self._loop = False
        self.status = IngestStatus()

    def run(self) -> None:
        """Receive until told to stop, or until a file has ended."""
        num_failures = 0
        while not self._is_over.is_set():
            began = time.monotonic()
            try:
                reason, said = self._receive()
            except Exception as exc:  # It must go on whatever a library raises.
                logger.error("%s: unexpected error", self._label, exc_info=exc)
                reason, said = "broken", redacted(f"{type(exc).__name__}: {exc}")
            if reason is None and self._loop:
                continue
            if reason is None:
                break
            self.status.connected_at = None
            self.status.last_error = said or self.status.last_error
            if self._is_over.is_set():
                break
            held = time.monotonic() - began
            num_failures = 1 if held >= self._reconnect.stable_seconds else num_failures + 1
            wait = self._reconnect.wait_seconds(num_failures, self._random.random())
            logger.warning(
                "%s: %s%s; connecting again in %.1f s",
                self._label, reason, f" ({said})" if said else "", wait,
            )  # fmt: skip
            self.status.reconnects[reason] += 1
            self.status.state = "waiting"
            self._is_over.wait(wait)
        self.status.state = "ended"
        self._spool.end()

    @abstractmethod
    def _receive(self) -> tuple[Why | None, str]:
        """One connection; why it ended (`None`: for good), and what was said."""

    def hang_up(self) -> None:
        """End at the next packet; a read that hangs ends when it times out."""
        self._is_over.set()
