"""Several agents, each moving its own look: pre-sampling by k agents that share one policy.

They stand evenly spaced among 48 places of a file. In turn each sees the packet sizes around it and
how far the others are, and moves a little or stays; after six rounds the file is looked at where
they stand. Taught by REINFORCE: all are paid by what their looks together are worth.

Paper: Wu et al. 2019, Multi-Agent Reinforcement Learning Based Frame Sampling for Effective
Untrimmed Video Recognition, arXiv:1907.13369, sections 3.2 (agents, actions, context of the
neighbours) and 3.3 (reward). Differs: they see packet sizes instead of the recognizer's features of
every frame that they pass, so that passing costs nothing; neighbours are seen as distances instead
of through a GRU; they move in turn, so that no two look at one frame; the baseline is the mean of
other draws.

Cost: about 0.1 ms a move, 6 moves a look, and 2 µs an item.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamdyn.errors import ConfigError
from streamdyn.nn.perceptrons import load_perceptrons
from streamdyn.nn.weights import load_weights
from streamdyn.observation import Grade, Observation
from streamdyn.plan import Plan
from streamdyn.previews.glimpses import places_of
from streamdyn.previews.moves import moved
from streamdyn.previews.surroundings import packet_surroundings
from streamdyn.protocols import WHOLE_STREAM
from streamdyn.registry import policy


@policy("marl")
@dataclass(frozen=True, kw_only=True)
class Marl:
    """Process the items at which `k` agents come to stand.

    Args:
        k: Agents, and so items to process; all where there are fewer.
        model: File with weights; those that come with streamdyn when not given.
    """

    k: int = 8
    model: str | None = None
    name = "marl"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()
    lookahead = WHOLE_STREAM

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"marl needs k >= 1, got {self.k = }")
        load_weights(self.model, self.name)

    @property
    def version(self) -> str:
        """Changes with the weights."""
        return f"1-{load_weights(self.model, self.name).digest}"

    def initial_state(self) -> None:
        """Nothing to remember."""

    def decide(self, obs: Observation, state: None) -> tuple[Plan, None]:
        """One plan for the whole file."""
        n = len(obs.window)
        parts = max(self.k, int(load_weights(self.model, self.name).facts["parts"]))
        places = places_of(n, parts)
        worth = load_perceptrons(self.model, self.name)
        chosen = moved(packet_surroundings(obs.window)[places], self.k, worth)
        return Plan.process_only(n, places[chosen]), None
