"""From outcomes to events: something begins to be seen, goes on, and ends.

```
looks       .  dog  .  .  dog  -  dog  .  -  .  -  .  .
event          |start     ^         update         |end
                      (debounced)       absent since ^   for end_after_seconds
```

What is not looked at is no absence: an event goes on until looks say otherwise. Times are those of
the stream, so that the same outcomes give the same events whenever and however often they are told.
That the camera looks elsewhere (`streamdyn.view`) is an event, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

from streamdyn.clock import Pts
from streamdyn.errors import ConfigError
from streamdyn.outcome import Outcome
from streamdyn.timeline import WindowResult
from streamdyn.view import Steps, ViewState

Phase = Literal["start", "update", "end"]
VIEW_CHANGED = "camera view changed"
"""Label of an event; its score is how much the view differs from the one before."""


@dataclass(frozen=True, slots=True)
class EventRule:
    """When outcomes make an event.

    Args:
        labels: To watch for, in any case of letters; none: the best label of each look.
        min_score: Of a label that counts, in [0, 1].
        start_after_seconds: From the first look to one that confirms it; 0: at once.
        end_after_seconds: A label is absent for so long, by looks; 0: at the first look without it.
        cooldown_seconds: After an event no other of its label begins for so long.
        update_seconds: Between two updates, at least.
        gap_seconds: Nothing came for so long: events end before the gap.
        view_changes: Tell when the camera looks elsewhere, whatever the labels are.
    """

    labels: tuple[str, ...] = ()
    min_score: float = 0.5
    start_after_seconds: float = 0.0
    end_after_seconds: float = 2.0
    cooldown_seconds: float = 0.0
    update_seconds: float = 10.0
    gap_seconds: float = 10.0
    view_changes: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise ConfigError(f"min_score must be in [0, 1], got {self.min_score}")
        for name in ("start_after", "end_after", "cooldown", "update", "gap"):
            value = getattr(self, f"{name}_seconds")
            if value < 0:
                raise ConfigError(f"{name}_seconds must not be negative, got {value}")

    def labels_of(self, outcome: Outcome) -> dict[str, float]:
        """Label → score of what counts in an outcome."""
        if not self.labels:
            return {outcome.label: outcome.score} if outcome.score >= self.min_score else {}
        said = [*zip(outcome.labels, outcome.scores, strict=True)]
        said += [(box.label, box.score) for box in outcome.boxes]
        wanted = {label.lower() for label in self.labels}
        found: dict[str, float] = {}
        for label, score in said:
            if label.lower() in wanted and score >= self.min_score:
                found[label] = max(score, found.get(label, 0.0))
        return found


@dataclass(slots=True)
class OpenEvent:
    """One label that is being seen."""

    first_ticks: int
    last_ticks: int
    score: float
    best_ticks: int
    absent_ticks: int | None = None
    """Of the first look without it since the last one with it."""
    is_started: bool = False
    updated_ticks: int = 0
    num_updates: int = 0


@dataclass(slots=True)
class EventState:
    """What a tracker remembers; picklable, part of a checkpoint."""

    open: dict[str, OpenEvent] = field(default_factory=dict)
    cooling: dict[str, int] = field(default_factory=dict)
    """Label → ticks until which no event of it begins."""
    last_item_ticks: int | None = None
    view: ViewState = field(default_factory=ViewState)


@dataclass(frozen=True, slots=True)
class EventChange:
    """A phase of an event; its id is the same however often it is told."""

    event_id: str
    number: int
    """Of the change within its event."""
    phase: Phase
    stream: str
    label: str
    score: float
    """The best so far."""
    start: Pts
    stop: Pts
    """Where it ended, or was seen last."""
    best: Pts
    """Where the best look was."""

    @property
    def id(self) -> str:
        """Of this change."""
        return f"{self.event_id}-{self.number}"

    def as_dict(self) -> dict[str, Any]:
        """For a message."""
        return {
            "id": self.id,
            "event": self.event_id,
            "phase": self.phase,
            "stream": self.stream,
            "label": self.label,
            "score": round(self.score, 4),
            "start_seconds": self.start.seconds,
            "stop_seconds": self.stop.seconds,
            "best_seconds": self.best.seconds,
        }


class EventTracker:
    """Turns the windows of one stream into changes of events.

    Args:
        rule: When.
        stream: Id.
        state: To go on from.
    """

    def __init__(self, rule: EventRule, stream: str, state: EventState | None = None) -> None:
        self._rule, self._stream = rule, stream
        self.state = state or EventState()

    def feed(
        self, result: WindowResult, views: Sequence[tuple[Pts, Steps]] = ()
    ) -> list[EventChange]:
        """Changes by the items of the next window, in order; those of the view come first.

        Args:
            result: The window.
            views: Of pictures that were looked at; see `streamdyn.view.steps_of`.
        """
        base = result.window.time_base
        changes = [*self._view_changes(views)] if self._rule.view_changes else []
        for kind, ticks, outcome in self._happenings(result):
            if kind == "gap":
                changes += self._end_all(ticks, base)
            else:
                assert outcome is not None
                changes += self._look(outcome, base)
        self.state.last_item_ticks = int(result.window.pts[-1])
        return changes

    def _view_changes(self, views: Sequence[tuple[Pts, Steps]]) -> Iterator[EventChange]:
        for pts, steps in sorted(views, key=lambda view: view[0].ticks):
            base, change = pts.time_base, self.state.view.look(steps, pts.ticks, pts.time_base)
            if change is not None:
                at = change.ticks
                event = OpenEvent(at, at, change.difference, at)
                yield self._change("start", VIEW_CHANGED, event, at, base)
                yield self._change("end", VIEW_CHANGED, event, at, base)

    def _happenings(self, result: WindowResult) -> list[tuple[str, int, Outcome | None]]:
        """Gaps, by the tick before them, and looks, in order."""
        pts = [int(t) for t in result.window.pts]
        if self.state.last_item_ticks is not None:
            pts.insert(0, self.state.last_item_ticks)
        limit = self._ticks(self._rule.gap_seconds, result.window.time_base)
        found: list[tuple[str, int, Outcome | None]] = [
            ("gap", before, None) for before, after in pairwise(pts) if after - before > limit
        ]
        found += [("look", outcome.pts.ticks, outcome) for outcome in result.outcomes]
        return sorted(found, key=lambda entry: (entry[1], entry[0] == "gap"))

    @staticmethod
    def _ticks(seconds: float, base: Fraction) -> int:
        return round(seconds / base)

    def _look(self, outcome: Outcome, base: Fraction) -> Iterator[EventChange]:
        now, seen = outcome.pts.ticks, self._rule.labels_of(outcome)
        for label, score in seen.items():
            yield from self._seen(label, score, now, base)
        for label in [name for name in self.state.open if name not in seen]:
            yield from self._absent(label, now, base)

    def _seen(self, label: str, score: float, now: int, base: Fraction) -> Iterator[EventChange]:
        event = self.state.open.get(label)
        if event is None:
            if now < self.state.cooling.get(label, now):
                return
            self.state.cooling.pop(label, None)
            event = self.state.open[label] = OpenEvent(now, now, score, now)
        event.last_ticks, event.absent_ticks = now, None
        is_better = score > event.score
        if is_better:
            event.score, event.best_ticks = score, now
        if not event.is_started:
            wait = self._ticks(self._rule.start_after_seconds, base)
            if now - event.first_ticks >= wait:
                event.is_started, event.updated_ticks = True, now
                yield self._change("start", label, event, now, base)
        elif now - event.updated_ticks >= self._ticks(self._rule.update_seconds, base):
            event.updated_ticks = now
            yield self._change("update", label, event, now, base)

    def _absent(self, label: str, now: int, base: Fraction) -> Iterator[EventChange]:
        event = self.state.open[label]
        if event.absent_ticks is None:
            event.absent_ticks = now
        if now - event.absent_ticks >= self._ticks(self._rule.end_after_seconds, base):
            yield from self._end(label, event.absent_ticks, base)

    def _end_all(self, at: int, base: Fraction) -> list[EventChange]:
        return [change for label in [*self.state.open] for change in self._end(label, at, base)]

    def _end(self, label: str, at: int, base: Fraction) -> Iterator[EventChange]:
        event = self.state.open.pop(label)
        if event.is_started:
            if self._rule.cooldown_seconds:
                wait = self._ticks(self._rule.cooldown_seconds, base)
                self.state.cooling[label] = at + wait
            yield self._change("end", label, event, at, base)

    def _change(
        self, phase: Phase, label: str, event: OpenEvent, stop: int, base: Fraction
    ) -> EventChange:
        key = f"{self._stream}\0{label}\0{event.first_ticks}\0{base}"
        number = event.num_updates
        event.num_updates += 1
        return EventChange(
            hashlib.sha256(key.encode()).hexdigest()[:20],
            number,
            phase,
            self._stream,
            label,
            event.score,
            Pts(event.first_ticks, base),
            Pts(stop, base),
            Pts(event.best_ticks, base),
        )
