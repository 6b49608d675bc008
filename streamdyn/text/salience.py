"""What of a text matters: in general, or to a query. Every step is linear in its tokens.

In general: a sentence is worth the rare and repeated words that it adds to those taken before
(a submodular coverage, maximised greedily), more so near the middle of what the text is about and
near its beginning.

To a query: BM25 over stems, in which words close in meaning count in part, and the cosine of the
two; a share of it is passed on to the sentences around, for `He went to the kitchen` says nothing
without them.

Paper: Lin and Bilmes 2011, A Class of Submodular Functions for Document Summarization,
ACL P11-1052, section 4: reward for diversity by square roots.
Differs: roots over word stems, not over clusters of sentences; gains are taken in rounds.
Paper: Robertson and Zaragoza 2009, The Probabilistic Relevance Framework: BM25 and Beyond,
section 3.4.
Differs: a term's frequency is at least its closest word's similarity; divided by the query's idf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamdyn.text.sentences import sentence_starts
from streamdyn.text.word_vectors import Floats, WordVectors
from streamdyn.text.words import split

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]

_COMMON = """a an the and or but if of to in on at for with from by as is are was were be been being
    am it its he him his she her hers they them their theirs i me my mine we us our ours you your
    yours this that these those there here do does did done so than then too very can could will
    would shall should may might must have has had having who whom whose which what when where why
    how all any each other some such own same just up down out off over under again into about after
    before"""
COMMON = frozenset(_COMMON.split())
"""English words that say little by themselves; negations are none of them. In other languages
their frequency gives them away."""
_MAX_WORDS = 1 << 16
"""Different words that are looked up, the most frequent ones; no book has as many."""
_ROUNDS = 12
_SATURATION, _LENGTH_SHARE = 1.2, 0.75
"""BM25's k1 and b."""
_ALIKE = 0.45
"""Cosine from which words are taken to mean something similar."""
_MAX_TERMS = 64
"""Query words that are looked for one by one."""
_REACH, _PASSED_ON = 4, 0.4
"""Sentences after which relevance has faded to 1/e, and the share that a neighbour gets."""
_NEAR = 0.2
"""What a token gets of the worth of each neighbour."""
_BLOCK = 1 << 14
"""Tokens whose vectors are in memory at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A text of T tokens, S sentences and V different words."""

    text: str
    """As it was given."""
    starts: Ints
    """`(T,)` characters."""
    stops: Ints
    """`(T,)` characters."""
    ids: Ints
    """`(T,)`, numbers of words in the order in which they first occur."""
    begins: Ints
    """`(S,)`, the token that each sentence begins with."""
    sentence_of: Ints
    """`(T,)`."""
    words: tuple[str, ...]
    """`(V,)`, in lower case."""
    stems: Ints
    """`(V,)`, numbers; words of one stem have the same."""
    is_word: Bools
    """`(V,)`; not a mark."""
    is_content: Bools
    """`(V,)`; neither a mark nor a common word."""
    vectors: Floats
    """`(V, 256)`; zero where there is no content, or nothing is known."""
    weights: Floats
    """`(V,)`, how rare a word is in the language, in [0, 1]; 0 where there is no content."""

    @property
    def lengths(self) -> Ints:
        """`(S,)` tokens."""
        return np.diff(self.begins, append=len(self.ids))

    def sums(self, values: npt.NDArray[np.floating]) -> Scores:
        """`(S,)` sums over the tokens of each sentence, of values a word."""
        return np.add.reduceat(values[self.ids].astype(np.float64), self.begins)


def analyse(text: str, vectors: WordVectors) -> Document:
    """Split a text into tokens and sentences and look its words up."""
    tokens, spans = split(text)
    offsets = np.array(spans, np.int64).reshape(-1, 2)
    starts, stops = offsets[:, 0].copy(), offsets[:, 1].copy()
    begins = sentence_starts(text, tokens, starts, stops)
    number: dict[str, int] = {}
    ids = np.array([number.setdefault(word, len(number)) for word in tokens], np.int64)
    words = tuple(number)
    stem_number: dict[str, int] = {}
    stems = np.array([stem_number.setdefault(stem(w), len(stem_number)) for w in words], np.int64)
    is_word = np.array([_is_word(word) for word in words], bool)
    is_content = is_word & ~np.array([_is_common(word) for word in words], bool)
    content = np.flatnonzero(is_content)
    if len(content) > _MAX_WORDS:
        content = content[np.argsort(-np.bincount(ids)[content], kind="stable")[:_MAX_WORDS]]
    found, rarity = vectors.look_up([words[number] for number in content.tolist()])
    table = np.zeros((len(words), found.shape[1]), np.float32)
    table[content] = found
    weights = is_content.astype(np.float32)
    weights[content] = 0.1 + 0.9 * rarity
    lengths = np.diff(begins, append=len(ids))
    sentence_of = np.repeat(np.arange(len(begins)), lengths)
    return Document(
        text,
        starts,
        stops,
        ids,
        begins,
        sentence_of,
        words,
        stems,
        is_word,
        is_content,
        table,
        weights,
    )


