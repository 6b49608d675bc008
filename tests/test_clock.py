from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdyn.clock import Pts, format_seconds

times = st.builds(
    Pts,
    st.integers(-(10**12), 10**12),
    st.fractions(min_value=Fraction(1, 10**6), max_value=10, max_denominator=10**6),
)


def test_the_same_time_in_two_time_bases_is_equal_and_hashes_alike():
    left, right = Pts(1, Fraction(1, 25)), Pts(3600, Fraction(1, 90000))
    assert left == right
    assert hash(left) == hash(right)
    assert len({left, right}) == 1


def test_ntsc_time_does_not_drift():
    assert Pts(30000 * 3600, Fraction(1001, 30000)).exact == 1001 * 3600


def test_times_a_tick_apart_after_a_century_are_told_apart():
    century = 100 * 365 * 86400 * 10**6
    earlier, later = (Pts(century + i, Fraction(1, 10**6)) for i in (0, 1))
    assert earlier.seconds != 0
    assert earlier < later
    assert earlier != later


@given(times, times)
def test_times_are_ordered_as_their_fractions_are(left, right):
    exact = left.ticks * left.time_base, right.ticks * right.time_base
    assert (left < right, left == right) == (exact[0] < exact[1], exact[0] == exact[1])
    assert (left <= right, left > right) == (exact[0] <= exact[1], exact[0] > exact[1])


def test_a_time_is_not_equal_to_a_number():
    assert Pts(0, Fraction(1)) != 0


@pytest.mark.parametrize("time_base", [Fraction(0), Fraction(-1, 25)])
def test_a_time_base_must_be_positive(time_base):
    with pytest.raises(ValueError, match=f"time_base must be positive, got {time_base}"):
        Pts(1, time_base)


def test_a_time_prints_its_ticks_and_seconds():
    assert repr(Pts(300300, Fraction(1, 90000))) == "Pts(300300*1/90000=3.337s)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00:00.000"),
        (59.9994, "0:00:59.999"),
        (59.9996, "0:01:00.000"),
        (3599.9996, "1:00:00.000"),
        (360_000, "100:00:00.000"),
        (-1.5, "-0:00:01.500"),
        (-0.0001, "0:00:00.000"),
    ],
)
def test_seconds_are_written_as_people_do(seconds, text):
    assert format_seconds(seconds) == text
