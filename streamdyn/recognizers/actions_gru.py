"""Actions by a GRU: the answer is read from a state that takes in one picture after another.

What goes in is the picture's embedding, what a linear head says of it alone, and how like the
pictures so far it is; a picture that updates in part (`PARTIAL`), as a rule a small one, changes
the first quarter of the state and says nothing of actions.

Paper: the recognizers of Wu et al. 2019, LiteEval, arXiv:1912.01601, section 3.1, and AdaFrame,
arXiv:1811.12432, section 3.1, read their answer from an LSTM; the partial update is that of Seo et
al. 2018, Skim-RNN, arXiv:1711.02085, section 3.1. Differs: a GRU; one cell, whose update is kept in
a part of the state, instead of two; likeness goes in too.

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
    num_whole: int
    """Pictures that updated all of the state."""


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
        return Told(super().initial_hidden(), np.zeros(len(self._head.arrays["wh"]), np.float32), 0)

    def _after(self, hidden: Told, seconds: float, embedding: Floats, said: Floats) -> Told:
        # Compiled code loads with the first look.
        from streamdyn.nn.kernels import gru_step

        arrays: Mapping[str, Any] = self._head.arrays
        evidence = hidden.evidence.after(seconds, embedding, said)
        state = hidden.state.copy()
        x = state_input(evidence, arrays["mean"], arrays["basis"])
        gru_step(x, state, arrays["wx"], arrays["wh"], arrays["bx"], arrays["bh"])
        is_whole = bool(said.any())
        if not is_whole:
            kept = len(state) // PARTLY
            state[kept:] = hidden.state[kept:]
        return Told(evidence, state, hidden.num_whole + is_whole)

    def answer(self, hidden: Told) -> tuple[tuple[str, ...], tuple[float, ...]]:
        """Labels and scores by the state, best first; none before a whole picture."""
        if not hidden.num_whole:
            return (), ()
        arrays = self._head.arrays
        logits = arrays["read"] @ hidden.state + arrays["read_bias"]
        powers = np.exp(logits - logits.max())
        return self._best(powers / powers.sum())


def state_input(evidence: Evidence, mean: Floats, basis: Floats) -> Floats:
    """`(P + C + 4,)` float32, what the GRU takes in of the last picture of the evidence.

    Args:
        evidence: One picture at least.
        mean: `(D,)` usual embedding.
        basis: `(P, D)` directions in which embeddings are seen.
    """
    seconds = evidence.seconds
    gap = float(np.log1p(abs(seconds[-1] - seconds[-2]))) if len(seconds) > 1 else 0.0
    far, before, _, entropy = evidence.features()[-1]
    seen = basis @ (evidence.embeddings[-1] - mean)
    more = np.array([max(far, -1.0), max(before, -1.0), entropy, gap], np.float32)
    return np.concatenate([seen, evidence.said[-1], more]).astype(np.float32)
