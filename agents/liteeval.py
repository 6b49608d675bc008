"""Coarse to fine: small grey pictures from all over a file first, the recognizer where they say so.

The file is glanced at in 48 places. Perceptrons say of each how likely it shows an action, by how
unlike the small picture is to what lies far away and to its neighbours, and by packet sizes. The
likeliest is looked at in full, and others that are at least `gate` times as likely, `k` in all.

Paper: Wu et al. 2019, LiteEval: A Coarse-to-Fine Framework for Resource Efficient Video
Recognition, arXiv:1912.01601, section 3 (cheap features everywhere, a gate, dear features where it
opens). Differs: grey pictures of 24 by 32 pixels instead of a light network's features, and
likeness among them instead of an LSTM; the gate sees the whole file and was taught by the truth
(by Gumbel-softmax as in the paper: `streamdyn train video liteeval --learner gumbel`); where it
stays shut nothing goes into the recognizer's state, but for `context` looks at small pictures.

Cost: decoding almost all of the file, and 1 ms; so it is for recognizers that cost much more than
decoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError
from streamdyn.nn.perceptrons import load_perceptrons
from streamdyn.nn.weights import load_weights
from streamdyn.observation import Grade, Observation, Status
from streamdyn.plan import Action, Effort, Plan
from streamdyn.previews.coarse import coarse_features
from streamdyn.previews.glimpses import places_of, seconds_of
from streamdyn.previews.surroundings import packet_surroundings
from streamdyn.protocols import WHOLE_STREAM
from streamdyn.registry import policy


@policy("liteeval")
@dataclass(frozen=True, kw_only=True)
class LiteEval:
    """Glance at small pictures of a file, then process the few that are likeliest to matter.

    Args:
        k: Most items to process of a file.
        gate: Likelihood of the others as a share of the likeliest one's, at least, in [0, 1].
        spacing: Least distance between two of them, as a share of the file's items over `k`.
        context: Evenly spaced items that besides update the recognizer's state in part.
        context_px: Side of the pictures that do.
        model: File with weights; those that come with streamdyn when not given.
    """

    k: int = 4
    gate: float = 0.5
    spacing: float = 0.1
    context: int = 0
    context_px: int = 96
    model: str | None = None
    name = "liteeval"
    previews = frozenset[Grade]()
    glances = frozenset[Grade](("luma",))
    lookahead = WHOLE_STREAM

    def __post_init__(self) -> None:
        if (
            (self.k < 1 or not 0 <= self.gate <= 1 or self.spacing < 0)
            or self.context < 0 or self.context_px < 1
        ):  # fmt: skip
            raise ConfigError(
                "liteeval needs k >= 1, gate in [0, 1], spacing and context >= 0 and context_px >= "
                f"1, got {self.k = }, {self.gate = }, {self.spacing = }, {self.context = }, "
                f"{self.context_px = }"
            )
        load_weights(self.model, self.name)

    @property
    def version(self) -> str:
        """Changes with the weights."""
        return f"1-{load_weights(self.model, self.name).digest}"

    def initial_state(self) -> None:
        """Nothing to remember."""

    def decide(self, obs: Observation, state: None) -> tuple[Plan, None]:
        """First the glances, then everything else."""
        n = len(obs.window)
        places = places_of(n, int(load_weights(self.model, self.name).facts["parts"]))
        if (obs.status[places] == Status.OPEN).all():
            return Plan.glance_next(n, places), None
        # One that could not be decoded has no preview.
        seen = places[np.isfinite(obs.previews["luma"][places]).all((1, 2))]
        if not len(seen):
            return Plan.process_only(n, []), None
        likely = load_perceptrons(self.model, self.name)(
            coarse_features(
                obs.previews["luma"][seen],
                seconds_of(obs.window)[seen],
                packet_surroundings(obs.window)[seen],
            )
        )
        wanted = np.zeros(n, np.float32)
        wanted[seen] = likely
        chosen = seen[opened(likely, seen, self.k, self.gate, self.spacing * n / self.k)]
        plan = Plan.process_only(n, chosen, scores=wanted)
        around = [int(i) for i in places_of(n, self.context) if plan.actions[i] == Action.SKIP]
        plan.actions[around] = Action.PARTIAL
        plan.efforts.update(dict.fromkeys(around, Effort(resolution=self.context_px)))
        return plan, None


def opened(
    likely: npt.NDArray[Any], places: npt.NDArray[Any], k: int, gate: float, distance: float
) -> list[int]:
    """Indices where the gate opens, likeliest first; at least one, at most `k`.

    Args:
        likely: `(G,)` in [0, 1].
        places: `(G,)` items.
        k: At most so many.
        gate: Share of the greatest likelihood that others need.
        distance: Items between any two, at least.
    """
    chosen: list[int] = []
    for one in np.argsort(-likely, kind="stable").tolist():
        if len(chosen) == k or (chosen and likely[one] < gate * likely[chosen[0]]):
            break
        if all(abs(places[one] - places[other]) > distance for other in chosen):
            chosen.append(one)
    return chosen