def stem(word: str) -> str:
    """Without the commonest English endings: enough to match `walks` with `walked`."""
    for tail in ("'s", "\u2019s", "'", "\u2019"):
        word = word.removesuffix(tail) or word
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    for tail in ("ing", "ed", "es", "s", "ly", "er"):
        if word.endswith(tail) and len(word) >= len(tail) + 3 and not word.endswith("ss"):
            word = word[: -len(tail)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl":
                word = word[:-1]
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def _is_word(word: str) -> bool:
    return any(map(str.isalnum, word))


def _is_common(word: str) -> bool:
    return word.replace("\u2019", "'").partition("'")[0] in COMMON


def idf(document: Document) -> Scores:
    """`(V,)` inverse frequency of each word's stem among the sentences."""
    num_stems = int(document.stems.max()) + 1
    pairs = np.unique(document.sentence_of * num_stems + document.stems[document.ids])
    holding = np.bincount(pairs % num_stems, minlength=num_stems)
    sentences = len(document.begins)
    by_stem = np.log1p((sentences - holding + 0.5) / (holding + 0.5))
    out: Scores = by_stem[document.stems]
    return out


def sentence_vectors(document: Document) -> Floats:
    """`(S, 256)`, the weighted mean of the words of each sentence, of unit length or zero."""
    weighted = (document.vectors * document.weights[:, None]).astype(np.float32, copy=False)
    sums: Floats = np.zeros((len(document.begins), weighted.shape[1]), np.float32)
    content = np.flatnonzero(document.is_content[document.ids])
    for first in range(0, len(content), _BLOCK):
        tokens = content[first : first + _BLOCK]
        sentence = document.sentence_of[tokens]
        heads = np.flatnonzero(np.diff(sentence, prepend=-1))
        parts: Floats = np.add.reduceat(weighted[document.ids[tokens]], heads, axis=0)
        sums[sentence[heads]] += parts  # A sentence may lie in two blocks.
    return _unit(sums)


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    out: Floats = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)
    return out


def prominence(document: Document, sentences: Floats) -> Scores:
    """`(S,)`, 1 and more: how near the middle of the text's meaning and to its beginning."""
    centre = sentences @ _unit(sentences.sum(0))
    out: Scores = 1 + 0.5 * centre.clip(0) + 0.5 / (1 + np.arange(len(centre)))
    return out


def coverage_order(document: Document, prior: Scores, costs: Ints, budget: int) -> Ints:
    """Sentences in the order in which they add most to those before, a token.

    Gains are taken anew in every round; the rounds grow, since early choices matter most.

    Args:
        document: The text.
        prior: `(S,)` factors.
        costs: `(S,)` tokens that each sentence spends.
        budget: Tokens in all; the order of what no longer fits into it means little.

    Returns:
        `(S,)` sentence numbers.
    """
    stems = document.stems[document.ids]
    counts = np.bincount(stems)
    rarity = np.zeros(len(counts))
    np.maximum.at(rarity, document.stems, document.weights)
    value = rarity * np.sqrt(np.log1p(counts))
    is_copy = _copies(document)
    divisor = document.lengths + 4.0  # Or the shortest of all would win.
    taken = np.zeros(len(costs), bool)
    covered = np.zeros(len(counts))
    order: list[Ints] = []
    spent = 0
    for turn in range(1, _ROUNDS + 1):
        gains = value * (np.sqrt(covered + 1) - np.sqrt(covered))
        score = np.add.reduceat(gains[stems], document.begins) / divisor * prior
        ranked = np.argsort(-(score - is_copy * (score + 1)), kind="stable")
        ranked = ranked[~taken[ranked]]
        share = budget * turn / (_ROUNDS * (_ROUNDS + 1) / 2)
        number = max(1, int(np.searchsorted(np.cumsum(costs[ranked]), share, "right")))
        chosen = ranked[:number]
        order.append(chosen)
        spent += int(costs[chosen].sum())
        if spent >= budget:
            break
        taken[chosen] = True
        in_chosen = np.zeros(len(costs), bool)
        in_chosen[chosen] = True
        covered += np.bincount(stems[in_chosen[document.sentence_of]], minlength=len(covered))
    return np.concatenate([*order, ranked[number:]])


