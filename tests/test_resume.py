"""A run that crashed anywhere and went on from its last checkpoint equals an unbroken one."""

from __future__ import annotations

import numpy as np
import pytest
from dice import Dice
from hypothesis import given, settings
from hypothesis import strategies as st
from passes import facts, watch

from streamdyn import checkpoint
from streamdyn.audit import AuditRule
from streamdyn.budget import Budget
from streamdyn.recognizers.brightness import Brightness
from streamdyn.registry import build
from streamdyn.run.local import run_stream
from streamdyn.testing.recurrent import RunningBrightness
from streamdyn.testing.scripted import ScriptedPolicy, read_plan
from streamdyn.testing.streams import Abort, Aborted, Broken, ListSource

LEVELS = [16, 240, 16, 112, *[48] * 14, *[176] * 7, *[16] * 9, 240, 240, *[80] * 8, *[144] * 8]
POLICIES = {
    "stride": build("policy", "stride", every=7, lookahead=10),
    "random": build("policy", "random", share=0.3, lookahead=9),
    "bisect": build("policy", "bisect", max_doubt=4.0, lookahead=16),
    "agreement": build(
        "policy", "agreement", target=0.8, options={"max_doubt": 9.0, "lookahead": 16}
    ),
    "agreement of stride": build(
        "policy", "agreement", target=0.8, inner="stride", options={"every": 6, "lookahead": 9}
    ),
    "dice": Dice(seed=11, lookahead=12, hands_back=True),
}
AUDIT = AuditRule(0.4, seed=2)


class Crash(RuntimeError):
    """Stands for a killed process."""


class Store:
    """Keeps what was committed; crashes at its n-th write, before or after committing it."""

    def __init__(self, crash_at=None, *, commits=True):
        self.results, self.checkpoint = [], None
        self.crash_at, self.commits = crash_at, commits
        self.num_writes = 0

    def write(self, result, data):
        crashes = self.num_writes == self.crash_at
        self.num_writes += 1
        if not crashes or self.commits:
            self.results.append(result)
            self.checkpoint = data
        if crashes:
            raise Crash

    def close(self):
        """Nothing is open."""


def run_until_done(source, policy, recognizer, store, **options):
    """Start again after every crash, as a new process would; answers the number of crashes."""
    for crashes in range(200):
        resume = None
        if store.checkpoint is not None:
            resume = checkpoint.load(store.checkpoint, policy)
        try:
            run_stream(source, policy, recognizer(), sink=store, resume=resume, **options)
        except (Aborted, Crash):
            continue
        return crashes
    raise AssertionError("it never ends")


def unbroken(policy, recognizer, levels=LEVELS, **options):
    return facts(watch(ListSource(levels), policy, recognizer(), **options).results)


CASES = [pytest.param(policy, RunningBrightness, id=name) for name, policy in POLICIES.items()]
CASES.append(pytest.param(POLICIES["bisect"], Brightness, id="bisect without recurrent state"))


@pytest.mark.parametrize(("policy", "recognizer"), CASES)
def test_an_abort_before_any_item_changes_nothing(policy, recognizer):
    expected = unbroken(policy, recognizer, audit=AUDIT)
    assert sum(len(row[-1]) for row in expected) > 5
    for place in range(len(LEVELS) + 1):
        source = ListSource([*LEVELS[:place], Abort(), *LEVELS[place:]])
        store = Store()
        assert run_until_done(source, policy, recognizer, store, audit=AUDIT) == 1
        assert facts(store.results) == expected, f"aborted before item {place}"


