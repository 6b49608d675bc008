"""Items named beforehand: to look at what is known to matter, and the bar that none can pass.

Cost: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamdyn.errors import ConfigError
from streamdyn.observation import Grade, Observation
from streamdyn.plan import Plan
from streamdyn.registry import policy


@policy("listed")
@dataclass(frozen=True, kw_only=True)
class Listed:
    """Process these items and no others; those that a stream does not have are left out.

    Args:
        items: Ordinals, from 0.
        lookahead: Items to plan at once.
    """

    items: Sequence[int] = ()
    lookahead: int = 64
    name = "listed"
    version = "1"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()

    def __post_init__(self) -> None:
        if any(item < 0 for item in self.items) or self.lookahead < 1:
            raise ConfigError(
                f"listed needs items of at least 0 and lookahead >= 1, got {self.items}, "
                f"{self.lookahead = }"
            )

    def initial_state(self) -> None:
        """Nothing to remember."""

    def decide(self, obs: Observation, state: None) -> tuple[Plan, None]:
        """Those in the window."""
        n, first = len(obs.window), obs.window.first
        wanted = np.array([item - first for item in self.items if first <= item < first + n], int)
        return Plan.process_only(n, wanted), None
