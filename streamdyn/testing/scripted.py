"""`ScriptedPolicy`: plays back given plans, to try the engine and what sits around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamdyn.errors import ConfigError
from streamdyn.observation import Grade, Observation
from streamdyn.plan import Action, Plan

LETTERS = "OSGpP"
"""Of the actions, as a plan prints itself: open, skip, glance, partial, process."""


def read_plan(text: str, **more: Any) -> Plan:
    """A plan from the letters that a plan prints; spaces may group them.

    ```python
    read_plan("PSSS P", done=5)
    ```
    """
    letters = text.replace(" ", "")
    unknown = set(letters) - set(LETTERS)
    if unknown:
        raise ConfigError(f"cannot read the plan {text!r}: {min(unknown)!r} is none of {LETTERS!r}")
    return Plan(np.array([LETTERS.index(letter) for letter in letters], np.uint8), **more)


class ScriptedPolicy:
    """Answers with given plans, one a call, and remembers what it was shown.

    Its state is the number of plans played. When all are played, whatever is open is skipped.

    Args:
        plans: In the order they are asked for, or texts for `read_plan`.
        lookahead: Items to see at once.
        previews: To have of every item.
        glances: To have of the items a plan glances at.
    """

    name = "scripted"
    version = "1"

    def __init__(
        self,
        plans: Sequence[Plan | str],
        *,
        lookahead: int = 8,
        previews: frozenset[Grade] = frozenset(),
        glances: frozenset[Grade] = frozenset(),
    ) -> None:
        self.plans = [read_plan(plan) if isinstance(plan, str) else plan for plan in plans]
        self.lookahead, self.previews, self.glances = lookahead, previews, glances
        self.seen: list[Observation] = []
        """What it was shown, in order."""

    def initial_state(self) -> int:
        """No plan played yet."""
        return 0

    def decide(self, obs: Observation, state: int) -> tuple[Plan, int]:
        """The next plan."""
        self.seen.append(obs)
        if state < len(self.plans):
            return self.plans[state], state + 1
        return Plan(np.full(len(obs.window), Action.SKIP, np.uint8)), state
