"""The first k items, then stop: how long texts are most often cut to size.

Cost: no preview; what comes after the k-th item is not even read from the file.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamdyn.errors import ConfigError
from streamdyn.observation import Grade, Observation
from streamdyn.plan import Plan
from streamdyn.registry import policy


@policy("first_k")
@dataclass(frozen=True, kw_only=True)
class FirstK:
    """Process the first `k` items and leave the rest unobserved.

    Args:
        k: Items to process, at least 1; a shorter stream is processed in full.
        lookahead: Items to plan at once; does not change what is chosen.
    """

    k: int = 64
    lookahead: int = 64
    name = "first_k"
    version = "1"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"first_k needs k >= 1 items, got {self.k}")

    def initial_state(self) -> None:
        """Nothing to remember."""

    def decide(self, obs: Observation, state: None) -> tuple[Plan, None]:
        """Close what belongs to the first `k` items, and stop after the last of them."""
        n, left = len(obs.window), self.k - obs.window.first
        chosen = min(n, left)
        done = chosen if chosen < n else None
        return Plan.process_only(n, slice(chosen), done=done, stop=left <= n), None
