"""Text as items: the tokens of `words`, whatever the pieces; true offsets, bounded memory."""

from __future__ import annotations

import pickle
import tracemalloc
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdyn.clock import Pts
from streamdyn.errors import ConfigError, SourceError
from streamdyn.items import Block, FrameSpec
from streamdyn.previews.token import NUM_FEATURES, Feature, token_features, token_names
from streamdyn.protocols import Position, Source
from streamdyn.registry import build
from streamdyn.sources import tokens as source_module
from streamdyn.sources.tokens import PIECE, TokenCursor, Tokens, tokens_of
from streamdyn.testing.sources import check_source
from streamdyn.text.words import Mark, split, word_pattern

SPEC = FrameSpec(None, None)
TEXT = (
    "It's a don't-do 'quoted' film, not bad! U\u0308n\u0308i \u4e2d\u6587\u5b57 x\u2019y "
    "_under_ 3.14 e\u0301te\u0301 \u05e9\u05dc\u05d5\u05dd \U0001f600 end'\r\n"
)
README = Path(__file__).resolve().parent.parent / "README.md"


def drained(cursor: TokenCursor) -> Block:
    return Block.join(list(iter(cursor.next_block, None)))


def found(source: Tokens) -> list[tuple[int, str]]:
    """First character and text of every token, as items."""
    with closing(source.open()) as cursor:
        n = len(drained(cursor))
        items, errors = cursor.materialize(range(n), SPEC)
    assert not errors
    return [(i.pts.ticks, i.data.tobytes().decode("utf-8", "surrogatepass")) for i in items]


def split_at_once(text: str) -> list[tuple[int, str]]:
    return [(start, text[start:stop]) for start, stop in split(text)[1]]


def test_text_keeps_the_contract_of_a_source(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT * 9, "utf-8", newline="")
    check_source(Tokens(path, block_size=16).open, spec=SPEC)
    check_source(Tokens(text=TEXT * 9).open, spec=SPEC)
    check_source(Tokens(text="one").open, spec=SPEC)


@given(
    st.text(alphabet=st.characters(), max_size=60)
    | st.text("ab'\u2019\u0301 .\u4e2d_\u200d\u00ad\u2060\ufe0f\U0001f469\U0001f3fd\U0001f1e9")
)
def test_pieces_of_any_size_cut_no_token(text: str) -> None:
    for size in (1, 2, 3, 7):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        got = [
            pair for starts, words in tokens_of(pieces) for pair in zip(starts, words, strict=True)
        ]
        assert got == split_at_once(text)


@pytest.mark.parametrize(
    "whole",
    [
        "\u1797\u17b6\u179f\u17b6\u1781\u17d2\u1798\u17c2\u179a",  # Khmer
        "com\u00admu\u00adni\u00adty",
        "\u304b\u3099",
        "\u2764\ufe0f",
        "1\ufe0f\u20e3",
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",
        "\U0001f44d\U0001f3fd",
        "\U0001f1e9\U0001f1ea",
        "\U0001f3f4\U000e0067\U000e0062\U000e007f",
    ],
)
def test_nothing_that_is_seen_as_one_is_cut(whole: str) -> None:
    assert split(f"a {whole} b {whole}.")[0] == ["a", whole, "b", whole, "."]


