"""Early exit over frames: look in a fixed order, and stop as soon as the answer is sure.

The order is coarse to fine: the first picture, which takes no decoding on the way, the last one,
which is least like it, then the middles of what is left. After each look the recognizer has
answered by all looks so far, and the clip is left once the score of its answer reaches
`confidence`, or after `k` looks.

Paper: Ghodrati et al. 2021, FrameExit: Conditional Early Exiting for Efficient Video Recognition,
arXiv:2104.13400, sections 3.1 (order) and 3.2 (gates). Differs: it begins at the ends instead of in
the middle, since two pictures that are far apart tell more than two that are near; the gate is the
answer's own score instead of a network for each exit, which its authors use for the first exit
only; what was looked at is pooled by the recognizer.

Cost: one plan a look; no preview. A look that lies before the last one in a GOP takes decoding the
GOP anew, so this is for clips, not for long files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice

from streamdyn.errors import ConfigError
from streamdyn.observation import Grade, Observation, Status
from streamdyn.plan import Plan
from streamdyn.protocols import WHOLE_STREAM
from streamdyn.registry import policy


@policy("frame_exit")
@dataclass(frozen=True, kw_only=True)
class FrameExit:
    """Process items in a coarse to fine order until the answer is sure.

    For a recognizer whose outcomes answer for all looks so far, as `actions`.

    Args:
        k: Most items to process of a file.
        confidence: Score of the best label at which no more is looked at, in (0, 1].
    """

    k: int = 2
    confidence: float = 0.7
    name = "frame_exit"
    version = "2"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()
    lookahead = WHOLE_STREAM
    knob = ("confidence", 1.0, 0.01)
    """What to tune, its finest and its coarsest value."""

    def __post_init__(self) -> None:
        if self.k < 1 or not 0 < self.confidence <= 1:
            raise ConfigError(
                "frame_exit needs k >= 1 and confidence in (0, 1], got "
                f"{self.k = }, {self.confidence = }"
            )

    def initial_state(self) -> None:
        """Nothing to remember: the looks so far come with the observation."""

    def decide(self, obs: Observation, state: None) -> tuple[Plan, None]:
        """The next look, or none."""
        n = len(obs.window)
        sure = any(o.score >= self.confidence for o in obs.last_outcomes.values())
        left = [place for place in look_order(n, self.k) if obs.status[place] == Status.OPEN]
        if sure or not left or obs.budget_left.items == 0:
            return Plan.process_only(n, []), None
        return Plan.process_next(n, left[0]), None


@lru_cache(maxsize=1024)
def look_order(num_items: int, k: int) -> tuple[int, ...]:
    """Places of `k` looks in the order they are taken, all different: 0, 1, 1/2, 1/4, 3/4, 1/8, ...

    Args:
        num_items: Of the file.
        k: At most so many.
    """
    shares, parts = [0.0, 1.0], 2
    while len(shares) < k:
        shares += [i / parts for i in range(1, parts, 2)]
        parts *= 2
    places = dict.fromkeys(int(share * (num_items - 1) + 0.5) for share in shares[:k])
    rest = (place for place in range(num_items) if place not in places)
    return tuple(islice(chain(places, rest), min(k, num_items)))
