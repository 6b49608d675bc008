"""What a reader is given by mistake or by malice: a clear error, or the right answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_readers import READERS, random_model, random_words

from streamdyn.errors import ConfigError, ModelError, UnknownName
from streamdyn.text.budget_knob import ReadBudget
from streamdyn.text.reader import SkimReader

READER = SkimReader(random_model("skim_rnn"))


@pytest.mark.parametrize("rate", [0, 0.0, -1, 2, 1.0001, float("nan"), float("inf")])
def test_a_rate_outside_0_to_1_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"in \(0, 1\], got .*use target_tokens"):
        READER("w1", rate=rate)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"target_tokens": 0}, "target_tokens must be at least 1, got 0"),
        ({"target_tokens": 2.0}, "target_tokens must be a whole number, got 2.0"),
        ({"target_tokens": True}, "target_tokens must be a whole number, got True"),
        ({"rate": "0.2"}, "rate must be a number, got '0.2'"),
        ({"threshold": float("nan")}, "threshold must be finite, got nan"),
        ({"rate": 0.5, "target_tokens": 3}, "rate and target_tokens are given; give one of them"),
        ({"rate": 0.5, "threshold": 1}, "rate and threshold are given; give one of them"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(budget: dict[str, object], said: str) -> None:
    for call in (
        lambda: READER("w1", **budget),  # type: ignore[arg-type]
        lambda: READER.pipe(["w1"], **budget),  # type: ignore[arg-type]
        lambda: READER.open(**budget),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError, match=said):
            call()


def test_numbers_of_numpy_are_numbers() -> None:
    assert READER("w1 w2", rate=np.float32(0.5), query=None).reads <= 1  # type: ignore[arg-type]
    assert READER("w1 w2", target_tokens=np.int64(1)).reads <= 1  # type: ignore[arg-type]


def test_a_query_is_pointed_to_skim() -> None:
    for query in ("", "who?", "who " * 1000):
        with pytest.raises(ConfigError, match=r"use skim\(text, query="):
            READER("w1", query=query)


@pytest.mark.parametrize("text", [None, b"w1", 3, ["w1"]])
def test_what_is_no_text_is_refused(text: object) -> None:
    with pytest.raises(ConfigError, match="must be a str, got"):
        READER(text)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must be a str, got"):
        READER.open().feed(text)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must be a str, got"):
        READER.tokens(text)  # type: ignore[arg-type]


def test_one_text_for_many_is_refused() -> None:
    with pytest.raises(ConfigError, match="texts is one str"):
        READER.pipe("w1 w2")
    for size in (0, 2.5, "3"):
        with pytest.raises(ConfigError, match=f"batch_size must be a whole .*, got {size!r}"):
            READER.pipe(["w1"], batch_size=size)  # type: ignore[arg-type]


def test_what_names_no_model_or_part_is_refused() -> None:
    with pytest.raises(UnknownName, match="no shipped model is called 'None'; known: "):
        SkimReader.load(None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a model is a ReaderModel, a name or a folder, got int"):
        SkimReader(3)  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match=r"no policy .* is called '3'"):
        SkimReader(READER.model, policy=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="device must be cpu, cuda or cuda:N, got None"):
        SkimReader(READER.model, device=None)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"opened by SkimReader\.load"):
        SkimReader.from_pretrained("movie-sentiment")
    with pytest.raises(ConfigError, match="skipped in whole numbers, got None"):
        READER.open().skip(None)  # type: ignore[arg-type]


def test_a_model_with_an_option_its_reader_lacks_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"options of this skim_rnn on cpu are none, got \{'nope'"
    ):
        SkimReader(replace(READER.model, options={"nope": 1}))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        (" \n\t", 0),
        ("w1", 1),
        ("\ud800", 1),
        ("a\ud800b \udfff", 4),
        ("\0", 1),
        ("w1\0w2", 3),
        ("مرحبا بالعالم", 2),
        ("שלום עולם", 2),
        ("電影很好看", 5),
        ("映画は良い。", 6),
        ("e\u0301te\u0301", 1),
        ("👩\u200d👩\u200d👧 😀", None),
        ("İİ w1", 2),
    ],
)
@pytest.mark.parametrize("rate", [None, 0.5])
def test_any_text_is_read_with_true_offsets(
    text: str, tokens: int | None, rate: float | None
) -> None:
    reading = READER(text, rate=rate)
    if tokens is not None:
        assert reading.tokens_total == tokens
    assert reading.source == text
    starts, stops = reading.tokens.starts, reading.tokens.stops
    assert (starts < stops).all()
    assert (stops <= len(text)).all()
    assert sum(reading.scores.values()) == pytest.approx(1.0)
    session = READER.open()
    for start, stop in zip(starts, stops, strict=True):
        session.feed(text[start:stop])
    assert session.result().actions.tolist() == READER(text).actions.tolist()


def test_a_million_tokens_are_read() -> None:
    text = " ".join(random_words(1000) * 1000)
    reading = READER(text, rate=0.01)
    assert reading.tokens_total == 1_000_000
    assert 0 < reading.reads <= 10_000
    assert reading.tokens.stops[-1] == len(text)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_a_cuda_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(ConfigError, match=rf"device '{device}' is not there: torch .* sees 0 CUDA"):
        SkimReader(random_model(), device=device)


@pytest.mark.parametrize("device", ["gpu", "", "mps", "cpu:x"])
def test_a_device_of_another_kind_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="device must be cpu, cuda or cuda:N"):
        SkimReader(random_model(), device=device)


def test_a_form_of_highlight_it_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="form must be terminal or html, got 'ANSI'"):
        READER("w1 w2").highlight("ANSI")  # type: ignore[arg-type]


def test_the_terminal_gets_the_text_but_nothing_it_would_obey() -> None:
    shown = READER("w1\r\nw2\u00a0\u3000\u200c \x1b[2J \u202e w3\rw4").highlight()
    assert "\r" not in shown
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    assert shown.count("\ufffd") == 2
    assert all(kept in shown for kept in ("\n", "\u00a0", "\u3000", "\u200c"))


def test_a_policy_that_the_cell_of_a_model_cannot_follow_is_refused() -> None:
    model = random_model("hm_rnn")
    with pytest.raises(ConfigError, match=r"policy 'idf' needs .* that of hm_rnn has other inputs"):
        SkimReader(model, policy="idf")


def test_the_smallest_rate_allows_a_token() -> None:
    budget = ReadBudget(rate=1e-300)
    assert [budget.cap(count) for count in (0, 1, 30)] == [0, 1, 1]


def test_numbers_of_numpy_and_huge_ones_are_budgets_too() -> None:
    for budget in ({"rate": np.float32(0.5)}, {"target_tokens": np.int64(2)}):
        session = READER.open(**budget)  # type: ignore[arg-type]
        session.feed("w1")
        assert READER.open(resume_from=session.snapshot()).position == 1
    assert (
        READER("w1 w2", target_tokens=10**30).actions.tolist() == READER("w1 w2").actions.tolist()
    )


@pytest.mark.parametrize("name", READERS)
def test_a_threshold_of_any_size_is_one(name: str) -> None:
    reader = SkimReader(random_model(name))
    for size in (1e39, 10**400):
        assert np.isfinite([*reader("w1 w2 w3", threshold=size).scores.values()]).all()
        assert reader("w1 w2 w3", threshold=-size).tokens_read > 0
