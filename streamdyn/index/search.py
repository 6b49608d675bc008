"""Search: by words (FTS5), by meaning (sentence embeddings), by picture (outcome embeddings).

Words and meaning each rank the segments; `hybrid` adds the reciprocals of the ranks.

Paper: Cormack, Clarke, Buettcher 2009, Reciprocal rank fusion outperforms Condorcet and
individual rank learning methods, SIGIR, section 2 (k = 60).
"""

from __future__ import annotations

import logging
import re
from bisect import bisect_right
from collections import defaultdict
from dataclasses import replace
from typing import get_args

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError, MissingExtra, UnknownName
from streamdyn.index.hits import Hit, SearchMode, hit_of_row
from streamdyn.index.phrases import SentenceEncoder, phrase_vectors, sentence_encoder
from streamdyn.index.reading import IndexReader

logger = logging.getLogger(__name__)

_FUSION_K = 60
_MIN_POOL = 100
"""Places of each ranking that are looked at, if not more are asked for."""


def search(
    index: IndexReader, text: str, *, limit: int = 10, mode: SearchMode = "hybrid"
) -> list[Hit]:
    """The segments and files that answer a query, best first.

    Args:
        index: Where to search.
        text: Any words; a word also finds longer ones that begin with it.
        limit: Hits at most.
        mode: `text` finds words in labels, texts and file names; `vector` finds what is most
            alike in meaning, so it always answers; `hybrid` joins both. Without a sentence
            encoder `hybrid` is `text`, which is logged and said in `Hit.mode`.

    Raises:
        ConfigError: The query has no word in it, or the limit is below 1.
        UnknownName: There is no such mode.
        MissingExtra: `vector` without a sentence encoder.
    """
    _check_limit(limit)
    if mode not in get_args(SearchMode):
        raise UnknownName("search mode", mode, get_args(SearchMode))
    words = re.findall(r"\w+", text)
    if not words:
        raise ConfigError(f"cannot search for {text!r}: there is no word in it; give at least one")
    pool = max(_MIN_POOL, limit)
    rankings: dict[str, list[int]] = {}
    if mode != "vector":
        rankings["text"] = _rank_by_words(index, words, pool)
    encoder = None if mode == "text" else _encoder_for(mode)
    if encoder is not None:
        rankings["vector"] = _rank_by_meaning(index, encoder, " ".join(words), pool)
    done = mode if mode == "vector" or encoder is not None else "text"
    ranks: dict[int, dict[str, int]] = defaultdict(dict)
    for name, ranking in rankings.items():
        for place, row in enumerate(ranking, 1):
            ranks[row][name] = place
    relevance = {row: sum(1 / (_FUSION_K + p) for p in r.values()) for row, r in ranks.items()}
    best = sorted(relevance, key=lambda row: -relevance[row])[:limit]
    return [hit_of_row(index, row, relevance[row], ranks[row], done) for row in best]


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise ConfigError(f"limit must be at least 1 hit, got {limit}")


def _encoder_for(mode: SearchMode) -> SentenceEncoder | None:
    try:
        return sentence_encoder()
    except MissingExtra as exc:
        if mode == "vector":
            raise
        logger.warning("searched by words only: %s", exc)
        return None


def _rank_by_words(index: IndexReader, words: list[str], pool: int) -> list[int]:
    """Rows of `words`, best first."""
    # Quoted, nothing in a word is query syntax.
    query = " OR ".join(f'"{word}"*' for word in words)
    rows = index.fetch(
        "SELECT words.rowid FROM words LEFT JOIN segments ON segments.id = words.rowid "
        "WHERE words MATCH ? ORDER BY bm25(words), segments.score DESC, words.rowid LIMIT ?",
        query,
        pool,
    )
    return [row for (row,) in rows]


def _rank_by_meaning(
    index: IndexReader, encoder: SentenceEncoder, text: str, pool: int
) -> list[int]:
    """Ids of segments, best first."""
    phrases, vectors = phrase_vectors(index, encoder)
    similarity = vectors @ encoder.embed([text])[0]
    ranking: dict[int, None] = {}
    for i in np.argsort(-similarity, kind="stable"):
        rows = index.fetch(
            "SELECT id FROM segments WHERE label = ? OR text = ? ORDER BY score DESC, id LIMIT ?",
            phrases[i],
            phrases[i],
            pool,
        )
        ranking.update(dict.fromkeys(row for (row,) in rows))
        if len(ranking) >= pool:
            break
    return list(ranking)[:pool]


def search_by_vector(
    index: IndexReader, vector: npt.ArrayLike, recognizer: str | None = None, limit: int = 10
) -> list[Hit]:
    """The segments with the outcomes most like an embedding, best first; relevance is the cosine.

    Args:
        index: Where to search; files that are not done have no segments and are left out.
        vector: `(D,)`, not zero, made by the recognizer whose outcomes are searched.
        recognizer: Name and version, as in `lite0-160/1`; may be left out where only one
            recognizer has embeddings of that size.
        limit: Hits at most.

    Raises:
        ConfigError: The vector fits no embeddings, or those of several recognizers.
    """
    _check_limit(limit)
    query = np.asarray(vector, np.float32)
    length = float(np.linalg.norm(query))
    if query.ndim != 1 or not np.isfinite(length) or length == 0:
        raise ConfigError(
            f"cannot search by a vector of shape {query.shape} and length {length}: it must be "
            "one vector, finite and not zero; embed the example again"
        )
    chosen = _recognizer_of_size(index, query.size, recognizer)
    segments: dict[str, list[tuple[int, int]]] = {}
    hits: dict[int, Hit] = {}
    for outcome_id, media_id, ordinal, ticks, similarity in index.nearest(query / length, chosen):
        if media_id not in segments:
            segments[media_id] = _segment_starts(index, media_id, chosen)
        place = bisect_right(segments[media_id], ordinal, key=lambda pair: pair[0]) - 1
        if place < 0 or (row := segments[media_id][place][1]) in hits:
            continue
        ranks = {"vector": len(hits) + 1}
        hit = hit_of_row(index, row, similarity, ranks, "vector")
        hits[row] = replace(hit, best=replace(hit.best, ticks=ticks), outcome_id=outcome_id)
        if len(hits) == limit:
            break
    return list(hits.values())


def _recognizer_of_size(index: IndexReader, size: int, wanted: str | None) -> str:
    sizes = index.embedding_sizes()
    if wanted is not None and wanted not in sizes:
        raise UnknownName("recognizer with embeddings in the index", wanted, sizes)
    fitting = [n for n, s in sizes.items() if s == size and wanted in (None, n)]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(f"{n} ({s})" for n, s in sorted(sizes.items())) or "none"
    problem = "no embeddings" if not fitting else "those of several recognizers"
    raise ConfigError(
        f"cannot search {index.path} by a vector of {size} numbers: it fits {problem} (there: "
        f"{known}); embed the example with one of these and name it"
    )


def _segment_starts(index: IndexReader, media_id: str, recognizer: str) -> list[tuple[int, int]]:
    """First ordinal and id of the segments of a file, in order."""
    rows = index.fetch(
        "SELECT start_ordinal, id FROM segments WHERE media_id = ? AND recognizer = ? "
        "ORDER BY start_ordinal",
        media_id,
        recognizer,
    )
    return [(start, row) for start, row in rows]
