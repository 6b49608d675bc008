from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from streamdyn.clock import Pts
from streamdyn.items import Block
from streamdyn.observation import Observation, Status
from streamdyn.outcome import Outcome
from streamdyn.receipt import STAGES, Receipt

OUTCOME = Outcome("s", 7, Pts(14, Fraction(1, 50)), "lite0/1", ("cat", "dog"), (0.75, 0.25))


def test_an_outcome_has_the_same_id_whatever_was_said():
    assert replace(OUTCOME, labels=("dog",), scores=(1.0,), ordinal=8).id == OUTCOME.id


@pytest.mark.parametrize(
    "change",
    [
        {"stream": "t"},
        {"pts": Pts(15, Fraction(1, 50))},
        {"pts": Pts(14, Fraction(1, 25))},
        {"recognizer": "lite0/2"},
    ],
    ids=str,
)
def test_an_outcome_of_another_item_or_recognizer_has_another_id(change):
    assert replace(OUTCOME, **change).id != OUTCOME.id


def test_stream_and_pts_cannot_be_shifted_into_each_other():
    left = replace(OUTCOME, stream="a1", pts=Pts(2, Fraction(1, 50)))
    right = replace(OUTCOME, stream="a", pts=Pts(12, Fraction(1, 50)))
    assert left.id != right.id


def test_the_best_label_comes_first_and_may_be_missing():
    assert (OUTCOME.label, OUTCOME.score) == ("cat", 0.75)
    silent = replace(OUTCOME, labels=(), scores=())
    assert (silent.label, silent.score) == ("", 0.0)


def test_an_outcome_has_a_score_for_each_label():
    with pytest.raises(ValueError, match=r"len\(self.labels\) = 2 must equal .* = 1"):
        replace(OUTCOME, scores=(0.5,))


def test_an_outcome_prints_the_size_of_its_embedding_not_its_numbers():
    outcome = replace(OUTCOME, embedding=np.zeros(1280, np.float16), text="x" * 99)
    assert "embedding=float16[1280], text='" + "x" * 30 + "'" in repr(outcome)
    assert "'cat' 0.75, embedding=none" in repr(OUTCOME)


def test_glanced_items_are_open_too():
    n = len(Status)
    window = Block("s", 0, Fraction(1, 25), np.arange(n), *[np.zeros(n, kind) for kind in "?i?ii"])
    obs = Observation(
        window=window,
        status=np.array(list(Status), np.uint8),
        ended=True,
        reach_cost_ms=np.zeros(n, np.float32),
        agree=lambda left, right: 1.0,
    )
    assert obs.num_open == 2
    assert "2 open, 0 outcomes" in repr(obs)


def test_receipts_add_up_field_by_field():
    left = Receipt(**{name: i for i, name in enumerate(Receipt().as_dict())})
    right = Receipt(**{name: 100 * i for i, name in enumerate(Receipt().as_dict())})
    assert (left + right).as_dict() == {n: 101 * i for i, n in enumerate(Receipt().as_dict())}


def test_a_sum_of_receipts_leaves_them_alone():
    left, right = Receipt(num_items=1), Receipt(num_items=2)
    total = left
    total += right
    assert (left.num_items, right.num_items, total.num_items) == (1, 2, 3)


@pytest.mark.parametrize("stage", STAGES)
def test_the_time_of_a_stage_is_booked_even_when_it_fails(stage):
    receipt = Receipt()
    with pytest.raises(KeyError), receipt.timed(stage):
        raise KeyError
    spent = receipt.as_dict()
    assert spent.pop(f"{stage}_ms") > 0
    assert receipt.total_ms == getattr(receipt, f"{stage}_ms")
    assert not any(spent.values())


def test_the_share_recognized_counts_partial_calls_too():
    assert Receipt(num_items=10, num_processed=2, num_partial=3).share_recognized == 0.5
    assert Receipt().share_recognized == 0


def test_a_receipt_prints_what_is_not_nothing():
    assert repr(Receipt(num_items=3, decode_ms=1.26)) == "Receipt(num_items=3, decode_ms=1.3)"
