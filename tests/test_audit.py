from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from passes import carried_labels, share_equal, watch

from streamdyn.audit import (
    Agreement,
    AuditDesk,
    AuditRule,
    AuditTally,
    PendingAudit,
    wilson_interval,
)
from streamdyn.errors import ConfigError
from streamdyn.items import Block
from streamdyn.protocols import WHOLE_STREAM
from streamdyn.reach import ReachModel
from streamdyn.recognizers.brightness import Brightness
from streamdyn.registry import build
from streamdyn.sources.synthetic import Synthetic
from streamdyn.testing.scripted import ScriptedPolicy, read_plan
from streamdyn.testing.streams import Broken, ListSource
from streamdyn.timeline import Audit

LUMA = frozenset({"luma"})
"""Decodes all items, so that at rate 1 every skipped one is drawn, with weight 1."""
ALL = AuditRule(1.0)


@pytest.mark.parametrize(
    ("share", "n", "low", "high"),
    [
        (0.5, 10, 0.2366, 0.7634),
        (0.0, 10, 0.0, 0.2775),
        (1.0, 10, 0.7225, 1.0),
        (0.9, 100, 0.8256, 0.9448),
        (0.05, 1000, 0.0381, 0.0653),
    ],
)
def test_wilsons_interval_equals_published_values(share, n, low, high):
    assert wilson_interval(share, n) == pytest.approx((low, high), abs=1e-4)


@given(st.floats(0, 1), st.floats(0.01, 1e6))
def test_wilsons_interval_holds_the_share_and_stays_in_bounds(share, n):
    low, high = wilson_interval(share, n)
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1


