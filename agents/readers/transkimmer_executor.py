"""The executed path of `transkimmer`: what is dropped is not computed, a row that exits leaves.

```
rows   a . b c .     first gate, by look-up     [CLS] [SEP] a b c
       d . . . .                                [CLS] [SEP] d  -  -      packed to the longest
layer 0, 1           second gate                [CLS] [SEP] a c          b stays as it was
                                                [CLS] [SEP] d  -
layer 2, 3           the second row is sure     [CLS] [SEP] a c          and goes on alone
```
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError
from streamdyn.nn import kernels
from streamdyn.nn.minilm import HIDDEN_SIZE, INNER_SIZE, NUM_LAYERS
from streamdyn.nn.minilm_onnx import Floats
from streamdyn.plan import Action
from streamdyn.text.budget_knob import UNLIMITED
from streamdyn.text.network import Actions, Ids, ReadState

from .transkimmer_batch import Rule, Weights, embedded

_BATCH_TOKENS = 512
_DROPPED = np.float32(-1e9)
_DONE, _KNOB, _CONFIDENCE, _PATIENCE, _FLOPS, _LOGITS = range(6)
"""Where `ReadState.aux` holds what."""


@dataclass(frozen=True, slots=True, eq=False)
class RowReading:
    """What the encoder made of one document."""

    logits: Floats
    """`(K,)`."""
    actions: Actions
    """`(T,)` uint8: PROCESS where a token passed the first gate, else SKIP."""
    tokens_by_layer: npt.NDArray[np.int64]
    """`(6,)` tokens that each layer computed, the two special ones not counted."""
    exit_layer: int
    """Layers computed."""
    flops: float
    """Multiply-adds times two, gates and heads included."""


class TranskimmerExecutor:
    """Reads ragged batches, or one document in pieces.

    Args:
        weights: Of the network.
        capacity: Tokens that the encoder takes.
        batch_size: Rows that are computed together, at most; a CPU computes padding too, and so
            they are of nearly one length.
    """

    modes = ("exact",)

    def __init__(self, weights: Weights, capacity: int, batch_size: int = 32) -> None:
        self.weights, self.capacity, self.batch_size = weights, capacity, batch_size
        self.options = ("exit_confidence", "patience") if len(weights.heads) > 1 else ()
        self._num_outputs = len(weights.heads[NUM_LAYERS][1])

    def read(
        self,
        documents: Sequence[Ids],
        knob: float = 0.0,
        *,
        exit_confidence: float | None = None,
        patience: int | None = None,
        max_reads: int = UNLIMITED,
    ) -> list[RowReading]:
        """Read documents together, in batches of similar length.

        Args:
            documents: `(T,)` int32 ids each.
            knob: Larger reads less; 0 is the network as trained.
            exit_confidence: A row stops at the first head whose best probability reaches this;
                `None`: it does not.
            patience: A row stops when a head and this many before it agree; `None`: it does not.
            max_reads: Tokens that may pass the first gate; the best by score do.

        Raises:
            ConfigError: A confidence outside (0, 1], or a negative patience.
        """
        chosen = [self._first_gate(ids, knob, max_reads) for ids in documents]
        rule = Rule(np.float32(knob), exit_confidence, patience)
        readings: dict[int, RowReading] = {}
        for rows in _batches([int(kept.sum()) for kept in chosen], self.batch_size):
            answers = self._encode([documents[row][chosen[row]] for row in rows], rule)
            for row, answer in zip(rows, answers, strict=True):
                layers = len(answer.by_layer)
                readings[row] = RowReading(
                    logits=answer.logits,
                    actions=_actions(chosen[row]),
                    tokens_by_layer=np.pad(answer.by_layer, (0, NUM_LAYERS - layers)),
                    exit_layer=layers,
                    flops=answer.flops + len(documents[row]),
                )
        return [readings[row] for row in range(len(documents))]

    def start(self) -> ReadState:
        """Before the first token."""
        aux = np.full(_LOGITS + self._num_outputs, np.nan, np.float32)
        aux[[_DONE, _KNOB]] = 0
        counts = np.zeros(kernels.NUM_COUNTS, np.int64)
        return ReadState(np.zeros((0, HIDDEN_SIZE), np.float32), aux, counts)

    def advance(
        self,
        state: ReadState,
        tokens: Ids,
        *,
        knob: float = 0.0,
        max_reads: int = UNLIMITED,
        ended: bool = True,
        mode: str = "exact",
        exit_confidence: float | None = None,
        patience: int | None = None,
    ) -> Actions:
        """Go on with the next tokens; those that pass the first gate wait for the encoder.

        It runs once the document has ended. Where more tokens pass than it takes, the worst of
        those that wait give way, although an earlier call may have said PROCESS of them.

        Args:
            state: Where the reading stands; updated in place.
            tokens: `(n,)` int32 ids.
            knob: Larger reads less.
            max_reads: Tokens that may pass the first gate in the whole reading; the best do.
            ended: No token follows these.
            mode: `exact`.
            exit_confidence: See `read`.
            patience: See `read`.

        Returns:
            `(n,)` uint8: PROCESS or SKIP.

        Raises:
            ConfigError: The reader does not have this mode.
        """
        if mode not in self.modes:
            raise ConfigError(f"this reader reads in {' or '.join(self.modes)} mode, not {mode!r}")
        ids = np.concatenate([state.past, np.asarray(tokens, np.int32)])
        chosen = self._first_gate(ids, knob, max_reads)
        state.past = ids[chosen]
        chosen = chosen[len(chosen) - len(tokens) :]
        state.counts[[kernels.POSITION, kernels.LOOKS]] += len(tokens)
        state.counts[kernels.FULL] = len(state.past)
        state.aux[_KNOB] = knob
        state.aux[_CONFIDENCE] = np.nan if exit_confidence is None else exit_confidence
        state.aux[_PATIENCE] = np.nan if patience is None else patience
        state.aux[_DONE] = ended
        if ended:
            state.aux[_LOGITS:], _, state.aux[_FLOPS] = self._answer(state)
        return _actions(chosen)

    def logits(self, state: ReadState) -> Floats:
        """`(num_outputs,)`, what the reader would answer now; runs the encoder before the end."""
        if state.aux[_DONE]:
            return state.aux[_LOGITS:].copy()
        return self._answer(state)[0]

    def flops(self, state: ReadState) -> float:
        """Multiply-adds times two spent so far; gates and heads included."""
        encoder = float(state.aux[_FLOPS]) if state.aux[_DONE] else 0.0
        return encoder + state.num_looks

    def _answer(self, state: ReadState) -> _Answer:
        knob, confidence, patience = state.aux[[_KNOB, _CONFIDENCE, _PATIENCE]]
        rule = Rule(
            knob,
            None if np.isnan(confidence) else float(confidence),
            None if np.isnan(patience) else int(patience),
        )
        return self._encode([state.past], rule)[0]

    def _first_gate(self, ids: Ids, knob: float, max_reads: int) -> npt.NDArray[np.bool_]:
        """`(T,)`: which tokens pass; earlier ones win a tie."""
        scores = self.weights.scores[ids]
        passes: npt.NDArray[np.bool_] = scores - self.weights.centers[0] - np.float32(knob) >= 0
        capacity = min(self.capacity, max_reads)
        if passes.sum() > capacity:
            index = np.flatnonzero(passes)
            best = np.argsort(-scores[index], kind="stable")
            passes[index[best[capacity:]]] = False
        return passes

    def _encode(self, rows: Sequence[Ids], rule: Rule) -> list[_Answer]:
        """Answers of documents that were skimmed already."""
        weights = self.weights
        batch = embedded(rows, weights)
        by_layer = np.zeros((len(rows), NUM_LAYERS), np.int64)
        answers: dict[int, _Answer] = {}
        scores: list[Floats] = []
        for number, layer in enumerate(weights.layers):
            if number in weights.gates[1:]:
                center = weights.centers[weights.gates.index(number)]
                knob = min(rule.knob, np.float32(0))
                batch.drop(scores[0][..., 0], center, knob, weights.pool_dropped)
            bias = np.where(batch.inside, np.float32(0), _DROPPED)
            batch.hidden, *scores = layer(batch.hidden, bias)
            by_layer[batch.rows, number] = batch.lengths - 2
            if number + 1 not in weights.heads:
                continue
            logits = batch.answer(weights.heads[number + 1])
            leaves = rule.leaves(batch, logits) | (number + 1 == NUM_LAYERS)
            for place in np.flatnonzero(leaves):
                row = int(batch.rows[place])
                tokens = by_layer[row, : number + 1]
                answers[row] = _Answer(logits[place], tokens, self._flops(tokens))
            if leaves.all():
                break
            batch.take(~leaves)
            scores = [part[~leaves, : batch.hidden.shape[1]] for part in scores]
        return [answers[row] for row in range(len(rows))]

    def _flops(self, by_layer: npt.NDArray[np.int64]) -> float:
        """Of one document, from the tokens that each layer computed."""
        n = by_layer + 2.0
        linear = 2.0 * n * (4 * HIDDEN_SIZE**2 + 2 * HIDDEN_SIZE * INNER_SIZE)
        attention = 4.0 * n**2 * HIDDEN_SIZE
        looks = sum(n[gate - 1] for gate in self.weights.gates[1:] if gate < len(n))
        heads = sum(layer <= len(n) for layer in self.weights.heads)
        gates = 2.0 * looks * self.weights.gate_size * (HIDDEN_SIZE + 1)
        votes = float(n[0]) * len(self.weights.votes[0]) if len(self.weights.votes) else 0.0
        return float((linear + attention).sum() + gates + votes) + (
            2.0 * heads * HIDDEN_SIZE * self._num_outputs
        )


def _batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Rows of nearly one length, and no more tokens together than stay in the cache."""
    batch: list[int] = []
    for row in np.argsort(lengths, kind="stable").tolist():
        longest, count = lengths[row], len(batch) + 1
        full = count > size or count * longest > _BATCH_TOKENS
        if batch and (full or longest > lengths[batch[0]] * 17 / 16 + 4):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _actions(chosen: npt.NDArray[np.bool_]) -> Actions:
    return np.where(chosen, Action.PROCESS, Action.SKIP).astype(np.uint8)


class _Answer(NamedTuple):
    """Of one document."""

    logits: Floats
    """`(K,)`."""
    by_layer: npt.NDArray[np.int64]
    """`(layers computed,)` tokens."""
    flops: float
