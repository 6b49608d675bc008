import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from passes import watch

from streamdyn.audit import AuditRule
from streamdyn.clock import Pts
from streamdyn.errors import PlanError, SourceError
from streamdyn.outcome import Box, Outcome
from streamdyn.plan import Plan
from streamdyn.registry import build
from streamdyn.sources.synthetic import Synthetic
from streamdyn.testing.scripted import ScriptedPolicy, read_plan
from streamdyn.testing.streams import ListSource
from streamdyn.trace import (
    TraceWriter,
    block_from_json,
    outcome_from_json,
    outcome_to_json,
    preview_rows,
    read_trace,
)


def recorded(path, source, policy, **options):
    with TraceWriter(path, stream=source.stream, policy=policy.name) as trace:
        seen = watch(source, policy, trace=trace, **options)
    return seen, list(read_trace(path))


def of_type(records, kind):
    return [record for record in records if record["type"] == kind]


def test_a_full_pass_is_in_its_trace(tmp_path):
    source = Synthetic(num_items=100, keyframe_every=30)
    seen, records = recorded(
        tmp_path / "t", source, build("policy", "stride", every=1, lookahead=40)
    )
    assert [record["type"] for record in records[:3]] == ["stream", "window", "plan"]
    assert records[0] == {
        "type": "stream",
        "format": 1,
        "stream": source.stream,
        "policy": "stride",
    }
    windows = [block_from_json(w, source.stream) for w in of_type(records, "window")]
    assert [(w.first, w.stop) for w in windows] == [(0, 40), (40, 80), (80, 100)]
    for window, result in zip(windows, seen.results, strict=True):
        assert window.time_base == result.window.time_base
        for name in ("pts", "keyframe", "num_bytes", "disposable", "gop", "reach"):
            np.testing.assert_array_equal(getattr(window, name), getattr(result.window, name))
    outcomes = [outcome_from_json(o) for o in of_type(records, "outcome")]
    assert [o.id for o in outcomes] == [o.id for o in seen.outcomes.values()]
    assert sum(r["num_processed"] for r in of_type(records, "receipt")) == 100
    assert [(r["first"], r["stop"]) for r in of_type(records, "receipt")] == [
        (0, 40), (40, 80), (80, 100),
    ]  # fmt: skip


def test_a_plan_is_written_round_by_round_with_what_it_chose(tmp_path):
    scores = np.array([0.123456789, np.inf, np.nan, 0], np.float32)
    plans = [read_plan("PGOS", scores=scores), read_plan("OPSS", hop=4, stop=True)]
    policy = ScriptedPolicy(plans, lookahead=4, glances=frozenset({"luma"}))
    _, records = recorded(tmp_path / "t", ListSource([16] * 99), policy)
    first, second = of_type(records, "plan")
    assert (first["round"], first["num_open"], first["num_skipped"]) == (0, 1, 1)
    assert first["chosen"] == [
        {"item": 0, "action": "process", "score": 0.12346, "cost_ms": 0.05},
        {"item": 1, "action": "glance", "score": None, "cost_ms": 0.1},
    ]
    assert (second["round"], second["hop"], second["stop"]) == (1, 4, True)
    (preview,) = of_type(records, "preview")
    assert (preview["grade"], preview["items"]) == ("luma", [1])
    np.testing.assert_array_equal(preview_rows(preview), np.full((1, 24, 32), 16, np.float32))


def test_previews_are_paid_for_in_one_order_whatever_the_hash_seed(tmp_path):
    grades = ("thumbnail", "luma", "audio")
    policy = ScriptedPolicy([], lookahead=4, previews=frozenset(grades))
    _, records = recorded(tmp_path / "t", ListSource([16] * 4), policy)
    assert [r["grade"] for r in of_type(records, "preview")] == ["audio", "luma", "thumbnail"]


