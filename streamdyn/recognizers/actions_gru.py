"""Actions by a GRU: its state says how much each picture counts, as one comes after another.

What goes in is how like the pictures so far a picture is, what a linear head says of it alone, and
a few numbers of its embedding; the answer is the mean of what the head says, each weighted by a
gate read from the state after it. A picture that updates in part (`PARTIAL`), as a rule a small
one, changes the first quarter of the state and counts nothing.

Paper: the recognizers of Wu et al. 2019, LiteEval, arXiv:1912.01601, section 3.1, and AdaFrame,
arXiv:1811.12432, section 3.1, read their answer from an LSTM; the partial update is that of Seo et
al. 2018, Skim-RNN, arXiv:1711.02085, section 3.1. Differs: a GRU; one cell, whose update is kept in
a part of the state, instead of two; likeness goes in too, and the state weighs what the head says
instead of saying it itself: read from the state, answers were no better than chance on streams that
were held out.

It is right less often than `actions` on streams it has not seen (docs/agents.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamdyn.recognizers.actions import Actions, Evidence, Floats
from streamdyn.registry import recognizer

PARTLY = 4
"""The first one part of so many is what a partial update changes."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What the pictures so far have told."""

    evidence: Evidence
    state: Floats
    """`(H,)`."""
    sums: Floats
    """`(C,)`, what the head said of the pictures, each as often as it counts."""


@recognizer("actions_gru")
class ActionsGru(Actions):
    """Labels of the action by the state of a GRU after each picture; see `Actions`.

    Args:
        model: File with the weights; those that come with streamdyn when not given.
        top_k: Labels in an outcome.
        batch_size: Pictures at once at most.
    """

    name = "actions_gru"
    needs = frozenset({"mean", "basis", "wx", "wh", "bx", "bh", "read", "read_bias"})

    def __init__(
        self, *, model: str | None = None, top_k: int = 5, batch_size: int = 16
    ) -> None:  # fmt: skip
        super().__init__(model=model, top_k=top_k, batch_size=batch_size)

    def initial_hidden(self) -> Told:
        """No picture so far."""
        state = np.zeros(len(self._head.arrays["wh"]), np.float32)
        return Told(super().initial_hidden(), state, np.zeros(len(self.labels), np.float32))

    def _after(self, hidden: Told, seconds: float, embedding: Floats, said: Floats) -> Told:
        # Compiled code loads with the first look.
        from streamdyn.nn.kernels import gru_step

        arrays: Mapping[str, Any] = self._head.arrays
        evidence = hidden.evidence.after(seconds, embedding, said)
        state = hidden.state.copy()
        x = state_input(evidence, arrays["mean"], arrays["basis"])
        gru_step(x, state, arrays["wx"], arrays["wh"], arrays["bx"], arrays["bh"])
        if not said.any():
            kept = len(state) // PARTLY
            state[kept:] = hidden.state[kept:]
        gate = 1 / (1 + np.exp(-float(arrays["read"] @ state + arrays["read_bias"][0])))
        return Told(evidence, state, hidden.sums + np.float32(gate) * said)

    def answer(self, hidden: Told) -> tuple[tuple[str, ...], tuple[float, ...]]:
        """Labels and scores by what counts, best first; none before a whole picture."""
        return self._best(hidden.sums / max(float(hidden.sums.sum()), 1e-9))


def state_input(evidence: Evidence, mean: Floats, basis: Floats) -> Floats:
    """`(P + 5,)` float32, what the GRU takes in of the last picture of the evidence.

    Args:
        evidence: One picture at least.
        mean: `(D,)` usual embedding.
        basis: `(P, D)` directions in which embeddings are seen.
    """
    seconds = evidence.seconds
    gap = float(np.log1p(abs(seconds[-1] - seconds[-2]))) if len(seconds) > 1 else 0.0
    far, before, _, entropy = evidence.features()[-1]
    seen = basis @ (evidence.embeddings[-1] - mean)
    more = [max(far, -1.0), max(before, -1.0), entropy, evidence.said[-1].max(), gap]
    return np.concatenate([seen, more]).astype(np.float32)