def _copies(document: Document) -> Bools:
    """`(S,)`: the same words in the same order as an earlier sentence."""
    place = np.arange(len(document.ids)) - document.begins[document.sentence_of]
    mixed = (document.ids * 0x9E3779B1 + place * 0x85EBCA77 + 1).astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    _, firsts = np.unique(np.add.reduceat(mixed, document.begins), return_index=True)
    copies = np.ones(len(document.begins), bool)
    copies[firsts] = False
    return copies


@dataclass(frozen=True, slots=True, eq=False)
class Relevance:
    """How well a text answers a query."""

    sentences: Scores
    """`(S,)`, at least 0; about 1 where all words of the query are found."""
    words: Scores
    """`(V,)`: how like one of the query's words, in [0, 1]."""
    flops: float
    """Multiply-adds times two of comparing the vectors."""


def relevance(
    document: Document,
    sentences: Floats,
    rare: Scores,
    query: Sequence[str],
    vectors: WordVectors,
) -> Relevance:
    """What matters to a query.

    Args:
        document: The text.
        sentences: `(S, 256)` from `sentence_vectors`.
        rare: `(V,)` from `idf`.
        query: Its words in lower case, at least one.
        vectors: Where its words are looked up.
    """
    different = list(dict.fromkeys(query))
    terms = [word for word in different if not _is_common(word)] or different
    stem_numbers = dict(zip(map(stem, document.words), document.stems.tolist(), strict=True))
    by_stem = dict(zip(document.stems.tolist(), rare.tolist(), strict=True))
    unseen = float(np.log1p(2 * len(document.begins) + 1))
    numbers = [stem_numbers.get(stem(term), -1) for term in terms]
    weights = np.array([by_stem.get(number, unseen) for number in numbers])
    found, rarity = vectors.look_up(terms)
    about = _unit((found * (weights * (0.1 + rarity))[:, None]).sum(0).astype(np.float32))
    cosine = (sentences @ about).clip(0)

    words, terms_found = np.zeros(len(document.words)), np.zeros(len(document.begins))
    directions, queries = _unit(document.vectors), _unit(found)
    length = document.sums(document.is_word.astype(float))
    longer = 1 - _LENGTH_SHARE + _LENGTH_SHARE * length / max(length.mean(), 1)
    looked_for = np.argsort(-weights, kind="stable")[:_MAX_TERMS]
    for term in looked_for.tolist():
        same = (document.stems == numbers[term]).astype(np.float64)
        alike = ((directions @ queries[term] - _ALIKE) / (1 - _ALIKE)).clip(0, 1)
        closest = np.maximum.reduceat(alike[document.ids], document.begins)
        often = np.maximum(document.sums(same), closest)
        terms_found += weights[term] * often * (_SATURATION + 1) / (often + _SATURATION * longer)
        words = np.maximum(words, np.maximum(same, alike))
    score = terms_found / max(weights[looked_for].sum(), 1e-9) + 0.5 * cosine
    compared = len(sentences) + len(looked_for) * len(directions)
    return Relevance(_pass_on(score), words, 2.0 * sentences.shape[1] * compared)


def _pass_on(score: Scores) -> Scores:
    """Each sentence's own score and a share of those around it."""
    width = 4 * _REACH
    distance = np.abs(np.arange(-width, width + 1))
    kernel = _PASSED_ON * np.exp(-distance / _REACH)
    kernel[width] = 1
    out: Scores = np.convolve(score, kernel)[width : width + len(score)]
    return out


def token_values(document: Document, by_word: Scores, by_sentence: Scores) -> Scores:
    """`(T,)`: what each token is worth; more between good ones than alone, so that runs form.

    Args:
        document: The text.
        by_word: `(V,)`, at least 0.
        by_sentence: `(S,)`, at least 0.
    """
    alone = by_word[document.ids]
    near = np.zeros(len(alone))
    near[1:] += alone[:-1]
    near[:-1] += alone[1:]
    out: Scores = (alone + _NEAR * near) * by_sentence[document.sentence_of]
    return out