def test_no_trials_leave_everything_possible():
    assert wilson_interval(1.0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_is_a_share(rate):
    with pytest.raises(ConfigError, match=r"audit rate must be in \[0, 1\], got"):
        AuditRule(rate)


def splitmix64(state):
    """The reference in whole numbers (Steele, Lea and Flood 2014), one step."""
    mask = (1 << 64) - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return z ^ (z >> 31)


def test_draws_are_splitmix64_from_a_start_that_seed_and_stream_set():
    start = int.from_bytes(sha256(b"7\0clip.mp4").digest()[:8], "little")
    ordinals = [0, 1, 2, 1000, 10**9]
    expected = [(splitmix64(start + i * 0x9E3779B97F4A7C15) >> 11) / (1 << 53) for i in ordinals]
    assert AuditRule(1.0, seed=7).draws("clip.mp4", np.array(ordinals)).tolist() == expected


def test_draws_depend_on_seed_stream_and_ordinal_only():
    rule, ordinals = AuditRule(0.5, seed=3), np.arange(1000)
    drawn = rule.draws("a", ordinals)
    np.testing.assert_array_equal(rule.draws("a", ordinals[400:500]), drawn[400:500])
    np.testing.assert_array_equal(replace(rule, rate=0.1).draws("a", ordinals), drawn)
    assert not np.isin(rule.draws("b", ordinals), drawn).any()
    assert not np.isin(replace(rule, seed=4).draws("a", ordinals), drawn).any()


def test_draws_are_uniform_and_their_neighbours_independent():
    drawn = AuditRule(1.0).draws("s", np.arange(100_000))
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.histogram(drawn, 20, (0, 1))[0]
    # Chi square with 19 degrees of freedom; 43.8 is exceeded once in a thousand.
    assert ((counts - 5000) ** 2 / 5000).sum() < 43.8
    for lag in (1, 2, 30, 64):
        assert abs(np.corrcoef(drawn[:-lag], drawn[lag:])[0, 1]) < 0.01


def test_the_chance_falls_with_the_root_of_the_price():
    chances = AuditRule(0.2).chances(np.array([0, 30, 990], np.int32))
    np.testing.assert_allclose(chances, [0.2, 0.1, 0.02])


def test_which_items_are_audited_does_not_depend_on_how_windows_are_cut():
    source = ListSource([16] * 300, keyframe_every=1)
    cut = [
        watch(source, build("policy", "stride", every=9, lookahead=n), audit=AuditRule(0.2))
        for n in (1, 7, 64, 1000)
    ]
    drawn = [sorted((a.ordinal, a.weight) for a in seen.audits) for seen in cut]
    assert drawn[0]
    assert drawn[1:] == drawn[:1] * 3


def run_of(levels, plans, rule=ALL, **options):
    policy = ScriptedPolicy(plans, lookahead=4, previews=LUMA)
    return watch(ListSource(levels), policy, audit=rule, **options)


def sources(seen):
    return {a.ordinal: a.propagated_from for a in seen.audits}


def test_two_sided_audits_wait_for_the_next_observed_item_across_windows():
    seen = run_of([16] * 4 + [240] * 8, ["PSSS", "SSSS", "SSSP"])
    assert [len(result.audits) for result in seen.results] == [0, 0, 10]
    assert sources(seen) == {**dict.fromkeys(range(1, 6), 0), **dict.fromkeys(range(6, 11), 11)}
    wrong = [a.ordinal for a in seen.audits if a.agreement == 0]
    assert wrong == [4, 5]
    assert {(a.expected, a.found) for a in seen.audits if a.ordinal == 4} == {("black", "white")}


def test_of_two_equally_near_the_earlier_one_stands_in():
    seen = run_of([16] * 4 + [240] * 4, ["PSSS", "PSSS"])
    assert sources(seen)[2] == 0


def test_forward_audits_settle_in_their_own_window():
    seen = run_of([16] * 4 + [240] * 4, ["PSSS", "SSSP"], propagation="forward")
    assert [len(result.audits) for result in seen.results] == [3, 3]
    assert sources(seen) == dict.fromkeys((1, 2, 3, 4, 5, 6), 0)


def test_what_comes_before_everything_observed_is_unknown_when_looking_forward():
    seen = run_of([16] * 8, ["SSPS", "SSSS"], propagation="forward")
    before = [a for a in seen.audits if a.ordinal < 2]
    assert [(a.propagated_from, a.agreement, a.expected) for a in before] == [(-1, 0.0, "")] * 2
    assert sources(run_of([16] * 8, ["SSPS", "SSSS"]))[0] == 2


@pytest.mark.parametrize("how", ["the end", "a stop"])
def test_at_the_end_the_left_neighbour_has_to_do(how):
    plans = ["PSSS", read_plan("SSSS", stop=True) if how == "a stop" else "SSSS"]
    seen = run_of([16] * (99 if how == "a stop" else 8), plans)
    assert sources(seen) == dict.fromkeys((1, 2, 3, 4, 5, 6, 7), 0)
    assert seen.results[-1].audits


def test_with_nothing_observed_every_audit_disagrees():
    seen = run_of([16] * 8, [])
    assert {(a.propagated_from, a.agreement) for a in seen.audits} == {(-1, 0.0)}
    assert seen.summary.agreement.estimate == 0


def test_items_hopped_over_are_audited_too():
    seen = run_of([16] * 12, [read_plan("PSSS", hop=4), "PSSS"], AuditRule(0.9, seed=1))
    assert any(4 <= a.ordinal < 8 for a in seen.audits)
    assert seen.reasons == "Pssshhhh" + "Psss"


def test_an_item_that_cannot_be_audited_is_an_error_and_no_audit():
    seen = run_of([16, 16, Broken(), 16], ["PSSS"])
    assert sorted(sources(seen)) == [1, 3]
    assert [error.ordinal for error in seen.results[0].errors] == [2]
    assert seen.reasons == "Psss"
    assert (seen.summary.receipt.num_errors, seen.summary.audit_receipt.num_errors) == (0, 1)


def test_an_item_that_failed_is_not_audited():
    seen = run_of([16, 16, Broken(), 16], ["PSPS"])
    assert sorted(sources(seen)) == [1, 3]


class AuditedRun:
    """A run that looked at some items of a stream, audited with any seed without running again."""

    def __init__(self, source, policy, propagation):
        self.propagation = propagation
        self.full = watch(source, build("policy", "stride", every=1)).outcomes
        seen = watch(source, policy)
        self.window = Block.join([result.window for result in seen.results])
        self.observed = [self.full[i] for i in seen.processed]
        reach = ReachModel(self.window, 1.0)
        reach.take(np.array(seen.processed))
        self.packets = reach.packets()
        self.skipped = np.setdiff1d(np.arange(len(self.window)), seen.processed)
        n = len(self.window)
        self.truth = share_equal(
            carried_labels(seen.outcomes, n, propagation), [self.full[i].label for i in range(n)]
        )

    def audit(self, rule):
        tally = AuditTally(len(self.window), len(self.observed))
        desk = AuditDesk(rule, self.propagation, Brightness().agree, tally, [])
        drawn = desk.draw(self.window, self.skipped, self.packets)
        looked_up = [PendingAudit(self.full[i], weight, None) for i, weight in drawn.items()]
        return tally, desk.settle(None, self.observed, looked_up, final=True)


def test_weights_undo_that_cheap_items_are_drawn_more_often():
    """Keyframes only are looked at; what is cheap to audit agrees, what is dear does not."""
    levels = [16 if i % 30 < 10 else 240 for i in range(900)]
    policy = build("policy", "keyframe")
    run = AuditedRun(ListSource(levels, keyframe_every=30), policy, "forward")
    assert run.truth == pytest.approx(1 / 3)
    weighted, plain = [], []
    for seed in range(400):
        tally, audits = run.audit(AuditRule(0.2, seed))
        weighted.append(tally.agreement().estimate)
        plain.append(1 / 30 + 29 / 30 * np.mean([a.agreement for a in audits]))
    assert abs(np.mean(weighted) - run.truth) < 0.005
    assert abs(np.mean(plain) - run.truth) > 0.05


@pytest.mark.parametrize("propagation", ["two-sided", "forward"])
def test_the_interval_holds_the_true_agreement_in_about_95_of_100_runs(propagation):
    stream = Synthetic(num_items=3000, every=20, keyframe_every=12)
    run = AuditedRun(stream, build("policy", "stride", every=15), propagation)
    found = [run.audit(AuditRule(0.05, seed))[0].agreement() for seed in range(400)]
    inside = np.mean([a.low <= run.truth <= a.high for a in found])
    assert 0.93 <= inside <= 0.98
    assert np.mean([a.high - a.low for a in found]) < 0.2
    assert abs(np.mean([a.estimate for a in found]) - run.truth) < 0.005


def test_the_engine_audits_as_the_desk_does():
    stream = Synthetic(num_items=700, every=20, keyframe_every=12)
    policy = build("policy", "stride", every=15, lookahead=WHOLE_STREAM)
    tally, audits = AuditedRun(stream, policy, "two-sided").audit(AuditRule(0.1, 5))
    seen = watch(stream, policy, audit=AuditRule(0.1, 5))
    assert seen.audits == list(audits)
    assert seen.summary.agreement == tally.agreement()


def test_observed_items_agree_with_themselves():
    tally = AuditTally(num_items=100, num_observed=80)
    for agreement in (1.0, 0.0):
        tally.add(Audit(1, 1, agreement, 10.0, 0, "a", "b"))
    found = tally.agreement()
    assert found.estimate == pytest.approx(0.9)
    assert found.low >= 0.8
    low, high = wilson_interval(0.5, 2)
    assert (found.low, found.high) == pytest.approx((0.8 + 0.2 * low, 0.8 + 0.2 * high))


def test_unequal_weights_count_for_fewer_audits():
    even, uneven = (AuditTally(num_items=100) for _ in range(2))
    for i in range(10):
        even.add(Audit(i, i, float(i % 2), 10.0, 0, "", ""))
        uneven.add(Audit(i, i, float(i % 2), 91.0 if i < 2 else 1.0, 0, "", ""))
    assert uneven.agreement().high - uneven.agreement().low > 1.4 * (
        even.agreement().high - even.agreement().low
    )


def test_a_full_pass_agrees_whatever_is_audited():
    assert AuditTally(num_items=5, num_observed=5).agreement() == Agreement(1.0, 1.0, 1.0, 0)


def test_tallies_of_several_streams_add_up():
    left, right = AuditTally(10, 2), AuditTally(30, 3)
    left.add(Audit(1, 1, 1.0, 4.0, 0, "", ""))
    right.add(Audit(1, 1, 0.0, 2.0, 0, "", ""))
    total = left + right
    assert (total.num_items, total.num_observed, total.num_audits) == (40, 5, 2)
    assert total.summary().agreement == pytest.approx(4 / 6)
    assert total.summary().share_observed == 0.125


def test_an_agreement_says_how_sure_it_is_or_that_nobody_looked():
    assert str(Agreement(0.954, 0.93, 0.97, 400)) == "0.954 (0.930 to 0.970 at 95%, 400 audits)"
    assert str(AuditTally(num_items=9).agreement()) == "not audited"
