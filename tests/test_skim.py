"""Task-free skimming: the rate is met, words stay whole, offsets are true."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdyn import skim
from streamdyn.errors import ConfigError
from streamdyn.plan import Action
from streamdyn.text.words import split

STORY = (
    "John went to the kitchen early. Mary ate a red apple in the garden. The weather was fine. "
    "Nobody else came. Mr. Smith paid $3.50 for the ladder. It rained at night.\n\n"
)
LETTERS = st.text(st.characters(codec=None), max_size=400)
UNITS = pytest.mark.parametrize("unit", ["sentence", "token"])


@UNITS
@pytest.mark.parametrize("repeats", [1, 20, 1000])
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.7, 1.0])
def test_the_rate_is_met_at_every_length(unit: str, repeats: int, rate: float) -> None:
    text = STORY * repeats
    reading = skim(text, rate=rate, unit=unit)  # type: ignore[arg-type]
    assert reading.tokens_total == len(split(text)[0])
    assert abs(reading.read_rate - rate) <= max(0.02, 1 / reading.tokens_total)


@UNITS
@given(text=LETTERS, rate=st.floats(0.01, 1.0))
def test_offsets_are_true_and_no_word_is_broken(unit: str, text: str, rate: float) -> None:
    reading = skim(text, rate=rate, unit=unit, vectors="hashed")  # type: ignore[arg-type]
    spans = split(text)[1]
    assert [
        (int(a), int(b)) for a, b in zip(reading.tokens.starts, reading.tokens.stops, strict=False)
    ] == spans
    starts, stops = {a for a, _ in spans}, {b for _, b in spans}
    assert all(start in starts and stop in stops for start, stop in reading.kept)
    assert reading.tokens_read == (max(1, round(rate * len(spans))) if spans else 0)
    assert reading.source == text


def test_a_query_decides_what_is_kept() -> None:
    reading = skim(STORY, rate=0.25, query="What did Mary eat?")
    assert "Mary ate a red apple in the garden." in reading.text
    assert "ladder" in skim(STORY, rate=0.3, query="Who bought the ladder?").text


def test_patterns_are_kept_whatever_the_rate() -> None:
    reading = skim(STORY * 5, rate=0.05, keep=r"\$\d+\.\d+")
    kept = {
        int(start)
        for start, action in zip(reading.tokens.starts, reading.actions, strict=True)
        if action == Action.PROCESS
    }
    assert all(match.start() in kept for match in re.finditer(r"\$", STORY * 5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": 2}, "rate"),
        ({"rate": 0.2, "target_tokens": 5}, "target_tokens"),
        ({"target_tokens": 0}, "target_tokens"),
        ({"query": "?!"}, "query"),
        ({"keep": "("}, "keep|expression"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        skim(STORY, **options)  # type: ignore[arg-type]
