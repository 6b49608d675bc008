"""How agreement turns the knob of the policy it wraps, audit by audit."""

from dataclasses import replace
from fractions import Fraction
from math import exp

import numpy as np
import pytest

from streamdyn.errors import ConfigError, UnknownName
from streamdyn.items import Block
from streamdyn.observation import AuditSummary, Observation
from streamdyn.registry import build

STEP = 0.2


def tuner(**options):
    return build("policy", "agreement", **{"target": 0.9, "margin": 0.0, "step": STEP, **options})


def shown(first, *, num_audits=0, agreement=1.0, weight=10.0, share=0.1):
    """A window, and the audits so far, all of the same weight."""
    pts = np.arange(first, first + 8)
    return Observation(
        window=Block("s", first, Fraction(1, 25), pts, *[np.zeros(8, k) for k in "?i?ii"]),
        status=np.zeros(8, np.uint8),
        ended=False,
        reach_cost_ms=np.zeros(8, np.float32),
        agree=lambda left, right: 1.0,
        audits=AuditSummary(num_audits, weight * num_audits, agreement, share),
    )


def turned(policy, *windows):
    """Where the knob stands after each window."""
    state, values = policy.initial_state(), []
    for obs in windows:
        _, state = policy.decide(obs, state)
        values.append(state.value)
    return values


REQUIRED = (0.9 - 0.1) / (1 - 0.1)
"""Of the skipped items, where a tenth is observed."""


def test_without_new_audits_the_knob_stays():
    start = build("policy", "bisect").max_doubt
    assert turned(tuner(), shown(0), shown(8), shown(16)) == [start] * 3


def test_an_agreeing_audit_opens_the_knob_a_little():
    start, after = turned(tuner(), shown(0), shown(8, num_audits=1))
    assert after == pytest.approx(start * exp(STEP * (1 - REQUIRED)))


def test_a_disagreeing_audit_closes_it_by_nearly_a_step():
    start, after = turned(tuner(), shown(0), shown(8, num_audits=1, agreement=0.0))
    assert after == pytest.approx(start * exp(-STEP * REQUIRED))


def test_at_the_target_the_knob_comes_back_to_where_it_was():
    start, after = turned(tuner(), shown(0), shown(8, num_audits=900, agreement=REQUIRED))
    assert after == pytest.approx(start)


def test_the_margin_is_aimed_at_on_top_of_the_target():
    plain = turned(tuner(target=0.95), shown(0, num_audits=1))
    assert turned(tuner(margin=0.05), shown(0, num_audits=1)) == pytest.approx(plain)


def test_each_audit_counts_once():
    values = turned(tuner(), *(shown(8 * i, num_audits=3, agreement=0.0) for i in range(3)))
    assert values[0] == values[1] == values[2]


def test_an_audit_that_stands_for_more_items_counts_for_more():
    policy = tuner()
    state = policy.initial_state()
    _, state = policy.decide(shown(0, num_audits=1), state)
    before = state.value
    # One of weight 30 that disagrees; the mean weight of both is 20.
    summary = AuditSummary(2, 40.0, 10.0 / 40.0, 0.1)
    _, state = policy.decide(replace(shown(8), audits=summary), state)
    assert state.value == pytest.approx(before * exp(-STEP * REQUIRED * 30 / 20))


def test_the_knob_is_turned_between_windows_only():
    policy = tuner()
    first, second = shown(0), replace(shown(0, num_audits=5, agreement=0.0))
    values = turned(policy, first, second, shown(8, num_audits=5, agreement=0.0))
    assert values[0] == values[1] > values[2]


def test_the_knob_keeps_within_its_range():
    _, finest, coarsest = build("policy", "bisect").knob
    values = turned(
        tuner(), shown(0, num_audits=999, agreement=0.0), shown(8, num_audits=99999, weight=99.0)
    )
    assert values == [finest, coarsest]


def test_where_enough_is_observed_skipped_items_need_not_agree_at_all():
    obs = shown(0, num_audits=4, agreement=0.0, share=0.95)
    assert turned(tuner(), obs) == [build("policy", "bisect").max_doubt]


def test_a_whole_number_is_tuned_in_whole_steps():
    policy = tuner(inner="stride", options={"every": 10})
    state = replace(policy.initial_state(), value=3.4)
    plan, _ = policy.decide(shown(0), state)
    assert repr(plan).startswith("Plan(PSSPSSPS,")


def test_what_the_inner_policy_looks_at_is_shown():
    policy = tuner(inner="change", options={"lookahead": 17})
    inner = build("policy", "change", lookahead=17)
    assert (policy.lookahead, policy.previews, policy.glances) == (
        17, inner.previews, inner.glances,
    )  # fmt: skip


def test_another_stream_starts_from_the_knob_and_from_nothing_else():
    policy = tuner()
    _, state = policy.decide(shown(0, num_audits=9, agreement=0.0), policy.initial_state())
    carried = policy.carry_over(state)
    assert carried == replace(policy.initial_state(), value=state.value)
    assert carried.value < policy.initial_state().value


def test_without_audits_it_says_what_to_set():
    policy = tuner()
    with pytest.raises(ConfigError, match=r"this run has none; set an audit rate \(--audit"):
        policy.decide(replace(shown(0), audits=None), policy.initial_state())


def test_a_policy_without_a_knob_is_refused_with_those_that_have_one():
    with pytest.raises(ConfigError, match=r"policy 'uniform_k': .* one that has: bisect, change,"):
        tuner(inner="uniform_k")


def test_an_unknown_inner_policy_or_option_is_named():
    with pytest.raises(UnknownName, match="no policy is called 'bisekt'"):
        tuner(inner="bisekt")
    with pytest.raises(UnknownName, match="no option of policy bisect is called 'max_dout'"):
        tuner(options={"max_dout": 3})


@pytest.mark.parametrize("wrong", [{"target": 1.0}, {"target": 0}, {"step": 0}, {"margin": -0.1}])
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"agreement needs target in \(0, 1\)"):
        tuner(**wrong)
