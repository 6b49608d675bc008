"""Events out of outcomes: debounce, absence by looks, cooldown, gaps; the same however told."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdyn.clock import Pts
from streamdyn.errors import ConfigError
from streamdyn.events import EventChange, EventRule, EventTracker
from streamdyn.items import Block
from streamdyn.outcome import Box, Outcome
from streamdyn.receipt import Receipt
from streamdyn.timeline import WindowResult

BASE = Fraction(1, 10)


def window(first: int, ticks: list[int], looks: dict[int, tuple[str, float]]) -> WindowResult:
    """Items at `ticks`; the label and score of those that were looked at."""
    n = len(ticks)
    ones = np.ones(n, np.int32)
    outcomes = tuple(
        Outcome("s", first + ticks.index(t), Pts(t, BASE), "r/1", (label,), (score,))
        for t, (label, score) in sorted(looks.items())
    )
    block = Block(
        "s", first, BASE, pts=np.array(ticks, np.int64), keyframe=ones.astype(bool),
        num_bytes=ones, disposable=ones.astype(bool), gop=ones, reach=ones,
    )  # fmt: skip
    reasons = np.zeros(n, np.uint8)
    scores = np.zeros(n, np.float32)
    return WindowResult(block, reasons, scores, outcomes, (), (), Receipt(), Receipt())


def story(rule: EventRule, looks: str, per_window: int = 4) -> list[tuple[str, str, float, float]]:
    """Phase, label, start and stop; a letter is a label, `-` a look at nothing, `.` no look."""
    tracker, found = EventTracker(rule, "s"), []
    for first in range(0, len(looks), per_window):
        part = looks[first : first + per_window]
        ticks = [10 * (first + i) for i in range(len(part))]
        seen = {
            t: ("" if letter == "-" else letter, 0.0 if letter == "-" else 0.9)
            for t, letter in zip(ticks, part, strict=True)
            if letter != "."
        }
        found += tracker.feed(window(first, ticks, seen))
    return [(c.phase, c.label, c.start.seconds, c.stop.seconds) for c in found]


@pytest.mark.parametrize(
    ("rule", "looks", "expected"),
    [
        (
            EventRule(end_after_seconds=0),
            "..d..d-.",
            [("start", "d", 2, 2), ("end", "d", 2, 6)],
        ),
        (EventRule(end_after_seconds=0), "d.......", [("start", "d", 0, 0)]),
        (EventRule(end_after_seconds=3), "d-d-d.-..-", [("start", "d", 0, 0), ("end", "d", 0, 6)]),
        (EventRule(start_after_seconds=2, end_after_seconds=0), "d-d.-", []),
        (
            EventRule(start_after_seconds=2, end_after_seconds=0),
            "d.d-",
            [("start", "d", 0, 2), ("end", "d", 0, 3)],
        ),
        (
            EventRule(end_after_seconds=0, cooldown_seconds=4),
            "d-d-.d-",
            [("start", "d", 0, 0), ("end", "d", 0, 1), ("start", "d", 5, 5), ("end", "d", 5, 6)],
        ),
        (
            EventRule(end_after_seconds=0, update_seconds=3),
            "dd.dd.d",
            [("start", "d", 0, 0), ("update", "d", 0, 3), ("update", "d", 0, 6)],
        ),
        (
            EventRule(end_after_seconds=0),
            "dc",
            [("start", "d", 0, 0), ("start", "c", 1, 1), ("end", "d", 0, 1)],
        ),
        (
            EventRule(labels=("D",), end_after_seconds=0),
            "dcd",
            [("start", "d", 0, 0), ("end", "d", 0, 1), ("start", "d", 2, 2)],
        ),
    ],
)  # fmt: skip
def test_when_events_begin_and_end(rule, looks, expected):
    assert story(rule, looks) == expected


def test_an_event_ends_before_a_gap_in_which_nothing_came():
    tracker = EventTracker(EventRule(gap_seconds=5), "s")
    tracker.feed(window(0, [0, 10], {0: ("d", 0.9)}))
    changes = tracker.feed(window(2, [200, 210], {200: ("d", 0.9)}))
    assert [(c.phase, c.stop.ticks) for c in changes] == [("end", 10), ("start", 200)]


def test_labels_of_boxes_count_where_they_are_asked_for():
    box = Box("person", 0.8, 0, 0, 1, 1)
    outcome = Outcome("s", 0, Pts(0, BASE), "r/1", ("street",), (0.9,), boxes=(box,))
    assert EventRule(labels=("Person",)).labels_of(outcome) == {"person": 0.8}
    assert EventRule().labels_of(outcome) == {"street": 0.9}
    assert EventRule(labels=("person",), min_score=0.9).labels_of(outcome) == {}


def test_the_best_look_is_remembered():
    tracker = EventTracker(EventRule(end_after_seconds=0, min_score=0.1), "s")
    looks = {0: ("d", 0.2), 10: ("d", 0.7), 20: ("d", 0.4), 30: ("", 0.0)}
    (_, end) = tracker.feed(window(0, [0, 10, 20, 30], looks))
    assert (end.score, end.best.ticks) == (0.7, 10)


LOOKS = st.lists(st.sampled_from(["a", "b", "", None]), min_size=1, max_size=60)
RULES = st.builds(
    EventRule,
    start_after_seconds=st.sampled_from([0.0, 1.5]),
    end_after_seconds=st.sampled_from([0.0, 2.0]),
    cooldown_seconds=st.sampled_from([0.0, 3.0]),
    update_seconds=st.sampled_from([0.0, 4.0]),
    gap_seconds=st.sampled_from([3.0, 1000.0]),
)


@given(LOOKS, st.lists(st.integers(0, 40), min_size=60, max_size=60), RULES, st.data())
def test_events_do_not_depend_on_how_the_windows_are_cut(labels, steps, rule, data):
    ticks = np.cumsum([1 + step for step in steps[: len(labels)]]).tolist()

    def told(sizes: list[int]) -> list[EventChange]:
        tracker, found, first = EventTracker(rule, "s"), [], 0
        while first < len(labels):
            size = sizes.pop(0) if sizes else len(labels)
            part = slice(first, first + size)
            seen = {
                t: (label, 0.9 if label else 0.0)
                for t, label in zip(ticks[part], labels[part], strict=True)
                if label is not None
            }
            found += tracker.feed(window(first, ticks[part], seen))
            first += size
        return found

    whole = told([len(labels)])
    assert told(data.draw(st.lists(st.integers(1, 9), max_size=60))) == whole
    assert len({change.id for change in whole}) == len(whole)
    open_now: set[str] = set()
    for change in whole:
        assert (change.event_id in open_now) is (change.phase != "start")
        (open_now.discard if change.phase == "end" else open_now.add)(change.event_id)


@pytest.mark.parametrize("options", [{"min_score": 2}, {"end_after_seconds": -1}])
def test_wrong_rules_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        EventRule(**options)
