"""The spaCy component reads documents as the reader does, and they can still be stored."""

from __future__ import annotations

from pathlib import Path

import pytest
from random_readers import random_model, random_words

from streamdyn.errors import ConfigError
from streamdyn.text.reader import SkimReader

spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
TEXTS = [" ".join(random_words(20, seed=seed)) for seed in range(4)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SkimReader(random_model("skim_rnn")).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def pipeline(folder: Path, **config: object) -> spacy.Language:
    import streamdyn.text.spacy_component  # noqa: F401, what the entry point does

    nlp = spacy.blank("en")
    nlp.add_pipe("streamdyn_skim", config={"model": str(folder), **config})
    return nlp


def test_a_document_is_read_as_its_text_is(folder: Path) -> None:
    nlp, reader = pipeline(folder, rate=0.2), SkimReader(folder)
    assert nlp.make_doc("w1")._.skim is None
    docs = [nlp(TEXTS[0]), *nlp.pipe(TEXTS[1:])]
    for doc, text in zip(docs, TEXTS, strict=True):
        reading, expected = doc._.skim, reader(text, rate=0.2)
        assert reading.kept == expected.kept
        assert reading.scores == expected.scores
        assert (reading.source, reading.reads) == (doc.text, expected.reads)
        for start, stop in reading.kept:
            assert doc.char_span(start, stop, alignment_mode="expand") is not None


def test_a_read_document_can_be_stored(folder: Path) -> None:
    nlp = pipeline(folder, target_tokens=3)
    doc = nlp(TEXTS[0])
    again = spacy.tokens.Doc(nlp.vocab).from_bytes(doc.to_bytes())
    assert again._.skim.kept == doc._.skim.kept
    assert repr(again._.skim) == repr(doc._.skim)


def test_a_part_of_a_document_has_no_reading(folder: Path) -> None:
    doc = pipeline(folder)(TEXTS[0])
    assert doc[1:3].as_doc(copy_user_data=True)._.skim is None


def test_a_second_component_would_write_over_the_first_and_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"streamdyn_skim keeps its reading .* so would other"):
        pipeline(folder).add_pipe("streamdyn_skim", name="other", config={"model": str(folder)})


def test_a_stored_pipeline_makes_the_reader_again(folder: Path, tmp_path: Path) -> None:
    pipeline(folder, rate=0.5).to_disk(tmp_path / "nlp")
    again = spacy.load(tmp_path / "nlp")
    assert again(TEXTS[0])._.skim.kept == SkimReader(folder)(TEXTS[0], rate=0.5).kept


def test_a_wrong_budget_is_told_when_the_component_is_made(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"in \(0, 1\], got 2"):
        pipeline(folder, rate=2.0)
