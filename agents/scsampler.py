"""Pre-sampling: score every item by what is free, and look at the best ones of a file.

A perceptron scores each item from packet sizes alone, its own and those around it at four scales,
against what is usual in the file; nothing is decoded to decide. It was taught by an oracle: how
sure the recognizer is of the right answer when it sees that item alone. Some of the k items are
evenly spaced, so that a recognizer knows what the file looks like; the others are the best ones
that keep a distance from all chosen, so that they do not all show one moment. Where it listens, how
unlike the file's usual sound it is around an item counts too.

Paper: Korbar et al. 2019, SCSampler: Sampling Salient Clips from Video for Efficient Action
Recognition, arXiv:1904.04289, sections 3.2 (compressed domain) and 3.3 (oracle ranking). Differs:
single pictures instead of clips; packet sizes instead of motion vectors and residuals, which would
have to be decoded; the oracle is regressed instead of ranked; evenly spaced ones; the sound's score
(section 3.2, audio) is not taught: the labelled clips at hand have none.

Cost: about 2 µs an item; listening, 1 ms for each of 48 places, and decoding the sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError
from streamdyn.nn.perceptrons import load_perceptrons
from streamdyn.nn.weights import load_weights
from streamdyn.observation import Grade, Observation, Status
from streamdyn.plan import Plan
from streamdyn.previews.glimpses import places_of
from streamdyn.previews.surroundings import packet_surroundings
from streamdyn.protocols import WHOLE_STREAM
from streamdyn.registry import policy

LISTENED = 48
"""Places in a file."""


@policy("scsampler")
@dataclass(frozen=True, kw_only=True)
class ScSampler:
    """Process the `k` items of a file that promise most.

    Args:
        k: Items to process; all where there are fewer.
        even: Share of them that are evenly spaced, in [0, 1].
        spacing: Least distance from one that is chosen by its score to any other, as a share of the
            file's items over `k`; given up where it leaves too few.
        listen: Share of the score that is the sound's, in [0, 1]; files must have sound above 0.
        model: File with weights; those that come with streamdyn when not given.
    """

    k: int = 8
    even: float = 0.5
    spacing: float = 0.25
    listen: float = 0.0
    model: str | None = None
    name = "scsampler"
    previews = frozenset[Grade]()
    lookahead = WHOLE_STREAM

    def __post_init__(self) -> None:
        shares = (self.even, self.listen)
        if self.k < 1 or self.spacing < 0 or not all(0 <= share <= 1 for share in shares):
            raise ConfigError(
                "scsampler needs k >= 1, even and listen in [0, 1], and spacing >= 0, got "
                f"{self.k = }, {self.even = }, {self.listen = }, {self.spacing = }"
            )
        load_weights(self.model, self.name)

    @property
    def version(self) -> str:
        """Changes with the weights."""
        return f"1-{load_weights(self.model, self.name).digest}"

    @property
    def glances(self) -> frozenset[Grade]:
        """Sound, where it listens."""
        return frozenset({"audio"} if self.listen else ())

    def initial_state(self) -> None:
        """Nothing to remember."""

    def decide(self, obs: Observation, state: None) -> tuple[Plan, None]:
        """One plan for the whole file, after listening in 48 places if it does."""
        n = len(obs.window)
        places = places_of(n, LISTENED if self.listen else 0)
        if self.listen and (obs.status[places] == Status.OPEN).all():
            return Plan.glance_next(n, places), None
        scores = load_perceptrons(self.model, self.name)(packet_surroundings(obs.window))
        if self.listen:
            strange = strangeness(obs.previews["audio"][places])
            heard = np.interp(np.arange(n), places, strange)
            scores = (1 - self.listen) * scores + self.listen * heard
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


def strangeness(mels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`(G,)` in [0, 1], how unlike the usual sound each is, the strangest 1; 0 where there is none.

    Args:
        mels: `(G, 32)` log mel energies; NaN rows where there is no sound.
    """
    heard = np.isfinite(mels).all(1)
    found = np.zeros(len(mels), np.float32)
    if heard.any():
        found[heard] = np.abs(mels[heard] - np.median(mels[heard], 0)).mean(1)
    return found / max(float(found.max()), 1e-6)
