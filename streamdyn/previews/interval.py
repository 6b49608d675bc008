"""What two looks, and the packet sizes between them, say of the items between.

Cost: about 40 µs an interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError
from streamdyn.items import Block
from streamdyn.outcome import Outcome
from streamdyn.previews.packet import log_relative_sizes

Floats = npt.NDArray[np.floating[Any]]
NUM_FEATURES = 35
"""Columns of `interval_features`."""
MISSING = -0.5
"""Standing of a label that the other end does not list; half as bad as the best is good."""
_ALMOST_NONE = 0.02


def standing(one: Outcome, other: Outcome) -> float:
    """How the best label of one outcome stands in the list of another.

    Its score there against the last listed one: 1 far ahead, 0 on a par (also where it is the only
    one listed: no margin, no assurance), `MISSING` when it is not listed.
    """
    if one.label not in other.labels:
        return MISSING
    score, last = other.scores[other.labels.index(one.label)], other.scores[-1]
    return (score - last) / (score + last) if score + last > 0 else 0.0


def interval_features(
    window: Block, known: Mapping[int, Outcome], intervals: Sequence[tuple[int, int]]
) -> npt.NDArray[np.float32]:
    """What is known for nothing about intervals between two looks.

    Args:
        window: The items.
        known: Index in the window → outcome; the last one before the window has a negative index.
        intervals: Pairs of neighbours in `known`.

    Returns:
        `(len(intervals), NUM_FEATURES)` float32.

    Raises:
        ConfigError: An outcome has no labels or no embedding.
    """
    order = sorted(known)
    ends = {index: _End.of(known[index]) for index in order}
    after = dict(pairwise(order))
    before = {b: a for a, b in after.items()}
    packets = log_relative_sizes(window)
    seconds = (window.pts - window.pts[0]) * float(window.time_base)
    step = float(seconds[-1]) / max(1, len(window) - 1)
    pairs: dict[tuple[int, int], list[float]] = {}

    def related(a: int | None, b: int | None) -> list[float]:
        if a is None or b is None:
            return [0.0, 0.0, 0.0, 0.0]
        if (a, b) not in pairs:
            pairs[a, b] = _related(ends[a], ends[b], b - a)
        return pairs[a, b]

    rows = []
    for a, b in intervals:
        left, right, gap = ends[a], ends[b], related(a, b)
        outer_left, outer_right = related(before.get(a), a), related(b, after.get(b))
        between = packets[max(0, a + 1) : b + 1]
        stands = gap[1:3]
        doubts = [1 - (r[1] + r[2]) / 2 for r in (gap, outer_left, outer_right)]
        rows.append(
            [
                *gap, min(stands), *left.facts, *right.facts,
                float(left.outcome.label == right.outcome.label),
                len(left.labels & right.labels) / max(1, len(left.labels)),
                float(between.max()), float(between.mean()), float(between.std()),
                float(window.keyframe[max(0, a + 1) : b].sum()), (b - a) * step,
                (1 - gap[3]) / (b - a) ** 0.5, *outer_left, *outer_right, doubts[0],
                *(float(np.log(max(0.0, doubt) + _ALMOST_NONE)) for doubt in doubts),
                float(a not in before), float(b not in after),
            ]
        )  # fmt: skip
    return np.array(rows, np.float32).reshape(-1, NUM_FEATURES)


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    """What an outcome says by itself."""

    outcome: Outcome
    labels: frozenset[str]
    embedding: Floats
    facts: tuple[float, float, float, float]
    """Best score, its lead over the second, its lead over the last, entropy of the list."""

    @staticmethod
    def of(outcome: Outcome) -> _End:
        if not outcome.labels or outcome.embedding is None:
            raise ConfigError(
                f"cannot judge what lies beside {outcome!r}: that takes labels and an "
                "embedding; choose a recognizer that gives both, or the policy 'bisect'"
            )
        scores = outcome.scores
        second = scores[1] if len(scores) > 1 else 0.0
        total = scores[0] + scores[-1]
        lead = (scores[0] - scores[-1]) / total if total > 0 else 0.0
        entropy = -sum(s * float(np.log(s)) for s in scores if s > 0)
        facts = scores[0], scores[0] - second, lead, entropy
        embedding = outcome.embedding.astype(np.float32)
        return _End(outcome, frozenset(outcome.labels), embedding, facts)


def _related(left: _End, right: _End, length: int) -> list[float]:
    """Logarithm of the distance, how each stands in the other's list, cosine."""
    return [
        float(np.log(length)),
        standing(left.outcome, right.outcome),
        standing(right.outcome, left.outcome),
        float(left.embedding @ right.embedding),
    ]
