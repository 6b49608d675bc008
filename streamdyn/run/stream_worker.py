"""One live stream from its packets to its rows, for weeks: what every runner of a stream job does.

```
Live ─▶ LiveCursor ─▶ Session ─▶ recognizer
                         │ window
                         ▼
        EventTracker ─▶ StreamPage.write: window, checkpoint, events, messages in one transaction
```

Whatever fails but the configuration is waited out: the worker begins anew after its last stored
window, with the state it had there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from streamdyn import checkpoint
from streamdyn.audit import AuditRule, AuditTally
from streamdyn.budget import Budget
from streamdyn.checkpoint import SessionState, starting_state
from streamdyn.clock import Pts
from streamdyn.engine import Session
from streamdyn.errors import ConfigError
from streamdyn.events import VIEW_CHANGED, EventRule, EventState, EventTracker
from streamdyn.index.live_book import Entry
from streamdyn.items import Selection
from streamdyn.protocols import WHOLE_STREAM, Policy, Position, Recognizer
from streamdyn.receipt import Receipt
from streamdyn.run.load import LoadControl, LoadRule
from streamdyn.run.local import drive
from streamdyn.sources.live import redacted
from streamdyn.sources.live.receiving import LiveCursor, LiveReceiver, LiveSource
from streamdyn.timeline import WindowResult
from streamdyn.view import Steps, steps_of

logger = logging.getLogger(__name__)
State = Literal["starting", "watching", "paused", "failed", "ended"]
MANY_BAD = 50
"""Pictures in a row that could not be decoded: connect again."""
LATENCIES = 512
"""Last ones that percentiles are made of."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What others are told of a window that is stored."""

    stream: str
    receipt: Receipt
    audit_receipt: Receipt
    media_seconds: float
    """That it covers, about."""
    latency_seconds: float | None
    """From the arrival of its first item to its being stored."""

    @staticmethod
    def of(result: WindowResult, latency_seconds: float | None) -> Stored:
        """What is told of a window."""
        window = result.window
        steps = len(window) - 1  # And one from the window before, of about the mean.
        span = float((int(window.pts[-1]) - int(window.pts[0])) * window.time_base)
        return Stored(
            window.stream,
            result.receipt,
            result.audit_receipt,
            span * (steps + 1) / steps if steps else 0.0,
            latency_seconds,
        )


class Told(Protocol):
    """Who is told of every stored window."""

    def window(self, stored: Stored) -> None:
        """It is stored."""


class Page(Protocol):
    """Where a worker writes a stream, and where it stood; see `StreamPage`."""

    position: Position | None
    checkpoint: bytes | None
    events: EventState

    def write(self, entry: Entry) -> None:
        """Store a window with all that belongs to it, or nothing."""

    def refresh(self) -> None:
        """Let what is there be searched."""

    def finish(self) -> None:
        """The stream has ended."""


class Pages(Protocol):
    """Where results of streams go; see `LiveBook`."""

    def page(self, stream: str, config_hash: str) -> Page:
        """Of one stream."""


@dataclass(frozen=True, slots=True)
class StreamTask:
    """What a worker watches, and how."""

    stream: str
    source: LiveSource
    policy: Policy[Any]
    config_hash: str
    audit: AuditRule = field(default_factory=AuditRule)
    budget: Budget = field(default_factory=Budget)
    events: EventRule = field(default_factory=EventRule)
    load: LoadRule = field(default_factory=LoadRule)

    def __post_init__(self) -> None:
        if self.policy.lookahead >= WHOLE_STREAM:
            raise ConfigError(
                f"stream {self.stream}: policy {self.policy.name} wants to see a stream from end "
                "to end before it decides, and a live one has no end; use one that looks ahead "
                "less, such as keyframe, stride, packet_motion or agreement"
            )
        if self.budget.share is not None and self.budget.share <= self.audit.rate:
            raise ConfigError(
                f"stream {self.stream}: audits of {self.audit.rate:g} leave nothing of a budget "
                f"with share {self.budget.share:g}; audit less, or give more"
            )


