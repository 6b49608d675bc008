"""`Dice`: a policy that answers anything that a stream can carry out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamdyn.observation import Status
from streamdyn.plan import Action, Plan


@dataclass(frozen=True)
class Dice:
    """Any action, order, early close and hop; its state is the number of plans so far."""

    seed: int
    lookahead: int
    hands_back: bool
    name = "dice"
    version = "1"
    previews = frozenset()
    glances = frozenset()

    def initial_state(self):
        return 0

    def decide(self, obs, state):
        dice = np.random.default_rng([self.seed, state])
        n = len(obs.window)
        actions = dice.choice(np.array(Action, np.uint8), n)
        decided = (actions != Action.OPEN) & (actions != Action.GLANCE)
        if not (decided & np.isin(obs.status, (Status.OPEN, Status.GLANCED))).any():
            actions[:] = Action.SKIP
        scores = dice.random(n).astype(np.float32) if dice.random() < 0.5 else None
        done = None
        if self.hands_back and dice.random() < 0.5:
            done = int(dice.integers(max(obs.outcomes, default=0) + 1, n + 1))
            actions[done:] = Action.OPEN
        hop = int(dice.integers(0, 4)) if dice.random() < 0.2 else 0
        return Plan(actions, scores, done=done, hop=hop), state + 1
