"""The last k items: where a text draws its conclusion, and a hard baseline on film reviews.

Cost: no preview, but the stream must have ended before anything is chosen, so it is for files.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamdyn.errors import ConfigError
from streamdyn.observation import Grade, Observation
from streamdyn.plan import Plan
from streamdyn.protocols import WHOLE_STREAM
from streamdyn.registry import policy


@policy("last_k")
@dataclass(frozen=True, kw_only=True)
class LastK:
    """Process the last `k` items.

    Args:
        k: Items to process, at least 1; a shorter stream is processed in full.
    """

    k: int = 64
    name = "last_k"
    version = "1"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()
    lookahead = WHOLE_STREAM

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"last_k needs k >= 1 items, got {self.k}")

    def initial_state(self) -> None:
        """Nothing to remember."""

    def decide(self, obs: Observation, state: None) -> tuple[Plan, None]:
        """Close the stream at once."""
        return Plan.process_only(len(obs.window), slice(-self.k, None)), None
