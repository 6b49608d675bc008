"""Skimming without a task: the budget is met, tokens are whole, and what matters is kept."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdyn import skim
from streamdyn.errors import ConfigError, MissingExtra, UnknownName
from streamdyn.plan import Action
from streamdyn.text.salience import (
    analyse,
    coverage_order,
    idf,
    relevance,
    sentence_vectors,
)
from streamdyn.text.sentences import LONGEST, sentence_starts
from streamdyn.text.word_vectors import HashedWords, Wordllama
from streamdyn.text.words import split

needs_wordllama = pytest.mark.skipif(
    find_spec("wordllama") is None, reason="wordllama is not installed"
)
UNITS = ("sentence", "token")
STORY = (
    "The harbour was quiet that evening. Boats from the north had come in early, and their crews "
    "sat in the taverns. Mary carried the old brass compass up the hill. Then she hid it behind "
    "the lighthouse door. Rain fell on the roofs of the town. A baker closed his shop at six. The "
    "gulls had gone to sleep on the cliffs. Nobody in the taverns spoke of the storm. The price "
    "of salt had risen again, and the merchants complained. At midnight the church bell rang "
    "twelve times. Two dogs barked at each other near the market. The morning brought fog."
)
PURCHASE = (
    "John went to the kitchen early. Mary ate a red apple in the garden. The weather was fine. "
    "Nobody else came. Mr. Smith paid $3.50 for the ladder. It rained at night.\n\n"
)
PIECES = st.sampled_from(
    [
        *("a", "Word", "na\u00efve", "e\u0301te\u0301", "3.14", "well-known", "don't", "--", "_"),
        *(".", "!", ","),
        *("\n", "\r\n", "\n\n", " ", "\u2028", "\ud800", "\udfff", "\x00", "\u200d", "\u0130"),
        *(
            "\u05e9\u05dc\u05d5\u05dd",
            "\u0645\u0631\u062d\u0628\u0627\u061f",
            "今日は",
            "。",
            "「",
            "」",
        ),
        "\U0001f469\u200d\U0001f680",
    ]
)
"""Words, marks, line breaks, lone surrogates, a letter that grows in lower case; Hebrew, Arabic,
Japanese, and an emoji of several characters."""
TEXTS = st.one_of(
    st.lists(PIECES, max_size=60).map("".join),
    st.lists(PIECES, max_size=60).map(" ".join),
    st.text(st.characters(exclude_categories=()), max_size=60),
)
SHARES = st.floats(0, 1, exclude_min=True)


def kept_tokens(reading) -> list[str]:
    rows = np.flatnonzero(reading.actions == Action.PROCESS)
    starts, stops = reading.tokens.starts, reading.tokens.stops
    return [reading.source[starts[row] : stops[row]] for row in rows]


def sentences_of(text: str) -> list[str]:
    words, spans = split(text)
    offsets = np.array(spans, np.int64).reshape(-1, 2)
    begins = sentence_starts(text, words, offsets[:, 0], offsets[:, 1])
    ends = np.append(begins[1:], len(words))[: len(begins)]
    return [text[offsets[a, 0] : offsets[b - 1, 1]] for a, b in zip(begins, ends, strict=True)]


@settings(max_examples=150)
@given(text=TEXTS, rate=SHARES, unit=st.sampled_from(UNITS), query=st.sampled_from([None, "Word?"]))
def test_any_text_gets_its_rate_in_whole_tokens_with_true_offsets(text, rate, unit, query):
    reading = skim(text, rate=rate, unit=unit, query=query, vectors="hashed")
    total = len(split(text)[1])
    assert (reading.source, reading.tokens_total) == (text, total)
    assert reading.tokens_read == (max(1, round(rate * total)) if total else 0)
    assert reading.reads == reading.tokens_read
    assert set(reading.actions.tolist()) <= {Action.SKIP, Action.PROCESS}
    places = zip(reading.tokens.starts.tolist(), reading.tokens.stops.tolist(), strict=True)
    assert list(places) == split(text)[1]
    edges = set(reading.tokens.starts.tolist()), set(reading.tokens.stops.tolist())
    assert all(start in edges[0] and stop in edges[1] for start, stop in reading.kept)
    assert sum(len(split(text[a:b])[0]) for a, b in reading.kept) == reading.tokens_read
    assert reading.highlight("html").count("<mark>") == len(reading.kept)


@settings(max_examples=100)
@given(text=TEXTS, unit=st.sampled_from(UNITS), pattern=st.sampled_from([r"\d", "Word", "今", "."]))
def test_what_keep_matches_is_always_kept(text, unit, pattern):
    reading = skim(text, rate=0.3, unit=unit, keep=pattern, vectors="hashed")
    wanted = {
        row
        for row, (start, stop) in enumerate(split(text)[1])
        for match in re.finditer(pattern, text)
        if match.start() < stop and start < match.end()
    }
    assert wanted <= set(np.flatnonzero(reading.actions == Action.PROCESS).tolist())
    total = reading.tokens_total
    assert reading.tokens_read == max(len(wanted), min(total, max(1, round(0.3 * total))))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("query", [None, "Where is the compass?"])
@pytest.mark.parametrize("size", [20, 137, 5_000, 50_000])
@pytest.mark.parametrize("rate", [0.05, 0.33, 0.9])
def test_the_rate_is_met_at_any_length(size, rate, unit, query):
    words = split(STORY)[0]
    numbered = [f"{word}{k // len(words) % 90}" for k, word in enumerate(words * (size // 100 + 1))]
    text = " ".join(word if word[0].isalpha() else word[0] for word in numbered[:size])
    reading = skim(text, rate=rate, unit=unit, query=query, vectors="hashed")
    assert reading.tokens_total == size
    assert reading.read_rate == pytest.approx(rate, abs=0.5 / size + 1e-9)


@needs_wordllama
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("repeats", [1, 20, 300])
@pytest.mark.parametrize("rate", [0.05, 0.7, 1.0])
def test_the_rate_is_met_on_a_repeated_text_with_known_words(rate, repeats, unit):
    reading = skim(PURCHASE * repeats, rate=rate, unit=unit)
    assert reading.tokens_read == max(1, round(rate * len(split(PURCHASE * repeats)[0])))


@pytest.mark.parametrize("unit", UNITS)
def test_a_number_of_tokens_is_met_and_too_many_are_all(unit):
    reading = skim(STORY, target_tokens=17, unit=unit, vectors="hashed")
    assert reading.tokens_read == 17
    assert skim(STORY, target_tokens=10**9, unit=unit, vectors="hashed").read_rate == 1
    assert skim(STORY, rate=1, unit=unit, vectors="hashed").text == STORY


def test_a_fifth_is_kept_where_no_budget_is_given():
    assert skim(STORY, vectors="hashed").tokens_read == round(0.2 * len(split(STORY)[0]))


def test_sentences_are_whole_but_for_one():
    reading = skim(STORY, rate=0.4, vectors="hashed")
    kept = set(np.flatnonzero(reading.actions == Action.PROCESS).tolist())
    position, cut, whole = 0, 0, 0
    for sentence in sentences_of(STORY):
        size = len(split(sentence)[0])
        inside = len(kept & set(range(position, position + size)))
        whole += inside == size
        cut += 0 < inside < size
        position += size
    assert whole >= 3
    assert cut <= 1


def test_a_small_rest_goes_to_a_sentence_that_fits():
    text = (
        "Copper from Lisbon reached Athens. The sailors of that ship were resting under olive "
        "trees all through the long and very hot afternoon. Nobody came."
    )
    reading = skim(text, target_tokens=9, query="copper lisbon sailors", vectors="hashed")
    assert reading.text == "Copper from Lisbon reached Athens. Nobody came."


def test_the_part_of_a_sentence_begins_at_a_clause_and_breaks_no_number():
    text = "It was late and we were tired, copper rose by 3.14 percent, and so we all went home."
    for size in range(3, 8):
        part = skim(text, target_tokens=size, query="copper percent", vectors="hashed").text
        assert re.search("copper|percent", part)
        assert part.startswith("copper") or size in (4, 5)
        assert not re.search(r"3\.?$|^14|^\.14", part)


def test_numbers_and_compounds_stay_whole_among_tokens():
    text = "Rates of 3.14 and 1,000.50 for well-known ann@example.org users. " * 5
    for rate in (0.1, 0.2, 0.5):
        reading = skim(text, rate=rate, unit="token", vectors="hashed")
        for start, stop in reading.kept:
            for compound in ("3.14", "1,000.50", "well-known", "ann@example.org"):
                for match in re.finditer(re.escape(compound), text):
                    inside = start < match.end() and match.start() < stop
                    assert not inside or (start <= match.start() and match.end() <= stop)


@needs_wordllama
@pytest.mark.parametrize("unit", UNITS)
def test_a_query_keeps_its_answer_and_the_sentence_that_needs_it(unit):
    reading = skim(STORY, rate=0.2, query="Where did Mary put the compass?", unit=unit)
    assert "compass" in reading.text
    assert "lighthouse" in reading.text
    assert ("baker" in reading.text) == (unit == "token")


@needs_wordllama
def test_another_query_keeps_something_else():
    eaten = skim(PURCHASE, rate=0.25, query="What did Mary eat?").text
    assert "Mary ate a red apple in the garden." in eaten
    assert "ladder" in skim(PURCHASE, rate=0.3, query="Who bought the ladder?").text
    assert "ladder" not in eaten


@needs_wordllama
def test_a_query_finds_words_of_like_meaning():
    text = STORY + " The physician looked at the wound. Some more fog came in from the sea."
    reading = skim(text, target_tokens=7, query="doctor")
    assert reading.text == "The physician looked at the wound."
    vectors = Wordllama()
    document = analyse(text, vectors)
    sentences = sentence_vectors(document)
    found = relevance(document, sentences, idf(document), ["doctor"], vectors)
    likeness = dict(zip(document.words, found.words, strict=True))
    assert likeness["physician"] > 0.2 > likeness["salt"]


def test_words_that_a_query_shares_are_found_without_a_package():
    reading = skim(STORY, target_tokens=9, query="When did the bells ring?", vectors="hashed")
    assert reading.text == "At midnight the church bell rang twelve times."


@pytest.mark.parametrize("query", ["word " * 3000, " ".join(f"w{k}" for k in range(3000)), "犬"])
def test_a_query_may_be_longer_than_the_text(query):
    assert skim("One. Two words. Three.", rate=0.5, query=query, vectors="hashed").tokens_read == 4


def test_copies_of_a_sentence_come_last():
    text = "Copper prices rose sharply in Lisbon. " * 20 + "Olive harvests failed near Athens."
    reading = skim(text, target_tokens=13, vectors="hashed")
    assert reading.text.count("Copper") == reading.text.count("Olive") == 1


def test_every_sentence_is_ordered_once_whatever_the_budget():
    document = analyse(STORY, HashedWords())
    ones = np.ones(len(document.begins))
    for budget in (1, 7, 50, 10_000):
        order = coverage_order(document, ones, document.lengths, budget)
        assert sorted(order.tolist()) == list(range(len(ones)))


def test_patterns_are_kept_at_the_lowest_rate():
    kept = kept_tokens(skim(PURCHASE * 5, rate=0.05, keep=r"\$\d+\.\d+", vectors="hashed"))
    assert kept == ["$", "3", ".", "50"] * 5


def test_keep_takes_several_patterns_and_shows_the_true_rate():
    reading = skim(STORY, target_tokens=1, keep=["compass", re.compile("FOG", re.I)])
    assert kept_tokens(reading) == ["compass", "fog"]
    everything = skim(STORY, rate=0.1, keep=r"\w+")
    assert everything.read_rate > 0.8


def test_the_same_text_is_skimmed_the_same_way():
    first, second = (skim(STORY, unit="token", vectors="hashed") for _ in range(2))
    assert (first.actions == second.actions).all()


def test_a_million_tokens_are_skimmed():
    text = STORY.replace("\n", " ") + "\n"
    text = text * (1_000_000 // len(split(text)[0]) + 1)
    reading = skim(text, rate=0.1, query="compass", vectors="hashed")
    assert reading.tokens_total >= 1_000_000
    assert reading.read_rate == pytest.approx(0.1, abs=1e-6)


class Counting(HashedWords):
    """Knows how many words it was asked for."""

    asked = 0

    def look_up(self, words):
        self.asked += len(words)
        return super().look_up(words)


def test_no_more_than_the_most_frequent_words_are_looked_up():
    text = " ".join(f"w{k}" for k in range(70_000)) + " twice twice"
    vectors = Counting()
    document = analyse(text, vectors)
    assert vectors.asked == 1 << 16
    known = document.vectors.any(1)
    assert known[document.words.index("twice")]
    assert not known[document.words.index("w69999")]
    assert skim(text, rate=0.5, vectors="hashed").tokens_read == 35_001


@pytest.mark.parametrize("text", ["", " \n\t", "\u2028"])
def test_an_empty_text_is_an_empty_reading(text):
    reading = skim(text, query="anything", keep="a")
    assert (reading.tokens_total, reading.text, reading.kept, reading.read_rate) == (0, "", [], 0)


def test_one_token_is_kept():
    assert skim("Hello", rate=0.01).text == "Hello"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"rate": 0}, r"in \(0, 1\], got 0"),
        ({"rate": 2}, "got 2; for a number of tokens use target_tokens"),
        ({"rate": float("nan")}, "got nan"),
        ({"rate": True}, "got True"),
        ({"rate": "0.5"}, "got '0.5'"),
        ({"target_tokens": 0}, "at least 1, got 0"),
        ({"target_tokens": 1.5}, "got 1.5"),
        ({"rate": 0.2, "target_tokens": 5}, "rate and target_tokens are given"),
        ({"query": ""}, "holds no word"),
        ({"query": "?!"}, "holds no word"),
        ({"query": 5}, "must be a str, got int"),
        ({"keep": "("}, r"keep='\(' is no regular expression"),
        ({"keep": [b"a"]}, "as str"),
        ({"keep": 5}, "keep takes"),
    ],
)  # fmt: skip
def test_a_wrong_question_is_refused(asked, says):
    with pytest.raises(ConfigError, match=says):
        skim("Some text.", **asked)


def test_wrong_names_list_the_right_ones():
    with pytest.raises(UnknownName, match="sentence, token"):
        skim("a", unit="paragraph")
    with pytest.raises(UnknownName, match="hashed, wordllama"):
        skim("a", vectors="glove")
    with pytest.raises(ConfigError, match="text must be a str, got bytes"):
        skim(b"a")


def test_skimming_needs_no_torch():
    code = "import sys, streamdyn as s; s.skim('A. B.', vectors='hashed'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numba"} & set(done.stdout.split())


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"streamdyn\[text\]"):
        Wordllama()


@needs_wordllama
def test_rare_words_are_rarer():
    vectors, rarity = Wordllama().look_up(
        ["the", "lighthouse", "zyzzyva", "x" * 10_000, "\ud800", ""]
    )
    assert vectors.shape == (6, 256)
    assert rarity[0] < rarity[1] < rarity[2]
    assert ((rarity >= 0) & (rarity <= 1)).all()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Mr. Smith paid 3.14 dollars. He left.", ["Mr. Smith paid 3.14 dollars.", "He left."]),
        ("See J. R. Tolkien, e.g. here. Yes.", ["See J. R. Tolkien, e.g. here.", "Yes."]),
        ('"What?" he asked. "No!" She ran.', ['"What?" he asked.', '"No!"', "She ran."]),
        ("It was I. Then (really.) No... So", ["It was I.", "Then (really.)", "No...", "So"]),
        ("今日は晴れ。「雨です。」はい。", ["今日は晴れ。", "「雨です。」", "はい。"]),
        ("नमस्ते। आप कैसे हैं? ठीक।", ["नमस्ते।", "आप कैसे हैं?", "ठीक।"]),
        ("مرحبا؟ نعم. لا", ["مرحبا؟", "نعم.", "لا"]),
        ("One\r\n\r\nTwo\n\nthree", ["One", "Two", "three"]),
        ("- apples\n- pears\n- plums", ["- apples", "- pears", "- plums"]),
        ("Ann went in\nBob went out", ["Ann went in", "Bob went out"]),
        (
            "A long line that was wrapped where its width ended, after sixty\n"
            "Letters or so, goes on below; the next line is shorter.\nEnd",
            [
                "A long line that was wrapped where its width ended, after sixty\n"
                "Letters or so, goes on below; the next line is shorter.",
                "End",
            ],
        ),
    ],
)  # fmt: skip
def test_sentences_end_where_a_reader_ends_them(text, sentences):
    assert sentences_of(text) == sentences


def test_a_long_sentence_is_cut_at_its_clauses():
    clause = " ".join(f"w{k}" for k in range(30)) + ","
    cut = sentences_of(" ".join([clause] * 20) + " " + "x " * 500)
    assert max(len(split(sentence)[0]) for sentence in cut) <= LONGEST
    assert all(sentence.endswith(",") for sentence in cut[:6])


def test_no_cut_of_a_sentence_goes_through_a_number():
    text = "It cost 155.6 or 99.95 " * 40
    assert len(cut := sentences_of(text)) > 2
    assert all(sentence[-1] != "." and sentence[0] != "." for sentence in cut)
    for budget in range(1, 60):
        words = skim(text, target_tokens=budget, vectors="hashed").text.split()
        broken = [w for w in words if "." in w and w not in ("155.6", "99.95")]
        assert not broken
        assert "." not in words
