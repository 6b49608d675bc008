"""What reaching an item costs, by hand, by brute force, and against a decoder that counts.

```
index      0 1 2 3 4 5 6 7
coded      K P b P K P P P       b is disposable
reach      1 2 3 3 1 2 3 4
at first   1 2 3 3 1 2 3 4       from the keyframes
after 2    0 0 0 1 1 2 3 4       K P b are decoded, the decoder stands before 3
after 3    0 0 3 0 1 2 3 4       b was left out on the way: starting at K again
after 6    1 2 3 3 0 0 0 1       the other GOP is untouched
```
"""

import numpy as np
import pytest
from coded_blocks import coded_block
from hypothesis import given
from hypothesis import strategies as st

from streamdyn.items import Block, FrameSpec
from streamdyn.reach import ReachModel, nominal_ms_per_packet
from streamdyn.sources.synthetic import Synthetic

PICTURE = "KPbPKPPP"


def test_at_first_an_item_costs_its_reach():
    np.testing.assert_array_equal(
        ReachModel(coded_block(PICTURE), 1.0).packets(), [1, 2, 3, 3, 1, 2, 3, 4]
    )


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([2], [0, 0, 0, 1, 1, 2, 3, 4]),
        ([3], [0, 0, 3, 0, 1, 2, 3, 4]),
        ([3, 2], [0, 0, 0, 0, 1, 2, 3, 4]),
        ([6], [1, 2, 3, 3, 0, 0, 0, 1]),
    ],
)
def test_after_an_item_the_decoder_stands_behind_it(taken, expected):
    model = ReachModel(coded_block(PICTURE), 1.0)
    for index in taken:
        model.take(np.array([index]))
    np.testing.assert_array_equal(model.packets(), expected)


def test_a_window_in_the_middle_of_a_gop_is_priced_from_its_first_item():
    window = coded_block(PICTURE).slice(5, 8)
    np.testing.assert_array_equal(ReachModel(window, 1.0).packets(), [1, 2, 3])


def test_a_window_that_begins_with_a_keyframe_pays_for_it():
    np.testing.assert_array_equal(
        ReachModel(coded_block(PICTURE).slice(4, 8), 1.0).packets(), [1, 2, 3, 4]
    )


def test_a_model_cut_off_remembers_what_was_decoded():
    model = ReachModel(coded_block(PICTURE), 1.0)
    model.take(np.array([3]))
    np.testing.assert_array_equal(model.first_items(3).packets(), [0, 0, 3])
    np.testing.assert_array_equal(model.first_items(5).packets(), [0, 0, 3, 0, 1])
    model.take(np.array([2]))
    np.testing.assert_array_equal(model.first_items(4).packets(), [0, 0, 0, 0])


class BruteForce:
    """Which packets of each GOP are decoded, packet by packet."""

    def __init__(self, window: Block) -> None:
        self.window = window
        self.decoded: set[int] = set()
        self.keyframe_of = np.maximum.accumulate(np.where(window.keyframe, range(len(window)), 0))

    def needed(self, index: int) -> list[int]:
        """All that decoding `index` from its keyframe feeds."""
        between = range(int(self.keyframe_of[index]), index)
        return [*(i for i in between if not self.window.disposable[i]), index]

    def cost(self, index: int) -> int:
        needed = self.needed(index)
        missing = [i for i in needed if i not in self.decoded]
        later = [
            i
            for i in self.decoded
            if i > index and self.keyframe_of[i] == needed[0] and not self.window.disposable[i]
        ]
        return len(needed) if missing and later else len(missing)

    def take(self, index: int) -> None:
        self.decoded |= set(self.needed(index))


gops = st.text("Pb", min_size=0, max_size=6).map("K{}".format)


@given(st.lists(gops, min_size=1, max_size=4).map("".join), st.data())
def test_prices_equal_those_of_counting_packets(coded, data):
    window = coded_block(coded)
    model, by_hand = ReachModel(window, 1.0), BruteForce(window)
    for _ in range(data.draw(st.integers(0, 5))):
        index = data.draw(st.integers(0, len(coded) - 1))
        model.take(np.array([index]))
        by_hand.take(index)
    expected = [by_hand.cost(i) for i in range(len(coded))]
    assert model.packets().tolist() == expected


@given(st.sets(st.integers(0, 89), min_size=1))
def test_prices_in_order_are_what_a_decoder_is_fed(chosen):
    cursor = Synthetic(num_items=90, keyframe_every=30).open()
    window = Block.join([cursor.next_block() for _ in range(3)])
    model = ReachModel(window, 1.0)
    for ordinal in sorted(chosen):
        cursor.take_receipt()
        cursor.materialize([ordinal], FrameSpec(8, 8))
        assert cursor.take_receipt().num_decoded == model.packets()[ordinal]
        model.take(np.array([ordinal]))


def test_prices_in_milliseconds_follow_the_size_of_the_picture():
    assert nominal_ms_per_packet(1920, 1080) == pytest.approx(3.73, abs=0.01)
    assert nominal_ms_per_packet(0, 0) == 0.05
    cost = ReachModel(coded_block("KP"), 0.5).cost_ms()
    assert (cost.dtype, cost.tolist()) == (np.float32, [0.5, 1.0])