@dataclass(slots=True)
class StreamStatus:
    """How a stream fares; written by its worker, read by others."""

    stream: str
    address: str
    state: State = "starting"
    receipt: Receipt = field(default_factory=Receipt)
    """Since the worker began, audits included."""
    agreement: float | None = None
    num_audits: int = 0
    num_events: int = 0
    num_view_changes: int = 0
    """Since the worker began."""
    num_restarts: int = 0
    last_error: str = ""
    share: float = 1.0
    """Of the items that may be recognized, under load."""
    last_item_seconds: float | None = None
    """Time of the last stored item."""
    stored_at: float | None = None
    """When a window and its checkpoint were stored last, seconds since the epoch."""
    backlog_seconds: float = 0.0
    num_lost_segments: int = 0
    """Of HLS, that could not be had."""
    connection: str = "connecting"
    reconnects: dict[str, int] = field(default_factory=dict)
    last_packet_at: float | None = None
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))
    """Seconds from the arrival of the first item of a window to its being stored."""


class StreamWorker:
    """Watches one live stream until it is told to stop.

    Args:
        task: What.
        book: Where results go.
        recognizer: Set up; may be shared by workers that take turns.
        told: Of every stored window.
    """

    def __init__(self, task: StreamTask, book: Pages, recognizer: Recognizer, told: Told) -> None:
        self._task, self._book, self._recognizer = task, book, recognizer
        self.told = told
        self._is_over, self._is_paused = threading.Event(), threading.Event()
        self._cursor: LiveCursor | None = None
        self._receiver: LiveReceiver | None = None
        self._load = LoadControl(task.load, task.budget, task.audit.rate)
        self._was_drained = False  # The end of what comes is of our making.
        self._views: list[tuple[Pts, Steps]] = []  # Looks of the window that is open.
        self._num_bad = 0  # Pictures in a row that could not be decoded.
        self.status = StreamStatus(task.stream, task.source.name)

    def run(self) -> None:
        """Watch until told to stop, or until a file has ended.

        Raises:
            ConfigError: A part does not suit the stream.
        """
        try:
            self._run()
        finally:
            self.hang_up()

    def _run(self) -> None:
        waits, num_failures = self._task.source.reconnect, 0
        while not self._is_over.is_set():
            if self._is_paused.is_set():
                self.hang_up()
                self.status.state, self.status.connection = "paused", "paused"
                self._is_over.wait(0.2)
                continue
            began = time.monotonic()
            try:
                if self._watch():
                    break
            except ConfigError:
                self.status.state = "failed"
                raise
            except Exception as exc:
                held = time.monotonic() - began
                num_failures = 1 if held > waits.stable_seconds else num_failures + 1
                self._note_failure(exc, waits.wait_seconds(num_failures, 0.0))
        if self.status.state != "failed":
            self.status.state = "ended"

    def _note_failure(self, exc: Exception, wait_seconds: float) -> None:
        said = redacted(f"{type(exc).__name__}: {exc}")
        logger.warning(
            "%s: %s; going on in %.1f s", self._task.stream, said, wait_seconds,
            exc_info=exc,
        )  # fmt: skip
        self.status.state, self.status.last_error = "failed", said
        self.status.num_restarts += 1
        self._is_over.wait(wait_seconds)

    def _watch(self) -> bool:
        """Go on after the last stored window; whether the stream has ended."""
        task = self._task
        page = self._book.page(task.stream, task.config_hash)
        state = self._state(page)
        tracker = EventTracker(task.events, task.stream, page.events)
        if self._was_drained:
            self.hang_up()
        self._was_drained = False
        # What comes while a failure is waited out is received all the same.
        if self._receiver is None:
            self._receiver = task.source.receive(page.position)
        with closing(self._receiver.open(page.position)) as cursor:
            self._cursor = cursor
            if self._is_paused.is_set() or self._is_over.is_set():
                self._drain()  # It was said while there was no cursor to say it to.
            self.status.state = "watching"
            session = Session(
                cursor,
                task.policy,
                self._recognizer,
                audit=task.audit,
                propagation="forward",
                resume=state,
            )
            self._views.clear()
            for result in drive(session, self._recognizer, self._note_looks):
                if self._store(result, session.state, page, tracker, cursor):
                    return False
                if self._is_paused.is_set() and not self._is_over.is_set():
                    break
            if self._was_drained:
                page.refresh()
                return self._is_over.is_set()
        page.finish()
        return True

    def _state(self, page: Page) -> SessionState:
        task = self._task
        if page.checkpoint is not None:
            state = checkpoint.load(page.checkpoint, task.policy)
            self._load.resume(state.meter)
            state.stopped = False
            return state
        state = starting_state(task.policy, task.policy.initial_state(), self._load.start())
        if page.position is not None:
            state.position = page.position
        return state

    def _store(
        self,
        result: WindowResult,
        state: SessionState,
        page: Page,
        tracker: EventTracker,
        cursor: LiveCursor,
    ) -> bool:
        """Whether what the agent has learned is of no use any more: the camera looks elsewhere."""
        changes = tracker.feed(result, self._views)
        self._views.clear()
        is_another_view = any(change.label == VIEW_CHANGED for change in changes)
        if is_another_view:
            self._begin_anew(state)
        with result.receipt.timed("sink"):
            page.write(Entry(result, checkpoint.dump(state), cursor.info, tracker.state, changes))
        last_ticks = int(result.window.pts[-1])
        receiver = self._receiver
        assert receiver is not None
        receiver.done(last_ticks)
        seconds = result.window.pts_at(-1).seconds
        if self._task.source.is_hurried:
            state.meter = self._load.follow(state.meter, receiver.waiting_seconds, seconds)
        self._num_bad = 0 if result.outcomes else self._num_bad + len(result.errors)
        if self._num_bad >= MANY_BAD:
            self._num_bad = 0
            receiver.connect_again()
        latency = cursor.latency_seconds(result.window)
        self._note(result, state, len(changes), latency)
        self.told.window(Stored.of(result, latency))
        return is_another_view

    def _begin_anew(self, state: SessionState) -> None:
        """The agent's state and the audits are of another view."""
        logger.warning("%s: %s; the agent begins anew", self._task.stream, VIEW_CHANGED)
        self.status.num_view_changes += 1
        state.policy_state, state.tally = self._task.policy.initial_state(), AuditTally()

    def _note_looks(self, selection: Selection) -> None:
        """Pictures that show the whole view."""
        for item, effort in zip(selection.items, selection.efforts, strict=True):
            if item.kind == "frame" and effort.region is None and self._task.events.view_changes:
                self._views.append((item.pts, steps_of(item.data)))

    def _note(
        self,
        result: WindowResult,
        state: SessionState,
        num_changes: int,
        latency: float | None,
    ) -> None:
        status = self.status
        status.receipt += result.receipt + result.audit_receipt
        status.num_events += num_changes
        status.stored_at = time.time()
        status.share = self._load.share
        status.last_item_seconds = result.window.pts_at(-1).seconds
        if self._task.audit.rate:
            status.agreement = state.tally.agreement().estimate
            status.num_audits = state.tally.num_audits
        if latency is not None:
            status.latencies.append(latency)
        self.refresh()

    def refresh(self) -> StreamStatus:
        """The status, with what the connection says now."""
        receiver, status = self._receiver, self.status
        if receiver is not None and status.state in ("watching", "failed"):
            ingest = receiver.status
            status.connection = ingest.state
            status.reconnects = {str(reason): n for reason, n in ingest.reconnects.items()}
            status.last_packet_at = ingest.last_packet_at
            status.num_lost_segments = ingest.num_lost_segments
            status.last_error = ingest.last_error or status.last_error
            status.backlog_seconds = receiver.waiting_seconds
        return status

    def hang_up(self) -> None:
        """Receive nothing more."""
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None

    def pause(self) -> None:
        """Hang up after the window that is open; go on with `go_on`."""
        self._is_paused.set()
        self._drain()

    def go_on(self) -> None:
        """End a pause."""
        self._is_paused.clear()

    def stop(self) -> None:
        """End after what has come was watched."""
        self._is_over.set()
        self._drain()

    def _drain(self) -> None:
        self._was_drained = True
        if self._receiver is not None:
            self._receiver.hang_up()
        if self._cursor is not None:
            self._cursor.drain()
