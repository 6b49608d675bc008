"""Everything: the full pass that savings are measured against.

Cost: the recognizer looks at every item.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamdyn.observation import Grade, Observation
from streamdyn.plan import Plan
from streamdyn.registry import policy


@policy("full")
@dataclass(frozen=True, kw_only=True)
class Full:
    """Process every item.

    Args:
        lookahead: Items to plan at once; does not change what is chosen.
    """

    lookahead: int = 64
    name = "full"
    version = "1"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()

    def initial_state(self) -> None:
        """Nothing to remember."""

    def decide(self, obs: Observation, state: None) -> tuple[Plan, None]:
        """Close the window at once."""
        return Plan.process_only(len(obs.window), slice(None)), None
