"""Documents that `transkimmer` is computing: rows of one batch, and when a row needs no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError
from streamdyn.nn.minilm import CLS_ID, EPSILON, HIDDEN_SIZE, NUM_LAYERS, SEP_ID
from streamdyn.nn.minilm_onnx import Floats, Forward
from streamdyn.text.network import Ids


class Weights(NamedTuple):
    """All that the executed path needs; float32."""

    scores: Floats
    """`(V,)` of each id at the first gate."""
    importance: Floats
    """`(V,)` share of it that later gates start from."""
    centers: Floats
    """`(len(gates),)`."""
    votes: Floats
    """`(V, K)` class weights; `(0, K)`: none."""
    words: Floats
    """`(V, 384)`."""
    positions: Floats
    """`(512, 384)`."""
    norm: tuple[Floats, Floats]
    """Scale and shift, `(384,)`."""
    layers: Sequence[Forward]
    gates: tuple[int, ...]
    """Layers, from 0, before which tokens are dropped."""
    heads: dict[int, tuple[Floats, Floats]]
    """Layer, from 1 → `(K, 384)` weight and `(K,)` bias."""
    pool_dropped: bool
    gate_size: int
    """Inner units of a later gate."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a token is dropped and when a row stops."""

    knob: np.float32
    confidence: float | None
    patience: int | None

    def __post_init__(self) -> None:
        sure, patience = self.confidence, self.patience
        if sure is not None and not (isinstance(sure, Real) and 0 < sure <= 1):
            raise ConfigError(f"exit_confidence must be a number in (0, 1], got {sure!r}")
        if patience is not None and not (isinstance(patience, Integral) and patience >= 0):
            raise ConfigError(f"patience must be a whole number from 0 on, got {patience!r}")

    def leaves(self, batch: Batch, logits: Floats) -> npt.NDArray[np.bool_]:
        """`(B,)`: rows that need no further layer."""
        leaves = np.zeros(len(logits), np.bool_)
        if self.confidence is not None:
            # The best class has probability 1 / sum(exp(logits - best)).
            best = logits.max(1, keepdims=True)
            leaves |= np.exp(logits - best).sum(1) <= 1 / self.confidence
        if self.patience is not None:
            label = logits.argmax(1)
            batch.agreed = np.where(label == batch.label, batch.agreed + 1, 0)
            batch.label = label
            leaves |= batch.agreed >= self.patience
        return leaves


@dataclass(slots=True)
class Batch:
    """Rows that are still being computed; tokens of a row stand first, then padding."""

    rows: npt.NDArray[np.int64]
    """`(B,)` which document each row is."""
    hidden: Floats
    """`(B, N, 384)`."""
    lengths: npt.NDArray[np.int64]
    """`(B,)`, the special tokens counted."""
    importance: Floats
    """`(B, N)`."""
    votes: Floats
    """`(B, K)` of the class weights."""
    frozen: Floats
    """`(B, 384)`, sum of the states left behind."""
    total: npt.NDArray[np.int64]
    """`(B,)` states that the answer is averaged over."""
    label: npt.NDArray[np.int64]
    """`(B,)` answer of the last head."""
    agreed: npt.NDArray[np.int64]
    """`(B,)` heads in a row that gave it, less one."""

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        """`(B, N)`: no padding."""
        return np.arange(self.hidden.shape[1]) < self.lengths[:, None]

    def answer(self, head: tuple[Floats, Floats]) -> Floats:
        """`(B, K)` logits from the states as they are."""
        weight, bias = head
        kept = np.einsum("bn,bnh->bh", self.inside.astype(np.float32), self.hidden)
        pooled = (self.frozen + kept) / self.total[:, None].astype(np.float32)
        logits: Floats = pooled @ weight.T + bias + self.votes
        return logits

    def drop(self, scores: Floats, center: Any, knob: Any, pool_dropped: bool) -> None:
        """Leave behind the tokens that do not pass a gate; rows close up to the longest left."""
        passes = self.importance + scores - center - knob >= 0
        passes[:, :2] = True
        inside = self.inside
        if pool_dropped:
            left = (inside & ~passes).astype(np.float32)
            self.frozen = self.frozen + np.einsum("bn,bnh->bh", left, self.hidden)
        passes &= inside
        self.lengths = passes.sum(1)
        if not pool_dropped:
            self.total = self.lengths
        order = np.argsort(~passes, axis=1, kind="stable")[:, : self.lengths.max()]
        self.hidden = np.take_along_axis(self.hidden, order[..., None], 1)
        self.importance = np.take_along_axis(self.importance, order, 1)

    def take(self, stay: npt.NDArray[np.bool_]) -> None:
        """Go on with some rows only."""
        size = self.lengths[stay].max()
        for name in ("rows", "lengths", "votes", "frozen", "total", "label", "agreed"):
            setattr(self, name, getattr(self, name)[stay])
        self.hidden, self.importance = self.hidden[stay, :size], self.importance[stay, :size]


def embedded(documents: Sequence[Ids], weights: Weights) -> Batch:
    """The batch before the first layer, of `(T,)` ids each."""
    lengths = np.array([len(ids) + 2 for ids in documents])
    ids = np.zeros((len(documents), lengths.max()), np.int64)
    places = np.zeros_like(ids)
    ids[:, 0], ids[:, 1], places[:, 1] = CLS_ID, SEP_ID, lengths - 1
    for row, document in enumerate(documents):
        ids[row, 2 : lengths[row]] = document
        places[row, 2 : lengths[row]] = np.arange(1, len(document) + 1)
    hidden = weights.words[ids] + weights.positions[places]
    hidden -= hidden.mean(2, keepdims=True)
    hidden /= np.sqrt((hidden**2).mean(2, keepdims=True) + np.float32(EPSILON))
    hidden = hidden * weights.norm[0] + weights.norm[1]
    num_outputs = len(weights.heads[NUM_LAYERS][1])
    votes = np.zeros((len(documents), num_outputs), np.float32)
    if len(weights.votes):
        for row, document in enumerate(documents):
            votes[row] = weights.votes[document].sum(0) / np.sqrt(np.float32(1 + len(document)))
    return Batch(
        rows=np.arange(len(documents)),
        hidden=hidden,
        lengths=lengths,
        importance=weights.importance[ids],
        votes=votes,
        frozen=np.zeros((len(documents), HIDDEN_SIZE), np.float32),
        total=lengths,
        label=np.full(len(documents), -1),
        agreed=np.zeros(len(documents), np.int64),
    )