@pytest.mark.parametrize("commits", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_crash_around_the_write_of_any_window_changes_nothing(policy, commits):
    expected = unbroken(policy, RunningBrightness, audit=AUDIT)
    for window in range(len(expected)):
        store = Store(window, commits=commits)
        crashes = run_until_done(ListSource(LEVELS), policy, RunningBrightness, store, audit=AUDIT)
        assert crashes == 1
        assert facts(store.results) == expected, f"crashed at window {window}"


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_crashes_at_every_window_change_nothing(policy):
    expected = unbroken(policy, RunningBrightness, audit=AUDIT)
    pieces = [[Abort(), level] for level in LEVELS]
    source = ListSource([piece for pair in pieces for piece in pair])
    store = Store()
    crashes = run_until_done(source, policy, RunningBrightness, store, audit=AUDIT)
    assert crashes == len(LEVELS)
    assert facts(store.results) == expected


@pytest.mark.parametrize("propagation", ["two-sided", "forward"])
def test_a_budget_goes_on_where_it_was(propagation):
    policy = build("policy", "stride", every=2, lookahead=10)
    budget = Budget(share=0.2, items=8)
    options = {"audit": AUDIT, "propagation": propagation}
    expected = unbroken(policy, RunningBrightness, budget=budget, **options)
    reasons = [reason for row in expected for reason in row[2]]
    assert "OVER_BUDGET" in reasons
    for window in range(len(expected)):
        store = Store(window)
        source = ListSource(LEVELS)
        run_until_done(source, policy, RunningBrightness, store, budget=budget, **options)
        assert facts(store.results) == expected


def test_a_hop_goes_on_where_it_was():
    policy = ScriptedPolicy([read_plan("PSSP", hop=9000), "PSSS", "SSSP"], lookahead=4)
    levels = [16] * 9012
    expected = unbroken(policy, RunningBrightness, levels, audit=AuditRule(0.001))
    assert [row[1] - row[0] for row in expected] == [4, 4096, 4096, 808, 4, 4]
    for window in range(6):
        store = Store(window)
        run_until_done(ListSource(levels), policy, RunningBrightness, store, audit=AuditRule(0.001))
        assert facts(store.results) == expected


def test_a_stream_that_was_stopped_stays_stopped():
    policy = ScriptedPolicy([read_plan("PSSS", stop=True)], lookahead=4)
    store = Store(0)
    assert run_until_done(ListSource(LEVELS), policy, Brightness, store) == 1
    assert [row[:2] for row in facts(store.results)] == [(0, 4)]


def test_a_finished_stream_has_nothing_left_to_do():
    policy, store = POLICIES["bisect"], Store()
    run_until_done(ListSource(LEVELS), policy, RunningBrightness, store, audit=AUDIT)
    before = facts(store.results)
    run_until_done(ListSource(LEVELS), policy, RunningBrightness, store, audit=AUDIT)
    assert facts(store.results) == before


def test_the_agreement_of_a_resumed_run_is_that_of_the_whole():
    policy = POLICIES["bisect"]
    whole = watch(ListSource(LEVELS), policy, audit=AUDIT).summary.agreement
    store = Store(2)
    with pytest.raises(Crash):
        run_stream(ListSource(LEVELS), policy, Brightness(), sink=store, audit=AUDIT)
    resume = checkpoint.load(store.checkpoint, policy)
    summary = run_stream(
        ListSource(LEVELS), policy, Brightness(), sink=store, audit=AUDIT, resume=resume
    )
    assert summary.agreement == whole
    assert summary.receipt.num_items < len(LEVELS)


def test_the_recurrent_state_matters_in_these_tests():
    """Otherwise a lost state would go unnoticed."""
    policy, levels = POLICIES["stride"], np.array(LEVELS)
    whole = watch(ListSource(LEVELS), policy, RunningBrightness()).outcomes
    half = watch(ListSource(levels[28:].tolist()), policy, RunningBrightness()).outcomes
    assert [o.text for o in whole.values()][4:] != [o.text for o in half.values()]


streams = st.lists(st.one_of(st.integers(0, 255), st.just("broken")), min_size=1, max_size=40)
cuts = st.lists(st.integers(0, 40), max_size=4)
dice = st.builds(Dice, st.integers(0, 2**32), st.integers(1, 12), st.booleans())


@settings(max_examples=150)
@given(streams, dice, cuts, st.floats(0, 1))
def test_any_policy_on_any_stream_survives_any_crashes(stream, policy, places, rate):
    items = [Broken() if level == "broken" else level for level in stream]
    options = {"audit": AuditRule(rate), "budget": Budget(share=0.7)}
    expected = unbroken(policy, RunningBrightness, items, **options)
    for place in sorted(places, reverse=True):
        items.insert(min(place, len(items)), Abort())
    store = Store()
    run_until_done(ListSource(items), policy, RunningBrightness, store, **options)
    assert facts(store.results) == expected
