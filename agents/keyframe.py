"""Keyframes only: on video the cheapest choice there is, since each is decoded alone.

The encoder chooses: most put a keyframe where the scene changes, and at the latest every few
seconds. Cost: no preview, one decoded packet an item. The classic of compressed-domain indexing,
e.g. Zhang, Low and Smoliar 1995, Video parsing and browsing using compressed data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamdyn.errors import ConfigError
from streamdyn.observation import Grade, Observation
from streamdyn.plan import Plan
from streamdyn.registry import policy


@policy("keyframe")
@dataclass(frozen=True, kw_only=True)
class Keyframe:
    """Process keyframes, none closer than `min_gap_items` to the one before.

    Args:
        min_gap_items: Distance to the last processed keyframe; 1 takes them all.
        lookahead: Items to plan at once; does not change what is chosen.
    """

    min_gap_items: int = 1
    lookahead: int = 64
    name = "keyframe"
    version = "1"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()
    knob = ("min_gap_items", 1, 1000)
    """What `agreement` tunes: the option, its finest and its coarsest value."""

    def __post_init__(self) -> None:
        if self.min_gap_items < 1:
            raise ConfigError(f"keyframe needs min_gap_items >= 1, got {self.min_gap_items}")

    def initial_state(self) -> int | None:
        """Ordinal of the last processed keyframe."""
        return None

    def decide(self, obs: Observation, state: int | None) -> tuple[Plan, int | None]:
        """Close the window at once."""
        chosen = []
        for index in np.flatnonzero(obs.window.keyframe):
            ordinal = obs.window.first + int(index)
            if state is None or ordinal - state >= self.min_gap_items:
                chosen.append(int(index))
                state = ordinal
        return Plan.process_only(len(obs.window), chosen), state
