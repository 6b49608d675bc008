from fractions import Fraction

import numpy as np
import pytest
from dice import Dice
from hypothesis import given, settings
from hypothesis import strategies as st
from passes import watch

from streamdyn.audit import AuditRule
from streamdyn.budget import Budget, BudgetMeter
from streamdyn.errors import ConfigError
from streamdyn.items import Block
from streamdyn.receipt import Receipt
from streamdyn.registry import build
from streamdyn.testing.recurrent import RunningBrightness
from streamdyn.testing.scripted import ScriptedPolicy, read_plan
from streamdyn.testing.streams import Broken, ListSource
from streamdyn.window import media_seconds

brightness = st.lists(st.integers(0, 255), min_size=1, max_size=60)
dice = st.builds(Dice, st.integers(0, 2**32), st.integers(1, 20), st.just(False))
handing_back = st.builds(Dice, st.integers(0, 2**32), st.integers(1, 20), st.just(True))


@settings(max_examples=200)
@given(brightness, st.one_of(dice, handing_back), st.integers(0, 30), st.floats(0, 1))
def test_a_number_of_items_is_never_exceeded(levels, policy, limit, audit):
    budget, rule = Budget(items=limit), AuditRule(audit)
    seen = watch(ListSource(levels), policy, RunningBrightness(), budget=budget, audit=rule)
    counts = seen.summary.receipt
    assert len(seen.processed) == counts.num_processed + counts.num_partial <= limit
    assert seen.reasons.count("o") == counts.num_over_budget


@settings(max_examples=200)
@given(brightness, dice, st.floats(0.001, 1))
def test_a_share_is_never_exceeded_at_any_closed_window(levels, policy, share):
    seen = watch(ListSource(levels), policy, RunningBrightness(), budget=Budget(share=share))
    spent = passed = 0
    for result in seen.results:
        spent += len(result.outcomes)
        passed += len(result.window)
        assert spent <= share * passed + 1e-6
    assert passed == len(levels)


@settings(max_examples=200)
@given(brightness, handing_back, st.floats(0.001, 1))
def test_a_share_holds_at_the_end_where_items_were_handed_back(levels, policy, share):
    seen = watch(ListSource(levels), policy, RunningBrightness(), budget=Budget(share=share))
    assert len(seen.processed) <= share * len(levels) + 1e-6
    counts = seen.summary.receipt
    assert counts.num_items == len(levels) == len(seen.reasons)
    assert counts.num_over_budget == seen.reasons.count("o")


def test_the_highest_scores_are_kept_and_the_refused_counted():
    scores = np.array([0.1, 0.9, 0.5, 0.9, 0.2, np.nan], np.float32)
    policy = ScriptedPolicy([read_plan("PPPPPP", scores=scores)], lookahead=6)
    seen = watch(ListSource([16] * 6), policy, budget=Budget(items=3))
    assert seen.processed == [1, 2, 3]
    assert seen.reasons == "oPPPoo"
    assert seen.summary.receipt.num_restarts == 0
    assert seen.summary.receipt.num_over_budget == 3
    assert seen.summary.receipt.num_skipped == 3


def test_without_scores_the_earliest_are_kept():
    seen = watch(
        ListSource([16] * 4), ScriptedPolicy(["PPSP"], lookahead=4), budget=Budget(items=2)
    )
    assert seen.reasons == "PPso"


def test_partial_items_are_charged_like_others():
    policy = ScriptedPolicy(["pppp"], lookahead=4)
    seen = watch(ListSource([16] * 4), policy, RunningBrightness(), budget=Budget(items=2))
    assert seen.reasons == "ppoo"


def test_an_item_that_cannot_be_decoded_is_not_charged():
    source = ListSource([Broken(), 16, 16])
    policy = ScriptedPolicy(["POO", "SPP"], lookahead=3)
    seen = watch(source, policy, budget=Budget(items=1))
    assert seen.reasons == "fPo"


def test_what_is_left_unused_can_be_spent_later():
    policy = ScriptedPolicy(["SSSS", "PPPP"], lookahead=4)
    seen = watch(ListSource([16] * 8), policy, budget=Budget(share=0.5))
    assert seen.reasons == "ssssPPPP"


def test_the_policy_sees_what_is_left_shrink_within_a_window():
    policy = ScriptedPolicy(["POOO", "SPPS"], lookahead=4)
    watch(ListSource([16] * 4), policy, budget=Budget(items=3))
    assert [obs.budget_left.items for obs in policy.seen] == [3, 2]


