"""Text as words with true character offsets; and words as ids of a vocabulary."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from itertools import chain
from typing import Protocol

import numpy as np
import numpy.typing as npt

PADDING_ID, UNKNOWN_ID = 0, 1
_CJK = "\u3040-\u3098\u309b-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
UNSEEN = "\u00ad\u2060\ufeff"
"""Soft hyphen, word joiner and zero-width no-break space: not seen, and within a word only."""
_FLAG = "[\U0001f1e6-\U0001f1ff]{2}"
_TINTS = "\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
"""Skin tones, and the letters of a region's flag."""


class Mark(IntEnum):
    """What a token does to the structure of its sentence."""

    NONE = 0
    CLAUSE = 1
    """A comma, colon or semicolon."""
    SENTENCE = 2
    """Ends a sentence."""


_MARKS = {
    # Latin, Arabic, Chinese and Japanese.
    Mark.CLAUSE: ",:;\u060c\u061b\u3001\uff0c\uff1b\uff1a",
    Mark.SENTENCE: ".!?\u061f\u3002\uff01\uff1f",
}


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """What a text consists of; token k is `text[starts[k]:stops[k]]`."""

    ids: npt.NDArray[np.int32]
    """`(T,)`."""
    starts: npt.NDArray[np.int32]
    """`(T,)` characters, non-decreasing."""
    stops: npt.NDArray[np.int32]
    """`(T,)` characters, after the last one."""

    def __len__(self) -> int:
        return len(self.ids)


class TextCoder(Protocol):
    """Turns a text into tokens; the reader does not care how."""

    def encode(self, text: str) -> Tokens:
        """All tokens of the text."""

    def id_of(self, token: str) -> int:
        """Id of one token that arrives by itself, as on a stream."""


@cache
def word_pattern() -> re.Pattern[str]:
    """A word, a single Chinese or Japanese character, a punctuation mark or an emoji.

    Marks that combine with a character belong to it, so that no script is cut within a word and no
    emoji within a picture: UAX #29 has the rules for all characters, this for those that occur.
    """
    # Between the two there are ideographs, and planes that have no characters yet.
    codes = chain(range(0x300, 0x20000), range(0xE0100, 0xE01F0))
    marks = "".join(_ranges(c for c in codes if _combines(c)))
    # Runs of letters first, and the long list of marks only where one may be: half the time.
    letters, is_rare = rf"[^\W{_CJK}]+", "(?=[\u00ad\u0300-\U000e01ef])"
    more = rf"[{marks}\u200c\u200d]+(?:{letters})?|[{UNSEEN}]+{letters}"
    word = rf"{letters}(?:{is_rare}(?:{more}))*"
    symbol = rf"[^\w\s{UNSEEN}\u200d](?:{is_rare}[{marks}{_TINTS}]+)?"
    emoji = rf"{_FLAG}|{symbol}(?:\u200d{symbol})*"
    return re.compile(rf"{word}(?:['\u2019]{word})*|{emoji}|[{_CJK}][{marks}]*|[{UNSEEN}\u200d]")


def _combines(code: int) -> bool:
    return unicodedata.category(chr(code)) in ("Mn", "Mc", "Me")


def _ranges(codes: Iterable[int]) -> list[str]:
    """Sorted code points as ranges of a character class."""
    spans: list[list[int]] = []
    for code in codes:
        if spans and spans[-1][1] == code - 1:
            spans[-1][1] = code
        else:
            spans.append([code, code])
    return [f"{chr(low)}-{chr(high)}" for low, high in spans]


class _Kind(IntEnum):
    SPACE = 0
    WORD = 1
    MARK = 2


_ASCII_KINDS = np.array(
    [
        _Kind.SPACE if chr(c).isspace() else _Kind.WORD if re.match(r"\w", chr(c)) else _Kind.MARK
        for c in range(128)
    ],
    np.uint8,
)


def places(text: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Characters, `(T,)` each: where every token starts and where it is over."""
    if not text.isascii():
        spans = [match.span() for match in word_pattern().finditer(text)]
        table = np.array(spans, np.int32).reshape(-1, 2)
        return table[:, 0], table[:, 1]
    # As the pattern has it, all characters at once.
    codes = np.frombuffer(text.encode("ascii"), np.uint8)
    kinds = _ASCII_KINDS[codes]
    in_word = np.zeros(len(codes) + 2, np.bool_)
    in_word[1:-1] = kinds == _Kind.WORD
    in_word[1:-1] |= (codes == ord("'")) & in_word[:-2] & in_word[2:]
    within = in_word[1:-1]
    alone = (kinds == _Kind.MARK) & ~within
    starts = np.flatnonzero(alone | (within & ~in_word[:-2]))
    stops = np.flatnonzero(alone | (within & ~in_word[2:])) + 1
    return starts.astype(np.int32), stops.astype(np.int32)


def split(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """Words in lower case, and where each stands: `[start, stop)` in characters."""
    starts, stops = places(text)
    spans = list(zip(starts.tolist(), stops.tolist(), strict=True))
    return _lower(text, spans), spans


def _lower(text: str, spans: Iterable[tuple[int, int]]) -> list[str]:
    lower = text.lower()
    if len(lower) != len(text):
        # A few letters grow in lower case, and then the offsets of the two differ.
        return [text[start:stop].lower() for start, stop in spans]
    return [lower[start:stop] for start, stop in spans]


class Vocabulary:
    """Known words and their ids; 0 is padding, 1 any other word.

    Args:
        words: In the order of their ids, from 2 on.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._ids = {word: number for number, word in enumerate(self.words, UNKNOWN_ID + 1)}

    def __len__(self) -> int:
        """Number of ids, the two special ones included."""
        return len(self.words) + UNKNOWN_ID + 1

    def id_of(self, token: str) -> int:
        """Id of one word in any case."""
        return self._ids.get(token.lower(), UNKNOWN_ID)

    def encode(self, text: str) -> Tokens:
        """All words of a text."""
        starts, stops = places(text)
        words = _lower(text, zip(starts.tolist(), stops.tolist(), strict=True))
        get = self._ids.get
        return Tokens(np.array([get(w, UNKNOWN_ID) for w in words], np.int32), starts, stops)

    def marks(self) -> npt.NDArray[np.uint8]:
        """`(len(self),)` of `Mark`, one an id."""
        marks = np.zeros(len(self), np.uint8)
        for mark, tokens in _MARKS.items():
            known = [self._ids[token] for token in tokens if token in self._ids]
            marks[known] = mark
        return marks

    @staticmethod
    def from_texts(texts: Iterable[str], *, at_least: int = 1, limit: int = 30_000) -> Vocabulary:
        """The most frequent words that occur `at_least` times, at most `limit` of them."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(map(sys.intern, split(text)[0]))
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return Vocabulary([word for word, count in ranked[:limit] if count >= at_least])
