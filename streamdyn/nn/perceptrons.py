"""Small perceptrons in numpy: a decision costs microseconds and loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.nn.weights import AgentWeights, load_weights

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Perceptrons:
    """E perceptrons with two hidden layers and SiLU, and their mean; arrays as torch has them."""

    mean: Floats
    """`(F,)`."""
    scale: Floats
    """`(F,)`."""
    first: Floats
    """`(E, H, F)`."""
    first_bias: Floats
    """`(E, H)`."""
    second: Floats
    """`(E, H, H)`."""
    second_bias: Floats
    """`(E, H)`."""
    last: Floats
    """`(E, H)`."""
    last_bias: Floats
    """`(E,)`."""

    def __call__(self, rows: Floats) -> Floats:
        """`(N, F)` → `(N,)` in (0, 1)."""
        x = np.clip((rows - self.mean) / self.scale, -5, 5)
        h = _silu(np.einsum("nf,ehf->enh", x, self.first) + self.first_bias[:, None])
        h = _silu(h @ self.second.transpose(0, 2, 1) + self.second_bias[:, None])
        logits = (h @ self.last[:, :, None])[..., 0] + self.last_bias[:, None]
        out: Floats = (1 / (1 + np.exp(-logits))).mean(0)
        return out


def load_perceptrons(model: str | None, agent: str) -> Perceptrons:
    """Those of a trained agent, see `load_weights`."""
    return _made(load_weights(model, agent))


@lru_cache(maxsize=16)
def _made(weights: AgentWeights) -> Perceptrons:
    return Perceptrons(**weights.arrays)


def _silu(x: Floats) -> Floats:
    out: Floats = x / (1 + np.exp(-x))
    return out