def test_refused_items_that_are_handed_back_count_once_they_are_closed():
    policy = ScriptedPolicy(["PPPP", read_plan("SSSS", done=2)], lookahead=4)
    seen = watch(ListSource([16] * 8), policy, budget=Budget(items=1))
    assert seen.reasons == "Pooo" + "ssss"
    policy = ScriptedPolicy(["PPOO", read_plan("SSSS", done=1), "PPPP"], lookahead=4)
    seen = watch(ListSource([16] * 5), policy, budget=Budget(items=1))
    assert seen.reasons == "Poooo"
    assert seen.summary.receipt.num_over_budget == 4


def test_bisect_stops_asking_when_nothing_is_left():
    policy = build("policy", "bisect", max_doubt=5.0, lookahead=64)
    source = ListSource([(i // 7 * 37) % 256 for i in range(256)])
    free = watch(source, policy)
    seen = watch(source, policy, budget=Budget(share=0.1))
    assert len(seen.processed) <= 25 < len(free.processed)
    assert seen.summary.receipt.num_over_budget <= 25


def test_audits_come_on_top():
    seen = watch(
        ListSource([16] * 40), ScriptedPolicy([]), budget=Budget(items=0), audit=AuditRule(1.0)
    )
    assert seen.processed == []
    assert seen.summary.audit_receipt.num_processed > 20


def test_time_that_the_policy_takes_is_charged():
    meter = BudgetMeter(Budget(ms_per_media_second=10.0))
    meter.pass_by(25, 1.0)
    assert meter.left().milliseconds == 10
    meter.spend(Receipt(policy_ms=4.0, demux_ms=100.0, sink_ms=100.0, queue_ms=9.0))
    assert meter.left().milliseconds == 6
    policy = ScriptedPolicy([], lookahead=4)
    watch(ListSource([16] * 8), policy, budget=Budget(ms_per_media_second=1000.0))
    left = [obs.budget_left.milliseconds for obs in policy.seen]
    assert 0 < left[0] <= 160
    assert left[0] < left[1] < 320


def test_milliseconds_are_turned_into_calls_at_their_mean_price():
    meter = BudgetMeter(Budget(ms_per_media_second=100.0))
    meter.pass_by(25, 1.0)
    assert meter.left().items == 1
    meter.spend(Receipt(num_processed=2, recognize_ms=30.0, decode_ms=10.0))
    assert (meter.left().items, meter.left().milliseconds) == (3, 60)
    meter.spend(Receipt(num_partial=1, recognize_ms=100.0))
    assert (meter.left().items, meter.left().milliseconds) == (0, 0)


def test_a_policy_that_sees_one_item_at_a_time_earns_media_time_too():
    policy = ScriptedPolicy(["S"] * 25 + ["P"], lookahead=1)
    seen = watch(ListSource([16] * 26), policy, budget=Budget(ms_per_media_second=1e6))
    assert seen.reasons == "s" * 25 + "P"


def test_media_time_adds_up_over_windows_handed_back_or_hopped_over():
    plans = [read_plan("SSSS", done=1), read_plan("SSSS", done=3, hop=5), "SSSS"]
    policy = ScriptedPolicy(plans, lookahead=4)
    budget = Budget(ms_per_media_second=1e9)
    watch(ListSource([16] * 40), policy, budget=budget)
    allowed = [obs.budget_left.milliseconds / 1e9 for obs in policy.seen]
    # Items 0..3, 1..4, 9..12, 13..16 and so on, 0.04 s each.
    assert allowed[:4] == pytest.approx([0.16, 0.2, 0.52, 0.68], abs=0.001)
    assert allowed[-1] == pytest.approx(1.6, abs=0.001)


def test_media_time_is_exact_where_the_rate_varies():
    pts = np.array([100, 110, 200, 201, 500])
    zeros = [np.zeros(5, kind) for kind in "?i?ii"]
    block = Block("s", 0, Fraction(1, 100), pts, *zeros)
    whole = media_seconds(block, 90)
    assert whole == pytest.approx(4.1)
    parts = media_seconds(block.slice(0, 2), 90) + media_seconds(block.slice(2, 5), 110)
    assert parts == pytest.approx(whole)
    assert media_seconds(block.slice(0, 1), None) == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"share": 0}, r"budget share must be in \(0, 1\], got 0"),
        ({"share": 1.5}, r"in \(0, 1\], got 1.5"),
        ({"items": -1}, "budget items must not be negative, got -1"),
        ({"ms_per_media_second": -0.5}, "budget ms_per_media_second must not be negative"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        Budget(**wrong)


def test_the_tightest_limit_holds():
    meter = BudgetMeter(Budget(share=0.5, items=3))
    meter.pass_by(4, 0.16)
    assert meter.left().items == 2
    meter.pass_by(96, 3.84)
    assert meter.left().items == 3
    assert BudgetMeter(Budget()).left().items is None
