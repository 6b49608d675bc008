"""Bisect and agreement on streams whose truth and best plan are known; fixed seeds, no training."""

import numpy as np
import pytest
from passes import carried_labels, share_equal, watch

from streamdyn.audit import AuditRule
from streamdyn.recognizers.brightness import BUCKETS
from streamdyn.registry import build
from streamdyn.sources.synthetic import Synthetic
from streamdyn.testing.streams import ListSource
from streamdyn.timeline import runs


def best_stride(stream, num_processed):
    """Agreement of the stride that looks at as many items, at least."""
    every = stream.num_items // num_processed
    seen = watch(stream, build("policy", "stride", every=every))
    assert len(seen.processed) >= num_processed
    return share_equal(carried_labels(seen.outcomes, stream.num_items), stream.truth)


@pytest.mark.parametrize("seed", range(4))
def test_bisect_finds_every_scene_at_a_fraction_of_the_items(seed):
    stream = Synthetic(num_items=6000, every=100, keyframe_every=30, seed=seed)
    seen = watch(stream, build("policy", "bisect", max_doubt=30.0, lookahead=256))
    labels = [outcome.label for outcome in seen.outcomes.values()]
    found = [labels[start] for start, _ in runs(labels)]
    # What begins after the last item looked at is at most as long as a doubt is left alone.
    scenes = [i for i in stream.best_plan if i <= seen.processed[-1]]
    assert found == [stream.truth[i] for i in scenes]
    assert seen.processed[-1] >= 6000 - 31
    assert len(seen.processed) < 0.06 * 6000
    carried = carried_labels(seen.outcomes, 6000)
    agreement = share_equal(carried, stream.truth)
    assert agreement > 0.95
    assert agreement > best_stride(stream, len(seen.processed)) + 0.01


@pytest.mark.parametrize("seed", range(3))
def test_a_finer_bisect_finds_every_change_within_a_few_items(seed):
    stream = Synthetic(num_items=3000, every=100, keyframe_every=30, seed=seed)
    policy = build("policy", "bisect", max_doubt=15.0, min_gap=1, lookahead=256, thrift=0.0)
    seen = watch(stream, policy)
    carried = carried_labels(seen.outcomes, 3000)
    found = np.array([start for start, _ in runs(carried)])
    assert np.abs(found - np.array(stream.best_plan)).max() <= 8
    assert len(seen.processed) < 0.15 * 3000


def correct(source, truth, target, **inner):
    """`(N,)` bool: whether the label carried to each item is right; what was processed; the run."""
    policy = build("policy", "agreement", target=target, options={"lookahead": 256, **inner})
    seen = watch(source, policy, audit=AuditRule(0.1))
    carried = carried_labels(seen.outcomes, len(truth))
    return np.array(carried) == np.array(truth), np.array(seen.processed), seen


@pytest.mark.parametrize(("target", "every"), [(0.9, 40), (0.9, 100), (0.95, 100)])
def test_agreement_holds_its_target_and_spends_no_more_than_it_must(target, every):
    stream = Synthetic(num_items=30_000, every=every, keyframe_every=30)
    right, processed, seen = correct(stream, stream.truth, target)
    assert abs(right[10_000:].mean() - target) < 0.02
    estimate = seen.summary.agreement
    assert estimate.low <= right.mean() <= estimate.high
    assert len(processed) < 0.1 * 30_000


def test_a_higher_target_costs_more():
    stream = Synthetic(num_items=10_000, every=60, keyframe_every=30)
    costs = [len(correct(stream, stream.truth, target)[1]) for target in (0.8, 0.9, 0.95)]
    assert costs[0] < costs[1] < costs[2]


@pytest.mark.parametrize("start", [3.0, 150.0])
def test_agreement_gets_there_from_either_side(start):
    stream = Synthetic(num_items=20_000, every=60, keyframe_every=30)
    right, _, _ = correct(stream, stream.truth, 0.9, max_doubt=start)
    assert abs(right[10_000:].mean() - 0.9) < 0.02


def test_agreement_follows_a_drift_in_the_middle():
    """Slow scenes, then four times as many, then slow ones again."""
    parts = [
        Synthetic(num_items=15_000, every=every, seed=seed)
        for seed, every in enumerate((120, 30, 120))
    ]
    truth = [label for part in parts for label in part.truth]
    levels = [BUCKETS.index(label) * 32 + 16 for label in truth]
    right, processed, _ = correct(ListSource(levels, keyframe_every=30), truth, 0.9)
    shares = np.histogram(processed, 3, (0, 45_000))[0] / 15_000
    assert shares[1] > 2 * shares[0]
    assert shares[1] > 2 * shares[2]
    for part in range(3):
        settled = right[15_000 * part + 7_500 : 15_000 * (part + 1)]
        assert abs(settled.mean() - 0.9) < 0.025, part


def test_agreement_tunes_a_stride_as_well():
    stream = Synthetic(num_items=30_000, every=60, keyframe_every=30)
    policy = build("policy", "agreement", target=0.9, inner="stride", options={"every": 100})
    seen = watch(stream, policy, audit=AuditRule(0.1))
    right = np.array(carried_labels(seen.outcomes, 30_000)) == np.array(stream.truth)
    assert abs(right[15_000:].mean() - 0.9) < 0.02
    assert seen.summary.policy_state.value < 60
