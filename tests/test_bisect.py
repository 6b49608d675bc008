"""How bisect looks: ends first, then between ends that disagree, where it is cheap to look."""

from fractions import Fraction

import numpy as np
import pytest
from passes import watch

from streamdyn.agents.bisect import MISSING, doubt_per_item
from streamdyn.clock import Pts
from streamdyn.errors import ConfigError
from streamdyn.outcome import Outcome
from streamdyn.registry import build
from streamdyn.testing.recognizers import CountingRecognizer
from streamdyn.testing.streams import Broken, ListSource


def outcome(*labels_and_scores):
    labels, scores = labels_and_scores[::2], labels_and_scores[1::2]
    return Outcome("s", 0, Pts(0, Fraction(1, 25)), "r/1", labels, scores)


def agree(left, right):
    return float(left.label == right.label)


@pytest.mark.parametrize(
    ("left", "right", "doubt"),
    [
        # The best label of each end stands at (0.9 - 0.1) / (0.9 + 0.1) = 0.8 in the other's list.
        (("cat", 0.9, "dog", 0.1), ("cat", 0.9, "dog", 0.1), 0.2),
        # cat is the last in the other's list (0), dog the last in the first's (0).
        (("cat", 0.9, "dog", 0.1), ("dog", 0.9, "cat", 0.1), 1.0),
        (("cat", 0.9, "dog", 0.1), ("bird", 0.9, "fish", 0.1), 1 - MISSING),
        # cat is missing there; bird stands here at (0.6 - 0.3) / (0.6 + 0.3) = 1 / 3.
        (("cat", 0.8, "bird", 0.6, "dog", 0.3), ("bird", 0.9), 1 - (MISSING + 1 / 3) / 2),
        (("cat", 0.0), ("cat", 0.0), 1.0),
        ((), (), 0.0),
        ((), ("cat", 0.9), 1 - MISSING),
    ],
)
def test_doubt_is_read_off_how_each_label_stands_with_the_other_end(left, right, doubt):
    found = doubt_per_item(outcome(*left), outcome(*right), agree)
    assert found == pytest.approx(doubt)
    assert found == pytest.approx(doubt_per_item(outcome(*right), outcome(*left), agree))


class TwoLabels(CountingRecognizer):
    """Sure of its label: an interval between equal ends leaves a fifth of a doubt an item."""

    def _outcome(self, item):
        label = super()._outcome(item).label
        return Outcome(item.stream, item.ordinal, item.pts, "two/1", (label, "other"), (0.9, 0.1))


def looked_at(levels, recognizer=None, keyframe_every=1, **options):
    calls = recognizer or TwoLabels()
    policy = build("policy", "bisect", **{"thrift": 0.0, **options})
    seen = watch(ListSource(levels, keyframe_every=keyframe_every), policy, calls)
    return calls, seen


def test_between_ends_that_agree_surely_nothing_is_looked_at():
    calls, _ = looked_at([16] * 100, max_doubt=30.0, lookahead=100)
    assert calls.ordinals == [0, 99]


def test_between_ends_that_disagree_it_closes_in_on_the_change():
    calls, seen = looked_at([16] * 37 + [240] * 63, max_doubt=6.0, lookahead=100)
    assert calls.ordinals[:2] == [0, 99]
    assert calls.ordinals[2] == 49
    near = [i for i in seen.processed if 30 < i < 44]
    assert min(abs(i - 36.5) for i in near) <= 4
    before, after = (max(i for i in near if i < 37), min(i for i in near if i >= 37))
    assert after - before <= 4


def test_an_interval_no_longer_than_the_smallest_gap_is_never_split():
    _, seen = looked_at([16, 240] * 40, max_doubt=0.1, min_gap=8, lookahead=80)
    assert np.diff(seen.processed).min() >= 4
    _, seen = looked_at([16, 240] * 40, max_doubt=0.1, min_gap=1, lookahead=80)
    assert len(seen.processed) == 80


def test_the_ends_are_shared_by_neighbouring_windows():
    calls, _ = looked_at([16] * 100, max_doubt=30.0, lookahead=25)
    assert calls.ordinals == [0, 24, 49, 74, 99]


def test_a_change_between_two_windows_is_found_with_what_is_left_of_the_first():
    _, seen = looked_at([16] * 50 + [240] * 50, max_doubt=6.0, lookahead=50)
    last_dark = max(i for i, o in seen.outcomes.items() if o.label == "black")
    first_light = min(i for i, o in seen.outcomes.items() if o.label == "white")
    assert last_dark == 49
    assert first_light <= 53


def test_a_gop_between_keyframes_that_agree_is_never_decoded():
    _, seen = looked_at([16] * 600, keyframe_every=30, max_doubt=20.0, lookahead=256, thrift=0.3)
    assert all(i % 30 == 0 for i in seen.processed[:-1])
    assert seen.summary.receipt.num_decoded <= len(seen.processed) + 29


def test_the_end_of_the_stream_is_looked_at_though_the_last_keyframe_is_long_past():
    _, seen = looked_at([16] * 120 + [240] * 60, keyframe_every=100, max_doubt=20.0, lookahead=180)
    assert seen.processed[-1] >= 180 - 21
    assert seen.outcomes[seen.processed[-1]].label == "white"
    _, seen = looked_at([16] * 115, keyframe_every=100, max_doubt=20.0, lookahead=180)
    assert seen.processed == [0, 100]


def test_thrift_spares_dear_middles():
    levels = [16 if i // 50 % 2 else 240 for i in range(800)]
    _, lavish = looked_at(levels, keyframe_every=100, max_doubt=10.0, lookahead=200)
    _, thrifty = looked_at(levels, keyframe_every=100, max_doubt=10.0, lookahead=200, thrift=50.0)
    assert thrifty.summary.receipt.num_decoded < lavish.summary.receipt.num_decoded


@pytest.mark.parametrize("num_items", [1, 2, 3])
def test_the_shortest_streams_are_seen_at_their_ends(num_items):
    _, seen = looked_at([16] * num_items, lookahead=100)
    assert seen.processed == sorted({0, num_items - 1})


def test_where_an_end_cannot_be_decoded_the_next_item_has_to_do():
    levels = [Broken(), Broken(), *[16] * 46, Broken(), Broken()]
    _, seen = looked_at(levels, max_doubt=30.0, lookahead=50)
    assert seen.reasons.startswith("ffP")
    assert seen.reasons.endswith("Pff")


def test_a_stream_of_which_nothing_can_be_decoded_is_closed():
    _, seen = looked_at([Broken()] * 30, lookahead=10)
    assert seen.reasons == "f" * 30


def test_a_text_recognizer_without_labels_is_asked_whether_it_agrees():
    class Silent(TwoLabels):
        def _outcome(self, item):
            level = str(int(item.data.mean()))
            return Outcome(item.stream, item.ordinal, item.pts, "text/1", text=level)

        def agree(self, propagated, looked_up):
            return float(propagated.text == looked_up.text)

    calls, _ = looked_at([16] * 100, Silent(), max_doubt=30.0, lookahead=100)
    assert calls.ordinals == [0, 99]
    calls, _ = looked_at([16] * 50 + [240] * 50, Silent(), max_doubt=30.0, lookahead=100)
    assert len(calls.ordinals) > 3


@pytest.mark.parametrize(
    "wrong", [{"max_doubt": 0}, {"min_gap": 0}, {"lookahead": 1}, {"thrift": -1}]
)
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match="bisect needs max_doubt > 0"):
        build("policy", "bisect", **wrong)
