"""Pre-sampling: score every item by what is free, and look at the best ones of a file.

A perceptron scores each item from packet sizes alone, its own and those around it at four scales,
against what is usual in the file; nothing is decoded to decide. It was taught by an oracle: how
sure the recognizer is of the right answer when it sees that item alone. Some of the k items are
evenly spaced, so that a recognizer knows what the file looks like; the others are the best ones
that keep a distance from all chosen, so that they do not all show one moment.

Paper: Korbar et al. 2019, SCSampler: Sampling Salient Clips from Video for Efficient Action
Recognition, arXiv:1904.04289, sections 3.2 (compressed domain) and 3.3 (oracle ranking). Differs:
single pictures instead of clips; packet sizes instead of motion vectors and residuals, which would
have to be decoded; the oracle is regressed instead of ranked; evenly spaced ones; no audio.

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
from streamdyn.previews.surroundings import packet_surroundings
from streamdyn.protocols import WHOLE_STREAM
from streamdyn.registry import policy


@policy("scsampler")
@dataclass(frozen=True, kw_only=True)
class ScSampler:
    """Process the `k` items of a file that promise most.

    Args:
        k: Items to process; all where there are fewer.
        even: Share of them that are evenly spaced, in [0, 1].
        spacing: Least distance from one that is chosen by its score to any other, as a share of the
            file's items over `k`; given up where it leaves too few.
        model: File with weights; those that come with streamdyn when not given.
    """

    k: int = 8
    even: float = 0.5
    spacing: float = 0.25
    model: str | None = None
    name = "scsampler"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()
    lookahead = WHOLE_STREAM

    def __post_init__(self) -> None:
        if self.k < 1 or self.spacing < 0 or not 0 <= self.even <= 1:
            raise ConfigError(
                "scsampler needs k >= 1, even in [0, 1] and spacing >= 0, got "
                f"{self.k = }, {self.even = }, {self.spacing = }"
            )
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
        scores = load_perceptrons(self.model, self.name)(packet_surroundings(obs.window))
        distance = int(self.spacing * n / self.k)
        num_even = min(n, round(self.even * self.k))
        chosen = ((np.arange(num_even) + 0.5) * n / max(1, num_even)).astype(int).tolist()
        free = np.ones(n, bool)
        for place in chosen:
            free[max(0, place - distance) : place + distance + 1] = False
        order = np.argsort(-scores, kind="stable").tolist()
        for place in order:
            if len(chosen) == self.k:
                break
            if free[place]:
                chosen.append(place)
                free[max(0, place - distance) : place + distance + 1] = False
        if len(chosen) < self.k:
            left = [place for place in order if place not in chosen]
            chosen += left[: self.k - len(chosen)]
        return Plan.process_only(n, chosen, scores=scores.astype(np.float32)), None
