import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdyn.timeline import propagate, runs

EVEN = np.arange(7)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("two-sided", [0, 0, 0, 5, 5, 5, 5]), ("forward", [0, 0, 0, 0, 0, 5, 5])],
)
def test_the_picture_in_the_docstring_is_true(mode, expected):
    np.testing.assert_array_equal(propagate(EVEN, [0, 5], mode), expected)


def test_a_tie_goes_to_the_earlier_one():
    np.testing.assert_array_equal(propagate(np.arange(5), [0, 4]), [0, 0, 0, 4, 4])


def test_nearness_is_in_time_not_in_items():
    pts = np.array([0, 80, 90, 100])
    np.testing.assert_array_equal(propagate(pts, [0, 3]), [0, 3, 3, 3])


def test_before_the_first_observed_item_only_two_sided_knows_something():
    np.testing.assert_array_equal(propagate(EVEN, [3], "forward"), [-1, -1, -1, 3, 3, 3, 3])
    np.testing.assert_array_equal(propagate(EVEN, [3], "two-sided"), [3] * 7)


@pytest.mark.parametrize("mode", ["two-sided", "forward"])
def test_with_nothing_observed_nothing_is_known(mode):
    np.testing.assert_array_equal(propagate(EVEN, [], mode), [-1] * 7)


def test_far_ticks_do_not_overflow():
    pts = np.array([-(1 << 61), 0, 1 << 61])
    np.testing.assert_array_equal(propagate(pts, [0, 2]), [0, 0, 2])


def brute_force(pts, observed, mode):
    found = []
    for i, now in enumerate(pts):
        if mode == "forward":
            found.append(max((o for o in observed if o <= i), default=-1))
        else:
            near = min(((abs(pts[o] - now), o) for o in observed), default=(0, -1))
            found.append(near[1])
    return found


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=30).flatmap(
        lambda gaps: st.tuples(st.just(gaps), st.sets(st.integers(0, len(gaps) - 1)))
    ),
    st.integers(-50, 50),
    st.sampled_from(["two-sided", "forward"]),
)
def test_propagation_equals_a_search_over_all_observed_items(made, start, mode):
    gaps, observed = made
    pts = start + np.cumsum(gaps)
    expected = brute_force(pts.tolist(), sorted(observed), mode)
    assert propagate(pts, sorted(observed), mode).tolist() == expected


def test_an_observed_item_stands_for_itself():
    np.testing.assert_array_equal(propagate(EVEN, list(range(7))), range(7))


def test_runs_are_half_open_and_cover_all():
    assert runs(["a", "a", "b", "a"]) == [(0, 2), (2, 3), (3, 4)]
    assert runs(["a"]) == [(0, 1)]
    assert runs([]) == []
