"""Pre-sampling in one step: a set of k items, taught by what the whole set is worth.

Perceptrons score 48 places from packet sizes alone, and the k best are looked at together. Taught
by REINFORCE: sets are drawn, and those that make the recognizer surer of the right answer are made
likelier as sets.

Paper: Lin et al. 2022, OCSampler: Compressing Videos to One Clip with Single-step Sampling,
arXiv:2201.04388, sections 3.2 (one step) and 3.3 (reward). Differs: packet sizes instead of a
network over ten small pictures, which would have to be decoded; the exact probability of a set by
an integral (`streamdyn/learning/subsets.py`) instead of a sum over all orders, so that k is not
bound to 6; the baseline is the mean of other draws; it starts from the saliency of `scsampler`.

Cost: about 2 µs an item.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamdyn.errors import ConfigError
from streamdyn.nn.perceptrons import load_perceptrons
from streamdyn.nn.weights import load_weights
from streamdyn.observation import Grade, Observation
from streamdyn.plan import Plan
from streamdyn.previews.glimpses import places_of
from streamdyn.previews.surroundings import packet_surroundings
from streamdyn.protocols import WHOLE_STREAM
from streamdyn.registry import policy


@policy("ocsampler")
@dataclass(frozen=True, kw_only=True)
class OcSampler:
    """Process a set of `k` items, chosen at once.

    Args:
        k: Items to process; all where there are fewer.
        model: File with weights; those that come with streamdyn when not given.
    """

    k: int = 8
    model: str | None = None
    name = "ocsampler"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()
    lookahead = WHOLE_STREAM

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"ocsampler needs k >= 1, got {self.k = }")
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
        scores = load_perceptrons(self.model, self.name)(packet_surroundings(obs.window)[places])
        best = np.argsort(-scores, kind="stable")[: self.k]
        wanted = np.zeros(n, np.float32)
        wanted[places] = scores
        return Plan.process_only(n, places[best], scores=wanted), None
