from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdyn.clock import Pts
from streamdyn.errors import ConfigError
from streamdyn.items import Block, FrameSpec, Item, Selection
from streamdyn.observation import Observation
from streamdyn.plan import FULL_EFFORT, Action, Effort, Plan
from streamdyn.testing.scripted import ScriptedPolicy, read_plan

TIME_BASE = Fraction(1, 25)


def block(n=12, first=0, **changed):
    ordinals = np.arange(first, first + n)
    arrays = {
        "pts": ordinals * 2,
        "keyframe": ordinals % 4 == 0,
        "num_bytes": (ordinals + 100).astype(np.int32),
        "disposable": ordinals % 4 == 3,
        "gop": (ordinals // 4).astype(np.int32),
        "reach": (ordinals % 4 + 1).astype(np.int32),
    }
    return Block("s", first, TIME_BASE, **{**arrays, **changed})


def item(ordinal, shape=(2, 3, 3)):
    return Item("s", ordinal, Pts(ordinal, TIME_BASE), np.zeros(shape, np.uint8))


def test_a_block_says_which_of_its_arrays_has_another_length():
    with pytest.raises(ValueError, match=r"shape \(N,\), got .*'gop': \(3,\)"):
        block(gop=np.zeros(3, np.int32))


def test_a_block_has_items():
    with pytest.raises(ValueError, match="N > 0 items"):
        block(0)


@pytest.mark.parametrize("pts", [[0, 1, 1], [0, 2, 1]])
def test_pts_of_a_block_strictly_increase(pts):
    with pytest.raises(ValueError, match=r"pts must strictly increase, got \[0, "):
        block(3, pts=np.array(pts))


@given(st.integers(1, 20), st.lists(st.integers(1, 19), unique=True), st.integers(0, 50))
def test_a_block_cut_anywhere_is_the_same_when_joined(n, cuts, first):
    whole = block(n, first)
    ends = [0, *sorted(cut for cut in cuts if cut < n), n]
    joined = Block.join([whole.slice(a, b) for a, b in pairwise(ends)])
    assert (joined.stream, joined.first, joined.stop) == ("s", first, first + n)
    assert joined.time_base == TIME_BASE
    for name in ("pts", "keyframe", "num_bytes", "disposable", "gop", "reach"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
        assert getattr(joined, name).dtype == getattr(whole, name).dtype


def test_a_slice_keeps_the_ordinals_and_times_of_its_items():
    part = block(12, first=100).slice(3, 7)
    assert (part.first, part.stop, len(part)) == (103, 107, 4)
    assert part.pts_at(0) == Pts(206, TIME_BASE)
    assert part.pts_at(-1) == Pts(212, TIME_BASE)


@pytest.mark.parametrize("second", [13, 11])
def test_blocks_with_a_gap_or_an_overlap_do_not_join(second):
    with pytest.raises(ValueError, match=r"do not follow each other: Block\('s', items 0..12"):
        Block.join([block(12), block(4, first=second)])


def test_a_block_prints_its_range_and_keyframes():
    assert repr(block(12)) == "Block('s', items 0..12, 0.000s..0.880s, 3 keyframes)"


@pytest.mark.parametrize("side", ["width", "height"])
def test_a_picture_is_at_least_one_pixel_wide_and_high(side):
    with pytest.raises(ValueError, match=f"{side} must be at least 1 pixel, got 0"):
        FrameSpec(**{"width": 8, "height": 8, side: 0})


def test_a_selection_has_an_action_and_an_effort_for_each_item():
    with pytest.raises(ValueError, match=r"lengths = \(2, 1, 2\)"):
        Selection((item(0), item(1)), (Action.PROCESS,), (FULL_EFFORT,) * 2)


def test_a_selection_is_not_empty():
    with pytest.raises(ValueError, match="a selection needs"):
        Selection((), (), ())


def test_a_selection_stacks_items_of_one_shape():
    chosen = Selection((item(0), item(1)), (Action.PROCESS,) * 2, (FULL_EFFORT,) * 2)
    assert chosen.stack().shape == (2, 2, 3, 3)
    assert repr(chosen).startswith("Selection(2 items, first Item('s', frame 0, uint8[2, 3, 3]")


@pytest.mark.parametrize("name", ["depth", "fraction"])
@pytest.mark.parametrize("value", [0, -0.1, 1.01])
def test_an_effort_is_a_share_above_nothing(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be in \(0, 1\], got {value}"):
        Effort(**{name: value})


def test_an_effort_asks_for_at_least_a_pixel():
    with pytest.raises(ValueError, match="resolution must be at least 1 pixel, got 0"):
        Effort(resolution=0)


def test_actions_are_bytes_of_one_row():
    with pytest.raises(ValueError, match=r"uint8 of shape \(N,\), got int64 of shape \(3,\)"):
        Plan(np.zeros(3, np.int64))
    with pytest.raises(ValueError, match=r"got uint8 of shape \(1, 3\)"):
        Plan(np.zeros((1, 3), np.uint8))


def test_scores_are_as_many_as_actions():
    with pytest.raises(ValueError, match=r"scores.shape = \(2,\) must equal .* = \(3,\)"):
        read_plan("PSS", scores=np.zeros(2, np.float32))


@pytest.mark.parametrize("done", [0, 4, -1])
def test_done_counts_items_of_the_plan(done):
    with pytest.raises(ValueError, match=rf"done must be in 1..3, got {done}"):
        read_plan("PSS", done=done)


def test_a_hop_goes_forward():
    with pytest.raises(ValueError, match="hop must not be negative, got -1"):
        read_plan("PSS", hop=-1)


@pytest.mark.parametrize("chosen", [[0, 3], np.array([True, False, False, True])])
def test_process_only_takes_indices_or_a_mask(chosen):
    assert repr(Plan.process_only(4, chosen, hop=2)) == "Plan(PSSP, done=None, hop=2, stop=False)"


def test_a_plan_prints_one_letter_an_item_and_cuts_what_is_long():
    letters = "OSGpP" * 20
    assert repr(read_plan(letters)).startswith(f"Plan({letters[:60]}…, done=None")


def test_a_plan_with_an_unknown_action_can_still_be_printed():
    assert "Plan(P?," in repr(Plan(np.array([4, 9], np.uint8)))


def test_a_plan_is_read_back_from_what_it_prints():
    plan = read_plan("PSSS OGp")
    np.testing.assert_array_equal(plan.actions, [4, 1, 1, 1, 0, 2, 3])
    with pytest.raises(ConfigError, match="'x' is none of 'OSGpP'"):
        read_plan("PSx")


def test_a_scripted_policy_plays_its_plans_and_then_skips():
    policy = ScriptedPolicy(["PS"])
    obs = Observation(
        window=block(2),
        status=np.zeros(2, np.uint8),
        ended=True,
        reach_cost_ms=np.zeros(2, np.float32),
        agree=lambda left, right: 1.0,
    )
    plan, state = policy.decide(obs, policy.initial_state())
    assert repr(plan).startswith("Plan(PS,")
    plan, state = policy.decide(obs, state)
    assert repr(plan).startswith("Plan(SS,")
    assert (state, policy.seen) == (1, [obs, obs])