def test_audits_are_told_from_what_the_policy_chose(tmp_path):
    policy = build("policy", "stride", every=10)
    seen, records = recorded(tmp_path / "t", Synthetic(num_items=200), policy, audit=AuditRule(0.3))
    audited = [r["item"] for r in of_type(records, "outcome") if r["purpose"] == "audit"]
    assert sorted(audited) == sorted(a.ordinal for a in seen.audits)
    assert not set(audited) & set(seen.processed)


def test_numbers_of_numpy_are_written_as_numbers(tmp_path):
    class Numpy(ScriptedPolicy):
        def decide(self, obs, state):
            plan = Plan(np.ones(len(obs.window), np.uint8), done=np.int64(2), hop=np.int32(1))
            return plan, state

    _, records = recorded(tmp_path / "t", ListSource([16] * 6), Numpy([], lookahead=3))
    assert [type(w["first"]) for w in of_type(records, "window")] == [int] * 4
    assert {(p["done"], p["hop"]) for p in of_type(records, "plan")} == {(2, 1)}
    outcome = Outcome(
        "s",
        0,
        Pts(0, Fraction(1)),
        "r/1",
        ("a",),
        (np.float32(0.1),),
        boxes=(Box("a", *np.linspace(0, 1, 5, dtype=np.float32)),),
    )
    assert json.loads(json.dumps(outcome_to_json(outcome)))["boxes"][0][0] == "a"


def test_a_plan_that_cannot_be_carried_out_is_named_with_a_trace_too(tmp_path):
    for wrong in (read_plan("P" * 9), Plan(np.full(8, 77, np.uint8))):
        with pytest.raises(PlanError, match="policy scripted/1 answered"):
            recorded(tmp_path / "t", ListSource([16] * 20), ScriptedPolicy([wrong]))


scores = st.floats(0, 1, allow_nan=False)


@given(
    st.lists(st.tuples(st.text(), scores), max_size=5),
    st.lists(scores, max_size=8),
    st.text(),
    st.lists(st.builds(Box, st.text(), scores, scores, scores, scores, scores), max_size=3),
    st.integers(-(10**15), 10**15),
)
def test_an_outcome_comes_back_exactly(labels, embedding, text, boxes, ticks):
    outcome = Outcome(
        "s",
        3,
        Pts(ticks, Fraction(1001, 30000)),
        "r/1",
        tuple(label for label, _ in labels),
        tuple(score for _, score in labels),
        np.array(embedding, np.float16) if embedding else None,
        text,
        tuple(boxes),
    )
    again = outcome_from_json(json.loads(json.dumps(outcome_to_json(outcome))))
    for name in ("id", "ordinal", "pts", "labels", "scores", "text", "boxes"):
        assert getattr(again, name) == getattr(outcome, name)
    if embedding:
        np.testing.assert_array_equal(again.embedding, outcome.embedding)
    else:
        assert again.embedding is None


def test_a_missing_trace_is_named(tmp_path):
    with pytest.raises(SourceError, match=f"cannot read the trace {tmp_path}/x: no such file"):
        list(read_trace(tmp_path / "x"))


@pytest.mark.parametrize(
    "line", [b'{"type": "outc', b"5", b"{}", b"[]", b"", b"\xff\xfe\x00", b'"type"', b"null"]
)
def test_a_damaged_line_is_named_by_its_number(tmp_path, line):
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"type":"stream","format":1}\n{"type":"x"}\n' + line + b"\n")
    read = read_trace(path)
    assert [next(read)["type"], next(read)["type"]] == ["stream", "x"]
    with pytest.raises(SourceError, match=r"cannot read line 3 of the trace .*t\.jsonl"):
        next(read)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"type":"window","first":0}', "begins with a 'window' record of format None"),
        ('{"type":"stream","format":2}', "'stream' record of format 2, not .* of format 1"),
    ],
)
def test_a_file_that_begins_otherwise_is_no_trace(tmp_path, line, said):
    (tmp_path / "t").write_text(line + "\n")
    with pytest.raises(SourceError, match=said):
        list(read_trace(tmp_path / "t"))
