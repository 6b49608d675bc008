"""Every n-th item, whatever it shows: the baseline that every other policy has to beat.

Cost: no preview; on video every item between two keyframes is decoded to reach the chosen ones.
The usual sampling of video datasets, e.g. Karpathy et al. 2014, Large-scale Video Classification
with Convolutional Neural Networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamdyn.errors import ConfigError
from streamdyn.observation import Grade, Observation
from streamdyn.plan import Plan
from streamdyn.registry import policy


@policy("stride")
@dataclass(frozen=True, kw_only=True)
class Stride:
    """Process the items whose ordinal is `offset` modulo `every`.

    Args:
        every: Distance of two processed items, at least 1.
        offset: Ordinal of the first one.
        lookahead: Items to plan at once; does not change what is chosen.
    """

    every: int = 30
    offset: int = 0
    lookahead: int = 64
    name = "stride"
    version = "1"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()
    knob = ("every", 1, 1000)
    """What `agreement` tunes: the option, its finest and its coarsest value."""

    def __post_init__(self) -> None:
        if self.every < 1 or self.offset < 0:
            raise ConfigError(
                f"stride needs every >= 1 and offset >= 0, got {self.every = }, {self.offset = }"
            )

    def initial_state(self) -> None:
        """Nothing to remember."""

    def decide(self, obs: Observation, state: None) -> tuple[Plan, None]:
        """Close the window at once."""
        n = len(obs.window)
        ordinals = obs.window.first + np.arange(n)
        chosen = (ordinals >= self.offset) & ((ordinals - self.offset) % self.every == 0)
        return Plan.process_only(n, chosen), None
