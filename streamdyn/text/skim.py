"""Skimming without a task: which sentences or tokens of a text to keep, for a person or a prompt.

```python
reading = skim(text, rate=0.1, query="Where did they bury the money?")
reading.text, reading.kept, reading.read_rate
```
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Final, Literal, get_args

import numpy as np

from streamdyn.errors import ConfigError, UnknownName
from streamdyn.plan import Action
from streamdyn.text.budget_knob import ReadBudget
from streamdyn.text.reading import Reading
from streamdyn.text.salience import (
    Bools,
    Document,
    analyse,
    coverage_order,
    idf,
    prominence,
    relevance,
    sentence_vectors,
    token_values,
)
from streamdyn.text.selection import take_sentences, take_tokens
from streamdyn.text.word_vectors import VectorsName, WordVectors, word_vectors
from streamdyn.text.words import Tokens, split

Unit = Literal["sentence", "token"]
Pattern = str | re.Pattern[str]

DEFAULT_RATE: Final = 0.2
_WORTH_OF_COMMON, _WORTH_OF_MARK = 0.02, 0.01
"""Of a common word and of a punctuation mark, where a rare word is worth 1."""


def skim(
    text: str,
    *,
    rate: float | None = None,
    target_tokens: int | None = None,
    query: str | None = None,
    unit: Unit = "sentence",
    keep: Pattern | Iterable[Pattern] | None = None,
    vectors: VectorsName = "wordllama",
) -> Reading:
    """Keep what matters of a text, and exactly as much of it as was asked for.

    `round(rate * T)` of the T tokens are kept, at least one: words and punctuation marks as
    `words.split` gives them, none ever in part.

    Args:
        text: Any text; an empty one gives an empty reading.
        rate: Share of the tokens to keep, in (0, 1]; 0.2 where no budget is given.
        target_tokens: Instead of `rate`: how many tokens to keep, at least 1.
        query: What the reader wants to know; without it, what the text is about.
        unit: `sentence` keeps sentences whole, but for the last one taken, which is cut to fit.
            `token` keeps words wherever they stand, as for a language model that reads over gaps;
            numbers and compounds stay whole.
        keep: Regular expressions; tokens that a match touches are always kept. They count towards
            the budget; where they alone exceed it, they are all that is kept, and the reading
            shows the true rate.
        vectors: `wordllama` compares words by meaning; `hashed` by identity and needs no package.

    Returns:
        A reading without a label: PROCESS for what is kept, SKIP for the rest. Its token ids
        number the text's own words, its flops are those of the vectors.

    Raises:
        ConfigError: Two budgets, a wrong one, a query without a word, an invalid expression.
        MissingExtra: `wordllama` is not installed.
    """
    if not isinstance(text, str):
        raise ConfigError(f"a text must be a str, got {type(text).__name__}")
    if unit not in get_args(Unit):
        raise UnknownName("unit", str(unit), get_args(Unit))
    asked = ReadBudget(rate=rate, target_tokens=target_tokens)
    terms = _terms(query)
    patterns = _compiled(keep)
    began = time.perf_counter()
    known = word_vectors(vectors)
    loaded = time.perf_counter()
    document = analyse(text, known)
    split_up = time.perf_counter()
    size = len(document.ids)
    kept = np.zeros(size, bool)
    flops = 0.0
    if size:
        _keep_touched(document, patterns, kept)
        wanted = asked.target_tokens or round((asked.rate or DEFAULT_RATE) * size)
        budget = min(max(1, wanted), size)
        flops = _fill(document, known, kept, budget - int(kept.sum()), terms, unit)
    done = time.perf_counter()
    places = document.ids, document.starts, document.stops
    return Reading(
        text,
        Tokens(*(values.astype(np.int32) for values in places)),
        np.where(kept, Action.PROCESS, Action.SKIP).astype(np.uint8),
        reads=int(kept.sum()),
        flops=flops,
        seconds={"load": loaded - began, "split": split_up - loaded, "choose": done - split_up},
    )


def _fill(
    document: Document,
    known: WordVectors,
    kept: Bools,
    budget: int,
    terms: list[str],
    unit: Unit,
) -> float:
    """Keep `budget` tokens more; answers the flops spent on it."""
    if budget <= 0:
        return 0.0
    sentences = sentence_vectors(document)
    prior = prominence(document, sentences)
    flops: float = 2.0 * sentences.shape[1] * (len(document.ids) + 2 * len(sentences))
    rare = idf(document)
    worth = document.weights * (0.5 + 0.5 * rare / max(rare.max(), 1e-9))
    rest = np.where(document.is_word, _WORTH_OF_COMMON, _WORTH_OF_MARK)
    worth = np.where(document.is_content, worth, rest)
    if terms:
        found = relevance(document, sentences, rare, terms, known)
        flops += found.flops
        by_sentence = found.sentences + 0.05 * prior
        worth = worth + found.words
        order = np.argsort(-by_sentence, kind="stable")
    else:
        by_sentence = prior * document.sums(document.weights) / (document.lengths + 4)
        by_sentence = by_sentence + by_sentence.mean()
    values = token_values(document, worth, by_sentence)
    if unit == "token":
        take_tokens(document, kept, budget, values)
        return flops
    if not terms:
        costs = np.add.reduceat(~kept, document.begins, dtype=np.int64)
        order = coverage_order(document, prior, costs, budget)
    take_sentences(document, kept, budget, order, values)
    return flops


def _keep_touched(document: Document, patterns: list[re.Pattern[str]], kept: Bools) -> None:
    """Mark the tokens that share a character with a match."""
    spans = [match.span() for pattern in patterns for match in pattern.finditer(document.text)]
    if spans:
        offsets = np.array([span for span in spans if span[0] < span[1]], np.int64).reshape(-1, 2)
        firsts = np.searchsorted(document.stops, offsets[:, 0], "right")
        afters = np.searchsorted(document.starts, offsets[:, 1])
        edges = np.zeros(len(kept) + 1, np.int64)
        np.add.at(edges, firsts, 1)
        np.add.at(edges, afters, -1)
        kept |= np.cumsum(edges)[:-1] > 0


def _compiled(keep: Pattern | Iterable[Pattern] | None) -> list[re.Pattern[str]]:
    given = [keep] if isinstance(keep, str | re.Pattern) else keep or ()
    if not isinstance(given, Iterable):
        raise ConfigError(f"keep takes regular expressions, got {keep!r}")
    compiled = []
    for pattern in given:
        if not isinstance(getattr(pattern, "pattern", pattern), str):
            raise ConfigError(f"keep takes regular expressions as str, got {pattern!r}")
        try:
            compiled.append(re.compile(pattern))
        except (re.error, OverflowError, RecursionError) as exc:
            raise ConfigError(f"keep={pattern!r} is no regular expression: {exc}") from exc
    return compiled


def _terms(query: str | None) -> list[str]:
    if query is None:
        return []
    if not isinstance(query, str):
        raise ConfigError(f"a query must be a str, got {type(query).__name__}")
    terms = [word for word in split(query)[0] if any(map(str.isalnum, word))]
    if not terms:
        raise ConfigError(f"query={query!r} holds no word; leave it out to skim without a question")
    return terms
