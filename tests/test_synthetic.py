"""Made-up streams keep the contract of a source, and their truth is true."""

from __future__ import annotations

from contextlib import closing
from itertools import pairwise

import numpy as np
import pytest

from streamdyn.errors import ConfigError, SourceError
from streamdyn.items import FrameSpec
from streamdyn.previews.token import token_features
from streamdyn.protocols import Position
from streamdyn.registry import build
from streamdyn.run.local import run_stream
from streamdyn.sources.script import ScriptCursor
from streamdyn.sources.synthetic import Synthetic
from streamdyn.testing.policies import watch
from streamdyn.testing.sources import check_source
from streamdyn.testing.streams import Abort, Aborted, Broken, ListSource
from streamdyn.timeline import propagate

SPEC = FrameSpec(8, 6)


def drained(cursor: ScriptCursor) -> ScriptCursor:
    while cursor.next_block() is not None:
        continue
    return cursor


@pytest.mark.parametrize("kind", ["change", "cue"])
def test_a_synthetic_stream_keeps_the_contract_of_a_source(kind: str) -> None:
    check_source(build("source", "synthetic", num_items=70, kind=kind).open)


def test_a_list_stream_keeps_the_contract_of_a_source() -> None:
    check_source(ListSource([10 * i for i in range(20)]).open)


@pytest.mark.parametrize("kind", ["change", "cue"])
def test_the_truth_is_what_the_recognizer_says(kind: str) -> None:
    source = Synthetic(num_items=90, kind=kind, seed=4)
    results = watch(build("policy", "stride", every=1), source).results
    labels = [outcome.label for result in results for outcome in result.outcomes]
    assert tuple(labels) == source.truth


def test_the_best_plan_carried_forward_is_right_for_every_item() -> None:
    source = Synthetic(num_items=400, seed=2)
    carried = propagate(np.arange(400), source.best_plan, "forward")
    assert [source.truth[i] for i in carried] == list(source.truth)


def test_no_plan_with_fewer_items_is_right_for_every_item() -> None:
    source = Synthetic(num_items=400, seed=2)
    changes = sum(a != b for a, b in pairwise(source.truth))
    assert len(source.best_plan) == changes + 1


def test_a_cue_packet_comes_one_item_before_its_event() -> None:
    source = Synthetic(num_items=200, kind="cue", every=12, keyframe_every=1000)
    with closing(source.open()) as cursor:
        block = cursor.next_block()
    assert block is not None
    loud = np.flatnonzero(block.num_bytes > 1000)[1:]  # The first is the keyframe.
    assert tuple(loud + 1) == source.best_plan
    assert {source.truth[i] for i in source.best_plan} == {"white"}


def test_another_seed_is_another_stream_with_another_name() -> None:
    first, second = Synthetic(seed=0), Synthetic(seed=1)
    assert first.best_plan != second.best_plan
    assert first.stream != second.stream


def test_decoding_is_counted_from_where_the_decoder_stands() -> None:
    cursor = drained(Synthetic(num_items=60, keyframe_every=20).open())
    decoded = []
    for ordinal in (5, 9, 9, 7, 25):
        cursor.materialize([ordinal], SPEC)
        decoded.append(cursor.take_receipt().num_decoded)
    assert decoded == [6, 4, 0, 8, 6]


def test_a_grey_picture_and_previews_have_the_shape_that_was_asked_for() -> None:
    cursor = drained(ListSource([32, Broken(), 200]).open())
    items, errors = cursor.materialize([0, 1, 2], FrameSpec(8, 6, "gray"))
    assert [item.data.shape for item in items] == [(6, 8), (6, 8)]
    assert [error.ordinal for error in errors] == [1]
    luma = cursor.preview("luma", [0, 1])
    assert luma.shape == (2, 24, 32)
    assert luma[0].mean() == 32
    assert np.isnan(luma[1]).all()
    assert cursor.preview("thumbnail", [2]).shape == (1, 27, 48, 3)
    tokens = cursor.preview("token", [0, 1])
    assert tokens[0].tolist() == token_features(["32"])[0].tolist()
    assert np.isnan(tokens[1]).all()
    with pytest.raises(ConfigError, match="no preview of grade 'packet'"):
        cursor.preview("packet", [0])


def test_a_released_item_is_not_to_be_had_again() -> None:
    cursor = drained(Synthetic(num_items=10).open())
    cursor.release(5)
    with pytest.raises(SourceError, match=r"cannot decode item 4 .*ask for 5 to 9"):
        cursor.materialize([4], SPEC)


def test_an_abort_breaks_the_stream_once_after_the_items_before_it() -> None:
    source = ListSource([10, 20, 30, Abort(), 40, 50], keyframe_every=10)
    cursor = source.open()
    block = cursor.next_block()
    assert block is not None
    assert block.stop == 3
    with pytest.raises(Aborted, match="resume from the last checkpoint"):
        cursor.next_block()
    resumed = source.open(Position(2, 1))
    assert [(b.first, b.stop) for b in iter(resumed.next_block, None)] == [(2, 3), (3, 5)]


def test_an_aborted_run_ends_with_the_error() -> None:
    recognizer = build("recognizer", "brightness")
    source = ListSource([100] * 40 + [Abort()])
    with pytest.raises(Aborted):
        run_stream(source, build("policy", "stride", every=4, lookahead=8), recognizer)
    summary = run_stream(source, build("policy", "stride", every=4, lookahead=8), recognizer)
    assert summary.receipt.num_processed == 10


@pytest.mark.parametrize(
    ("options", "said"),
    [({"kind": "party"}, "kind must be one of"), ({"every": 1}, "every >= 4")],
)
def test_a_synthetic_stream_refuses_senseless_options(
    options: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        build("source", "synthetic", **options)
