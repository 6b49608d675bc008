"""Keeps a live source coming in: connects, stores its packets, connects again when it breaks."""

from __future__ import annotations

import logging
import random
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

from streamdyn.errors import SourceError
from streamdyn.sources.live.connection import Arrival, Connection
from streamdyn.sources.live.hls import StalledError
from streamdyn.sources.live.packets import TICKS_PER_SECOND, LivePacket, Section
from streamdyn.sources.live.spool import Spool
from streamdyn.sources.live.timekeeper import Timekeeper
from streamdyn.sources.live.urls import Address, redacted

logger = logging.getLogger(__name__)
State = Literal["connecting", "up", "waiting", "ended", "failed"]
Why = Literal["refused", "broken", "stalled", "ended", "no pictures"]
"""Why a connection is made again."""
EDGE_SECONDS = 0.015
"""A picture that took longer to come than this had not come before it was asked for."""
MAX_HELD = 2000
"""Pictures that are held to find out what time it is."""
HELD_BYTES = 32 << 20
"""Of packets that wait in memory for room on the disk."""
VAIN_CONNECTIONS = 5
"""In a row that brought nothing new; after them a segment that cannot be had is left out."""


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


class Ingest(Receiving):
    """The thread that receives video.

    Args:
        address: Where from.
        spool: Where to.
        timekeeper: Of the stream.
        reconnect: When it breaks.
        pace: `real`: no faster than it was filmed; `fast`: as it comes.
        loop: A file begins again at its end.
        refuse_after_seconds: Packets are refused while more than so much waits to be committed.
    """

    def __init__(
        self,
        address: Address,
        spool: Spool,
        timekeeper: Timekeeper,
        *,
        reconnect: Reconnect = Reconnect(),
        pace: Literal["real", "fast"] = "fast",
        loop: bool = False,
        refuse_after_seconds: float | None = None,
    ) -> None:
        super().__init__(address.name, spool, reconnect)
        self._address, self._timekeeper = address, timekeeper
        self._pace, self._loop = pace, loop
        self._refuse_after_seconds = refuse_after_seconds
        self._again = threading.Event()
        self._waiting_since: float | None = None  # For a keyframe; `None` in a section.
        self._num_vain = 0
        self._held: deque[LivePacket] = deque()  # In memory, while the disk is full.
        self._held_bytes = 0
        self._edge: tuple[float, int] | None = None  # Clock, and pts of what came then.
        self._has_jumped = False
        self._is_refusing = False  # The wait is of our making.
        self._pace_from: tuple[float, int] | None = None  # Of the pace.

    @property
    def comes_again(self) -> bool:
        """After a reconnect the source gives the same pictures at the same times: a file, HLS."""
        return self._timekeeper.is_repeatable and not self._loop

    def _receive(self) -> tuple[Why | None, str]:
        """One connection; why it ended (`None`: for good), and what was said."""
        self.status.state = "connecting"
        self._again.clear()
        may_skip = self._num_vain >= VAIN_CONNECTIONS
        self._num_vain += 1
        try:
            connection = Connection(self._address, self._reconnect.stall_seconds, may_skip=may_skip)
        except SourceError as exc:
            self._num_vain -= 1
            return "refused", str(exc)
        with closing(connection):
            self.status.connected_at = time.time()
            try:
                return self._store(connection)
            except StalledError as exc:
                return "stalled", str(exc)
            except SourceError as exc:
                return "broken", str(exc)

    def _store(self, connection: Connection) -> tuple[Why | None, str]:
        seen = self._spool.last_dts if self.comes_again else None
        self._waiting_since = time.monotonic()
        for packet in self._unseen(self._packets(connection), seen):
            if self._is_over.is_set():
                return None, ""
            if self._again.is_set():
                return "no pictures", "packets came, and none of them could be decoded"
            self._keep_pace(packet.ticks if packet.dts is None else packet.dts)
            if not self._keep(packet) and self._waiting_since is None:
                self._waiting_since = time.monotonic()
        if not connection.has_end:
            return "ended", "the source closed the connection"
        return None, ""

    def _packets(self, connection: Connection) -> Iterator[LivePacket]:
        """From a keyframe on; a section begins there, and where the source's times jump."""
        for arrival in self._from_the_edge(connection.pictures()):
            if self._waiting_since is None and self._timekeeper.is_jump(arrival.dts):
                self._waiting_since, self._has_jumped = time.monotonic(), True
            if self._waiting_since is not None:
                if not arrival.coded.keyframe:
                    self._wait_for_keyframe(self._waiting_since)
                    continue
                self._waiting_since = None
                self._begin_section(connection, arrival)
            yield self._packet(arrival)

    def _from_the_edge(self, pictures: Iterator[Arrival]) -> Iterator[Arrival]:
        """All of them; what had to wait while the connection was made tells when it was shown.

        Opening takes seconds, and what came meanwhile is read in one go: the first picture that
        has to be waited for is of now.
        """
        if self._address.is_file:  # Its times are its own.
            yield from pictures
            return
        held: list[Arrival] = []
        failure: SourceError | None = None
        before = time.monotonic()
        try:
            for arrival in pictures:
                now = time.monotonic()
                is_of_now = bool(held) and now - before > EDGE_SECONDS
                before = now
                held.append(arrival)
                if is_of_now or len(held) >= MAX_HELD:
                    break
        except SourceError as exc:  # What came before is there.
            failure = exc
        if held:
            self._edge = time.time(), held[-1].pts
        yield from held
        self._edge = None
        if failure is not None:
            raise failure
        yield from pictures

    def _wait_for_keyframe(self, since: float) -> None:
        if self._is_refusing:
            self.status.num_packets += 1
            self.status.num_refused += 1
        else:
            self.status.num_before_keyframe += 1
        if time.monotonic() - since > self._reconnect.stall_seconds:
            raise StalledError(
                f"{self._address.name} sent packets, and none that decoding can begin with"
            )

    def _begin_section(self, connection: Connection, arrival: Arrival) -> None:
        self.status.state = "up"
        if not self._append_held():  # They are of the section before.
            self.status.num_refused += len(self._held)
            self._held.clear()
            self._held_bytes = 0
        loops = self._loop and self._timekeeper.last is not None
        shown_at = connection.filmed_at(arrival.pts, has_jumped=self._has_jumped)
        if shown_at is not None:
            self._has_jumped |= self._timekeeper.is_elsewhere(arrival.pts, shown_at)
        elif self._edge is not None:
            shown_at = self._edge[0] - (self._edge[1] - arrival.pts) / TICKS_PER_SECOND
        anchor = self._timekeeper.begin(
            arrival.pts, shown_at=shown_at, loops=loops, jumped=self._has_jumped
        )
        self._has_jumped = False
        last_dts = self._spool.last_dts
        number = 1 if self._spool.section is None else self._spool.section.number + 1
        self._spool.begin(
            Section(
                number,
                **connection.parameters(),
                anchor_ticks=anchor,
                goes_back=(
                    self.comes_again and last_dts is not None and arrival.dts + anchor <= last_dts
                ),
            )
        )

    def _packet(self, arrival: Arrival) -> LivePacket:
        coded = arrival.coded
        ticks, dts = self._timekeeper.ticks(arrival.pts), self._timekeeper.ticks(arrival.dts)
        return LivePacket(
            ticks,
            None if coded.packet.dts is None else dts,
            coded.keyframe,
            coded.disposable,
            coded.shown,
            time.time(),
            bytes(coded.packet),
        )

    def _keep_pace(self, dts: int) -> None:
        if self._pace == "fast":
            return
        if self._pace_from is None:
            self._pace_from = time.monotonic(), dts
        due = self._pace_from[0] + (dts - self._pace_from[1]) / TICKS_PER_SECOND
        self._is_over.wait(max(0.0, due - time.monotonic()))

    def _keep(self, packet: LivePacket) -> bool:
        """Store it; false where the pictures after it cannot be decoded without it."""
        status = self.status
        status.num_packets += 1
        status.num_bytes += len(packet.data)
        status.last_packet_at = packet.arrived_at
        if not self._is_behind():
            if self._append_held() and self._spool.append(packet):
                self._is_refusing, self._num_vain = False, 0
                return True
            status.last_error = f"no room for packets in {self._spool.folder}"
            if self._held_bytes + len(packet.data) <= HELD_BYTES:
                self._held.append(packet)
                self._held_bytes += len(packet.data)
                return True
        status.num_refused += 1
        self._is_refusing = not packet.disposable
        return packet.disposable

    def _append_held(self) -> bool:
        """Store what waits in memory for room on the disk; whether nothing waits any more."""
        while self._held and self._spool.append(self._held[0]):
            self._held_bytes -= len(self._held.popleft().data)
        return not self._held

    def _is_behind(self) -> bool:
        limit = self._refuse_after_seconds
        return limit is not None and self._spool.waiting_seconds > limit

    def connect_again(self) -> None:
        """Hang up at the next packet and connect anew."""
        self._again.set()

    def _unseen(self, packets: Iterator[LivePacket], last_dts: int | None) -> Iterator[LivePacket]:
        """Those after a dts, from the last GOP before it on: what was begun can be gone on with."""
        gop: list[LivePacket] = []
        began = time.monotonic()
        patience = VAIN_CONNECTIONS * self._reconnect.stall_seconds
        for packet in packets:
            if last_dts is None:
                yield packet
                continue
            gop = [packet] if packet.keyframe else [*gop, packet]
            if packet.dts is not None and packet.dts > last_dts:
                yield from gop
                last_dts = None
            elif time.monotonic() - began > patience and not self._address.is_file:
                # Its times were set back: what it calls old is new.
                self._has_jumped = True
                raise StalledError(f"{self._label} gives nothing but what was seen")
