"""k items spread evenly over the whole stream: the baseline at a fixed number of calls.

Cost: no preview, but the stream must have ended before anything is chosen, so it is for files.
The segment centres of Wang et al. 2016, Temporal Segment Networks, arXiv:1608.00859.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamdyn.errors import ConfigError
from streamdyn.observation import Grade, Observation
from streamdyn.plan import Plan
from streamdyn.protocols import WHOLE_STREAM
from streamdyn.registry import policy


@policy("uniform_k")
@dataclass(frozen=True, kw_only=True)
class UniformK:
    """Cut the stream into `k` equal parts and process the middle of each.

    Args:
        k: Items to process, at least 1; a shorter stream is processed in full.
    """

    k: int = 32
    name = "uniform_k"
    version = "1"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()
    lookahead = WHOLE_STREAM

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"uniform_k needs k >= 1 items, got {self.k}")

    def initial_state(self) -> None:
        """Nothing to remember."""

    def decide(self, obs: Observation, state: None) -> tuple[Plan, None]:
        """Close the stream at once."""
        n = len(obs.window)
        k = min(self.k, n)
        middles = (2 * np.arange(k) + 1) * n // (2 * k)
        return Plan.process_only(n, middles), None
