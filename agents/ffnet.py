"""Fast-forward: after each look, hop 1 to 25 units ahead; never back, so it works on live streams.

Perceptrons foresee for each hop what it will be worth: looks that show an action, in the long run,
less the milliseconds that reaching and recognizing them takes. They see how like the last look is
to the ones before, and the packet sizes of what is ahead. The best hop is taken.

Paper: Lan et al. 2018, FFNet: Video Fast-Forwarding via Reinforcement Learning, arXiv:1805.02792,
sections 3.2 (hops 1 to 25, rewards) and 3.3 (Q-learning, discount 0.8). Differs: measured
milliseconds at a price that is an input, in place of a term for the number of skipped frames; the
discount is by items passed, not by looks, or short hops would seem cheap; likeness instead of the
feature itself; fitted Q iteration (Ernst et al. 2005) over kept features.

Cost: about 0.5 ms a look.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError
from streamdyn.nn.perceptrons import load_perceptrons
from streamdyn.nn.weights import load_weights
from streamdyn.observation import Grade, Observation, Status
from streamdyn.plan import Action, Plan
from streamdyn.previews.glimpses import seconds_of, seen
from streamdyn.previews.hops import MEMORY, NUM_HOPS, hop_features
from streamdyn.registry import policy


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """The last `k` of them."""

    seconds: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    embeddings: npt.NDArray[np.float16] | None = None
    """`(k, D)`."""

    def after(self, seconds: float, embedding: npt.NDArray[Any]) -> Looks:
        """With one more, the oldest forgotten."""
        rows = embedding[None].astype(np.float16)
        if self.embeddings is not None:
            rows = np.vstack([self.embeddings, rows])
        return Looks(np.append(self.seconds, seconds)[-MEMORY:], rows[-MEMORY:])


@policy("ffnet")
@dataclass(frozen=True, kw_only=True)
class FfNet:
    """Process an item, then skip to the one that promises most.

    For a recognizer whose outcomes hold embeddings, as `actions`.

    Args:
        price: Of a millisecond, what a look that shows an action is worth being 1; more, fewer
            looks. Taught between 0.003 and 0.1.
        unit: Items of the shortest hop; the longest is 25 of them.
        model: File with weights; those that come with streamdyn when not given.
    """

    price: float = 0.02
    unit: int = 3
    model: str | None = None
    name = "ffnet"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()
    knob = ("price", 0.003, 0.1)
    """What to tune, its finest and its coarsest value."""

    def __post_init__(self) -> None:
        if not self.price > 0 or self.unit < 1:
            raise ConfigError(
                f"ffnet needs price > 0 and unit >= 1, got {self.price = }, {self.unit = }"
            )
        load_weights(self.model, self.name)

    @property
    def lookahead(self) -> int:
        """As far as the longest hop."""
        return NUM_HOPS * self.unit + 1

    @property
    def version(self) -> str:
        """Changes with the weights."""
        return f"1-{load_weights(self.model, self.name).digest}"

    def initial_state(self) -> Looks:
        """No look so far."""
        return Looks()

    def decide(self, obs: Observation, state: Looks) -> tuple[Plan, Looks]:
        """Look at the first item; then close the window up to the next look."""
        n = len(obs.window)
        if obs.status[0] == Status.OPEN and obs.budget_left.items != 0:
            return Plan.process_next(n, 0), state
        looks, embeddings = seen(obs.outcomes, self.name)
        hop = self.unit
        if len(looks):
            state = state.after(float(seconds_of(obs.window)[0]), embeddings[0])
            assert state.embeddings is not None
            kept = state.embeddings.astype(np.float32)
            rows = hop_features(obs.window, self.unit, state.seconds, kept, self.price)
            if len(rows):
                worth = load_perceptrons(self.model, self.name)(rows)
                hop = self.unit * (1 + int(worth.argmax()))
        actions = np.zeros(n, np.uint8)
        actions[: min(hop, n)] = Action.SKIP
        return Plan(actions, done=min(hop, n)), state