@given(st.text("ab'9_ .-\t\n\x1c\x1f\0") | st.text(st.characters(max_codepoint=127)))
def test_ascii_is_cut_as_the_pattern_cuts_it(text: str) -> None:
    assert split(text)[1] == [match.span() for match in word_pattern().finditer(text)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_a_file_of_many_pieces_gives_the_tokens_of_its_text(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "PIECE", 7)
    path = tmp_path / "a.txt"
    path.write_text(TEXT * 3, encoding, newline="")
    assert found(Tokens(path, encoding=encoding)) == split_at_once(TEXT * 3)


def test_offsets_count_the_characters_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("é\r\nzwei\n".encode())
    with closing(Tokens(path).open()) as cursor:
        block = drained(cursor)
        (item,), _ = cursor.materialize([1], SPEC)
    assert block.pts.tolist() == [0, 3]
    assert block.num_bytes.tolist() == [2, 4]
    assert (block.time_base, item.pts) == (Fraction(1), Pts(3, Fraction(1)))
    assert (item.kind, item.data.dtype, item.data.tobytes()) == ("token", np.uint8, b"zwei")
    assert block.keyframe.all()
    assert block.disposable.all()
    assert (block.reach == 1).all()


def test_blocks_hold_as_many_tokens_as_asked_for() -> None:
    with closing(Tokens(text="a " * 150).open()) as cursor:
        assert [len(block) for block in iter(cursor.next_block, None)] == [64, 64, 22]


def test_a_lone_surrogate_and_a_nul_are_tokens() -> None:
    assert found(Tokens(text="a \ud83d \x00 b")) == [(0, "a"), (2, "\ud83d"), (4, "\x00"), (6, "b")]


def test_a_huge_file_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge.txt"
    monkeypatch.setattr(source_module, "PIECE", 1024)
    path.write_text("some words, and others. " * 20_000)
    tracemalloc.start()
    try:
        with closing(Tokens(path).open()) as cursor:
            cursor.hop_to(100_000)
            _, peak = tracemalloc.get_traced_memory()
            block = cursor.next_block()
    finally:
        tracemalloc.stop()
    assert block is not None
    assert (block.first, block.pts[0]) == (100_000, 100_000 // 6 * 24 + 16)
    assert peak < path.stat().st_size / 2


def test_a_source_goes_on_after_the_last_closed_token(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT * 5, "utf-8", newline="")
    tokens = split_at_once(TEXT * 5)
    source = pickle.loads(pickle.dumps(Tokens(path, stream="book")))
    assert isinstance(source, Source)
    with closing(source.open(Position(41, tokens[40][0]))) as cursor:
        block = cursor.next_block()
    assert (block.first, block.stream, block.gop[0]) == (41, "book", 41)
    assert block.pts[0] == tokens[41][0]


def test_a_text_that_changed_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one two three")
    for position in (Position(2, 5), Position(2, 3), Position(9, 400)):
        with pytest.raises(SourceError, match="the text has changed, read it from its start"):
            Tokens(path).open(position)


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_a_text_without_a_word_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match="there is no word in it"):
        Tokens(text=text).open()


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"word " * 20_000 + b"caf\xe9 au lait")
    with (
        pytest.raises(SourceError, match=r"as utf-8: .* at byte 100003; .*encoding='cp1252'"),
        closing(Tokens(path).open()) as cursor,
    ):
        drained(cursor)
    assert found(Tokens(path, encoding="cp1252"))[20_000][1] == "caf\xe9"
    path.write_bytes("ab\U0001f600".encode()[:-1])
    with pytest.raises(SourceError, match="unexpected end of data at byte 2;"):
        Tokens(path).open()


def test_a_word_without_end_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "LONGEST_TOKEN", PIECE * 2)
    assert len(found(Tokens(text="x" * (PIECE * 2 - 1) + " y"))) == 2
    with pytest.raises(SourceError, match="at character 2: a word of more than"):
        found(Tokens(text="y " + "x" * (PIECE * 4)))


def test_a_released_token_is_not_to_be_had_again() -> None:
    with closing(Tokens(text="a b c").open()) as cursor:
        cursor.next_block()
        cursor.release(2)
        assert len(cursor.materialize([2], SPEC)[0]) == 1
        for ordinal in (1, 3):
            with pytest.raises(SourceError, match="it was released or not handed out"):
                cursor.materialize([ordinal], SPEC)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(SourceError, match=r"cannot read .*; check the path"):
            Tokens(path).open()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "reads a path or a text; give one of them"),
        ({"path": "a", "text": "b"}, "reads a path or a text; give one of them"),
        ({"text": "a", "block_size": 0}, "block_size must be at least 1 token, got 0"),
        ({"path": "a", "encoding": "utf-9"}, "encoding must be one that Python knows"),
        ({"path": "a", "encoding": "hex"}, "encoding must be one that Python knows"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build("source", "tokens", **options)


def test_a_preview_tells_what_a_token_looks_like() -> None:
    with closing(Tokens(text="Bad, 1984 x1. don't " + "y" * 3000).open()) as cursor:
        drained(cursor)
        rows = cursor.preview("token", range(7))
        assert cursor.preview("token", []).shape == (0, NUM_FEATURES)
        with pytest.raises(ConfigError, match="no preview of grade 'luma'; it has packet and"):
            cursor.preview("luma", [0])
    assert rows.dtype == np.float32
    assert rows[:, Feature.LENGTH].tolist() == [3, 1, 4, 2, 1, 5, 2048]
    marks = [Mark.NONE, Mark.CLAUSE, Mark.NONE, Mark.NONE, Mark.SENTENCE, Mark.NONE, Mark.NONE]
    assert rows[:, Feature.MARK].tolist() == marks
    assert rows[:, Feature.CAPITALISED].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert rows[:, Feature.NUMERIC].tolist() == [0, 0, 1, 0, 0, 0, 0]


def test_a_name_is_that_of_the_word_in_any_case_and_survives_a_trace() -> None:
    words = ["Film", "film", "films", "\ud83d", "."]
    rows = token_features(words)
    names = token_names(rows)
    assert (names >= 0).all()
    assert [len(set(names[:2])), len(set(names))] == [1, 4]
    assert token_names(rows.astype(np.float16)).tolist() == names.tolist()
    assert len(set(token_names(token_features([f"w{i}" for i in range(20_000)])))) == 20_000


def test_a_real_file_gives_the_tokens_of_the_fast_path() -> None:
    tokens = found(Tokens(README))
    assert tokens == split_at_once(README.read_bytes().decode())
    assert len(tokens) > 1000
