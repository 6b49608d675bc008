"""Keeps a live source coming in: connects, stores its packets, connects again when it breaks."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Literal

from streamdyn.errors import SourceError
from streamdyn.sources.live.connection import Arrival, Break, Connection
from streamdyn.sources.live.hls import HlsConnection, Place
from streamdyn.sources.live.packets import TICKS_PER_SECOND, LivePacket, Section
from streamdyn.sources.live.playlist import EncryptedError
from streamdyn.sources.live.reconnect import Receiving, Reconnect, Why
from streamdyn.sources.live.spool import Spool
from streamdyn.sources.live.timekeeper import Timekeeper
from streamdyn.sources.live.urls import Address
from streamdyn.sources.live.web import StalledError

logger = logging.getLogger(__name__)
EDGE_SECONDS = 0.015
"""A picture that took longer to come than this had not come before it was asked for."""
MAX_HELD = 2000
"""Pictures that are held to find out what time it is."""
HELD_BYTES = 32 << 20
"""Of packets that wait in memory for room on the disk."""
VAIN_CONNECTIONS = 5
"""In a row that brought nothing new; after them a segment that cannot be had is left out."""


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
        reconnect: Reconnect,
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
        self._is_encrypted = False
        self._place = Place.load(spool.folder)
        self._break: tuple[Break, int] | None = None  # That is to begin a section, and its pts.
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
        try:
            connection = self._connect()
        except SourceError as exc:
            return "refused", str(exc)
        with closing(connection):
            self.status.connected_at = time.time()
            try:
                return self._store(connection)
            except StalledError as exc:
                return "stalled", str(exc)
            except SourceError as exc:
                return "broken", str(exc)

    def _connect(self) -> Connection | HlsConnection:
        stall_seconds = self._reconnect.stall_seconds
        if self._address.kind == "hls" and not self._is_encrypted:
            try:
                return HlsConnection(
                    self._address, stall_seconds, place=self._place, is_over=self._is_over,
                    on_stored=self._note_place, on_lost=self._note_lost,
                )  # fmt: skip
            except EncryptedError as exc:
                logger.warning("%s; they are read by FFmpeg", exc)
                self._is_encrypted = True
        may_skip = self._num_vain >= VAIN_CONNECTIONS
        connection = Connection(self._address, stall_seconds, may_skip=may_skip)
        self._num_vain += 1
        return connection

    def _note_place(self, place: Place) -> None:
        if not self._held:  # What waits in memory is not stored yet.
            self._place = place
            place.save(self._spool.folder)

    def _note_lost(self, count: int, said: str) -> None:
        logger.warning("%s: %s", self._label, said)
        self.status.num_lost_segments += count
        self.status.last_error = said

    def _store(self, connection: Connection | HlsConnection) -> tuple[Why | None, str]:
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
        if not connection.has_end and not self._is_over.is_set():
            return "ended", "the source closed the connection"
        return None, ""

    def _packets(self, connection: Connection | HlsConnection) -> Iterator[LivePacket]:
        """From a keyframe on; a section begins there, and where the source's times jump."""
        pictures = connection.pictures()
        if not connection.knows_times:
            pictures = self._from_the_edge(pictures)
        for arrival in pictures:
            if arrival.breaks is not None:
                self._break = arrival.breaks, arrival.pts
                self._waiting_since = time.monotonic()
            elif self._waiting_since is None:
                has_jumped = self._timekeeper.is_jump(arrival.dts)
                if has_jumped and not connection.knows_times:
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

    def _begin_section(self, connection: Connection | HlsConnection, arrival: Arrival) -> None:
        self.status.state = "up"
        if not self._append_held():  # They are of the section before.
            self.status.num_refused += len(self._held)
            self._held.clear()
            self._held_bytes = 0
        anchor = self._anchor(arrival)
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

    def _anchor(self, arrival: Arrival) -> int:
        """Of a section that begins with this picture."""
        keeper, pts = self._timekeeper, arrival.pts
        if self._break is not None:
            (broke, since), self._break = self._break, None
            shown_at = broke.filmed_at
            if shown_at is not None:
                shown_at += (pts - since) / TICKS_PER_SECOND
            follows = broke.has_new_times and broke.follows and not broke.is_exact
            return keeper.begin(
                pts,
                shown_at=shown_at,
                loops=follows,
                jumped=broke.has_new_times,
                # Without a place, what was watched elsewhere is known by its time alone.
                is_exact=broke.is_exact and self._place is None,
            )
        shown_at = None
        if self._edge is not None:
            shown_at = self._edge[0] - (self._edge[1] - pts) / TICKS_PER_SECOND
        loops = self._loop and keeper.last is not None
        jumped, self._has_jumped = self._has_jumped, False
        return keeper.begin(pts, shown_at=shown_at, loops=loops, jumped=jumped)

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
                if len(gop) == 1 and self._spool.section is not None:
                    # What was begun had come to its end: nothing of it comes again.
                    self._spool.begin(replace(self._spool.section, goes_back=False))
                yield from gop
                last_dts = None
            elif time.monotonic() - began > patience and not self._address.is_file:
                # Its times were set back: what it calls old is new.
                self._has_jumped = True
                raise StalledError(f"{self._label} gives nothing but what was seen")
