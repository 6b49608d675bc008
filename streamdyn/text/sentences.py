"""Where sentences begin, counted in words: no dictionary of a language, no loop over characters."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LONGEST = 100
"""Tokens; a longer sentence is taken in parts."""
CLAUSES = frozenset(",;:،؛、\uff0c\uff1b\uff1a—")
"""Marks that a part of a sentence may end with."""
_SPACED, _UNSPACED, _CLOSER = 1, 2, 3
_MARKS = {
    **dict.fromkeys(".!?…؟\u06d4।॥።\u0589။།", _SPACED),
    **dict.fromkeys("。\uff01\uff1f｡", _UNSPACED),
    **dict.fromkeys("\"'”\u2019»)]}_*」』\uff09》】", _CLOSER),
}
"""Ends of sentences, with white space after them or without, and what may close after them."""
_OPENERS = frozenset("\"'“\u2018«([{_*¿¡-\u2013—")
_SHORT = """mr mrs ms messrs mme mlle dr prof st rev hon gen col capt cpt maj lt lieut sgt gov sen
    rep pres vs cf al fig figs eq vol ch sec pp ed eds approx dept jan feb mar apr jun jul aug sep
    sept oct nov dec bzw bspw usw ca nr hr fr mt ft"""
_ABBREVIATIONS = frozenset(_SHORT.split())
"""After these a full stop ends nothing, whatever follows."""
_LINE_BREAK = re.compile("\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_NARROWEST, _WIDEST = 40, 120
"""Characters a line that texts are wrapped to; each line of a wider one is a paragraph."""


def sentence_starts(text: str, words: Sequence[str], starts: Ints, stops: Ints) -> Ints:
    """Tokens that a sentence begins with.

    A sentence ends at a full stop and its like, unless that belongs to an abbreviation, an initial
    or a number or the text goes on in lower case; at an empty line; and at the end of a line that
    was not merely wrapped. One of over `LONGEST` tokens is cut, at a clause where there is one.

    Args:
        text: The text.
        words: Its T tokens in lower case, from `words.split`.
        starts: `(T,)` characters.
        stops: `(T,)` characters.

    Returns:
        `(S,)` token numbers, increasing, the first one 0; empty for an empty text.
    """
    if not words:
        return np.empty(0, np.int64)
    begins = _after_marks(text, words, starts, stops) | _after_lines(text, starts, stops)
    begins[0] = True
    spaced = np.append(True, starts[1:] > stops[:-1])
    return _shortened(np.flatnonzero(begins), words, spaced)


def _after_marks(text: str, words: Sequence[str], starts: Ints, stops: Ints) -> Bools:
    """Tokens that follow the end of a sentence."""
    size = len(words)
    kinds = np.array([_MARKS.get(word, 0) for word in words], np.int8)
    spaced, unspaced, closes = kinds == _SPACED, kinds == _UNSPACED, kinds == _CLOSER
    attached = np.zeros(size, bool)
    attached[1:] = starts[1:] == stops[:-1]
    # Marks and what closes after them belong to the sentence: `she said. "Go!" He went.`
    closes &= attached
    goes_on = (spaced | unspaced) & attached | closes
    last = np.maximum.accumulate(np.where(closes, 0, np.arange(size)))
    begins = np.zeros(size, bool)
    before = last[:-1]
    begins[1:] = (spaced[before] & ~attached[1:] | unspaced[before]) & ~goes_on[1:]
    for token in np.flatnonzero(begins).tolist():
        mark = int(last[token - 1])
        begins[token] = bool(unspaced[mark]) or not (
            _continues(text, words, starts, token)
            or _abbreviates(text, words, starts, attached, mark)
        )
    return begins


def _continues(text: str, words: Sequence[str], starts: Ints, token: int) -> bool:
    """The text goes on in lower case, or with a mark that begins nothing."""
    if words[token] in _OPENERS and token + 1 < len(words):
        token += 1
    return text[starts[token]].islower() or words[token] in CLAUSES


def _abbreviates(text: str, words: Sequence[str], starts: Ints, attached: Bools, mark: int) -> bool:
    """The mark is the full stop of an abbreviation or of an initial."""
    if words[mark] != "." or not mark or not attached[mark]:
        return False
    word = words[mark - 1]
    if len(word) == 1 and word.isalpha():
        in_letters = mark > 2 and bool(attached[mark - 1]) and words[mark - 2] == "."
        return in_letters or (word != "i" and text[starts[mark - 1]].isupper())
    return word in _ABBREVIATIONS


def _after_lines(text: str, starts: Ints, stops: Ints) -> Bools:
    """Tokens that begin a line of their own: after an empty line, or where nothing was wrapped."""
    begins = np.zeros(len(starts), bool)
    breaks = np.array([match.end() for match in _LINE_BREAK.finditer(text)], np.int64)
    if not len(breaks):
        return begins
    first_after = np.searchsorted(starts, breaks)
    num_breaks = np.bincount(first_after, minlength=len(starts) + 1)[:-1]
    begins |= num_breaks > 1
    (ones,) = np.nonzero(num_breaks == 1)
    ones = ones[ones > 0]
    if len(ones):
        line_starts = np.append(0, breaks)
        lengths = np.diff(line_starts, append=len(text) + 1) - 1
        width = max(np.quantile(lengths[lengths > 0], 0.95), _NARROWEST)
        line_start = line_starts[np.searchsorted(line_starts, stops[ones - 1] - 1, "right") - 1]
        room = width - (stops[ones - 1] - line_start)
        fits = (room > stops[ones] - starts[ones]) | (width > _WIDEST)
        goes_on = np.array([text[place].islower() for place in starts[ones].tolist()])
        begins[ones] |= fits & ~goes_on
    return begins


def _shortened(begins: Ints, words: Sequence[str], spaced: Bools) -> Ints:
    """With more starts, so that no sentence has over `LONGEST` tokens.

    After a clause where there is one, or else at white space: not within 155.6.
    """
    lengths = np.diff(begins, append=len(words))
    if lengths.max() <= LONGEST:
        return begins
    more: list[int] = []
    for long in np.flatnonzero(lengths > LONGEST).tolist():
        start, stop = int(begins[long]), int(begins[long] + lengths[long])
        while stop - start > LONGEST:
            spaces = [c for c in range(start + LONGEST, start + LONGEST // 2, -1) if spaced[c]]
            last = next(iter(spaces), start + LONGEST)
            start = next((cut for cut in spaces if words[cut - 1] in CLAUSES), last)
            more.append(start)
    return np.sort(np.concatenate([begins, np.array(more, np.int64)]))
