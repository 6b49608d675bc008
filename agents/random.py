"""A random share of the items: what choosing without any idea achieves.

Each item draws a number from a hash of (seed, ordinal), so that neither windows nor a resumed run
change what is chosen. Cost: no preview; on video nearly everything is decoded to reach the chosen.
The hash is the finalizer of splitmix64: Steele, Lea and Flood 2014, Fast splittable pseudorandom
number generators.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError
from streamdyn.observation import Grade, Observation
from streamdyn.plan import Plan
from streamdyn.registry import policy

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def draw(seed: int, ordinals: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """`(N,)` float64 in [0, 1), the same for the same seed and ordinal."""
    x = _mix(np.full(1, seed % 2**64, np.uint64) + _STEP) + ordinals.astype(np.uint64) * _STEP
    return np.asarray((_mix(x) >> np.uint64(11)) / 2**53, np.float64)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _MIX[0]
    x = (x ^ (x >> np.uint64(27))) * _MIX[1]
    return np.asarray(x ^ (x >> np.uint64(31)))


@policy("random")
@dataclass(frozen=True, kw_only=True)
class Random:
    """Process each item with chance `share`.

    Args:
        share: In [0, 1].
        seed: Another seed, another choice.
        lookahead: Items to plan at once; does not change what is chosen.
    """

    share: float = 0.05
    seed: int = 0
    lookahead: int = 64
    name = "random"
    version = "1"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()
    knob = ("share", 1.0, 0.001)
    """What `agreement` tunes: the option, its finest and its coarsest value."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"random needs a share in [0, 1], got {self.share}")

    def initial_state(self) -> None:
        """Nothing to remember."""

    def decide(self, obs: Observation, state: None) -> tuple[Plan, None]:
        """Close the window at once; the scores rank the chosen at random under a hard budget."""
        n = len(obs.window)
        drawn = draw(self.seed, obs.window.first + np.arange(n))
        scores = (1 - drawn).astype(np.float32)
        return Plan.process_only(n, drawn < self.share, scores=scores), None
