"""Look at both ends, and between them only where what was said there leaves doubt.

No preview is needed: what the recognizer said at the two ends of an interval is worth more. The
doubt about an interval is its length times how weakly each end's best label stands in the other's
list, so it grows with the number of items at stake; the middle of an interval is looked at while
its doubt exceeds `max_doubt`.

```
items      0 . . . . . . . . . . 11        ends agree surely: nothing between is looked at
           cat                  cat
items      0 . . 3 . 5 . . . . . 11        ends disagree: the middle, then the half that disagrees
           cat   cat dog         dog
```

Decoded items and keyframes near the wanted place are preferred, and the dearer it is to reach the
middle of an interval, the more doubt it takes to look there: a GOP between keyframes that agree is
never decoded. The window is longer than the usual longest GOP (250 items), so that it can end at a
keyframe; a live stream pays for `lookahead` in latency, a file does not.

The idea is binary search for change points; looking again only where sampled outcomes disagree
follows BlazeIt's and Boggart's propagation (Kang et al. 2019, arXiv:1805.01046; Agarwal and
Netravali 2023, arXiv:2106.15315). Differs: no proxy model, and the decode price decides ties.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from streamdyn.errors import ConfigError
from streamdyn.items import Array
from streamdyn.observation import Grade, Observation, Status
from streamdyn.outcome import Outcome
from streamdyn.plan import Action, Plan
from streamdyn.previews.interval import MISSING, standing
from streamdyn.registry import policy

DETOUR = 1 / 6
"""How far from the middle a cheaper item may be, as a share of the interval."""
MIN_DETOUR = 2
"""And at least that many items: next to a disposable picture there is mostly a decoded one."""
END_DETOUR = 3 / 4
"""How far before the end of the window a cheaper right end may be, as a share of the window."""
CALL_MS = 6.5
"""Nominal cost of converting and recognizing an item, to set the price of decoding against."""


@policy("bisect")
@dataclass(frozen=True, kw_only=True)
class Bisect:
    """Split intervals while the recognizer's own outcomes leave doubt about what lies between.

    Args:
        max_doubt: Doubt, in items, up to which an interval is left alone; smaller looks closer.
        min_gap: Intervals up to this many items are never split.
        lookahead: Items to see at once, and so the longest interval.
        thrift: How much of the decoding price is added to the doubt that looking there takes; 0
            looks at prices only to choose among neighbours.
    """

    max_doubt: float = 30.0
    min_gap: int = 4
    lookahead: int = 256
    thrift: float = 0.3
    name = "bisect"
    version = "1"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()
    knob = ("max_doubt", 2.0, 200.0)
    """What to tune, its finest and its coarsest value."""

    def __post_init__(self) -> None:
        if self.max_doubt <= 0 or self.min_gap < 1 or self.lookahead < 2 or self.thrift < 0:
            raise ConfigError(
                "bisect needs max_doubt > 0, min_gap >= 1, lookahead >= 2 and thrift >= 0, got "
                f"{self.max_doubt = }, {self.min_gap = }, {self.lookahead = }, {self.thrift = }"
            )

    def initial_state(self) -> None:
        """Nothing to remember: the last outcome comes with the observation."""

    def decide(self, obs: Observation, state: None) -> tuple[Plan, None]:
        """Ask for the ends, then for middles; close when no doubt or no budget is left."""
        n = len(obs.window)
        is_open = np.isin(obs.status, (Status.OPEN, Status.GLANCED))
        scores = np.zeros(n, np.float32)
        actions = np.zeros(n, np.uint8)
        wanted = self._between(obs, is_open) if obs.outcomes else self._ends(obs, is_open)
        for place, score in wanted:
            actions[place] = Action.PROCESS
            scores[place] = score
        if actions.any() and obs.budget_left.items != 0:
            return Plan(actions, scores), None
        # Items after the right end wait for the next one, unless there is none.
        last = max(obs.outcomes, default=n - 1)
        done = n if obs.ended else last + 1
        return Plan(np.full(n, Action.SKIP, np.uint8), done=done), None

    def _between(self, obs: Observation, is_open: Array) -> list[tuple[int, float]]:
        """The middles of the intervals in doubt, and the end of a last one that has none."""
        known = dict(obs.outcomes)
        if obs.left is not None:
            known[obs.left.ordinal - obs.window.first] = obs.left
        wanted = []
        intervals = [(a, b) for a, b in pairwise(sorted(known)) if b - a > self.min_gap]
        for (a, b), doubt in zip(intervals, self._doubts(obs, known, intervals), strict=True):
            if doubt <= self.max_doubt:
                continue
            detour = max(MIN_DETOUR, (b - a) * DETOUR)
            place = _cheap_place(obs, is_open, (a + b) // 2, max(0, a + 1), b, detour)
            if place is not None:
                price = 1 + self.thrift * obs.reach_cost_ms[place] / CALL_MS
                if doubt > self.max_doubt * price:
                    wanted.append((place, doubt))
        n, last = len(obs.window), max(known)
        if obs.ended and n - 1 - last > self.max_doubt:
            # Nothing vouches for what follows the last known item, whatever it costs.
            place = _cheap_place(obs, is_open, n - 1, last + 1, n, (n - last) * DETOUR)
            if place is not None:
                wanted.append((place, float(n - 1 - last)))
        return _one_gop_at_a_time(obs, wanted)

    def _doubts(
        self, obs: Observation, known: Mapping[int, Outcome], intervals: Sequence[tuple[int, int]]
    ) -> Sequence[float]:
        """Of each interval between two known items; indices count from the window's first."""
        return [(b - a) * doubt_per_item(known[a], known[b], obs.agree) for a, b in intervals]

    def _ends(self, obs: Observation, is_open: Array) -> list[tuple[int, float]]:
        """The last item, or a keyframe or decoded item near it; the first one of a stream too."""
        n = len(obs.window)
        ends = [] if obs.left is not None else [_cheap_place(obs, is_open, 0, 0, n, 0)]
        ends.append(_cheap_place(obs, is_open, n - 1, 0, n, n * END_DETOUR))
        return [(place, float("inf")) for place in dict.fromkeys(ends) if place is not None]


def _one_gop_at_a_time(
    obs: Observation, wanted: list[tuple[int, float]]
) -> list[tuple[int, float]]:
    """Those to ask for now: a decoder that leaves a GOP has to begin it again on its return.

    Keyframes and decoded items at once, wherever they are; then the others of one GOP, until it
    leaves no doubt.
    """
    easy = [w for w in wanted if obs.window.keyframe[w[0]] or obs.reach_cost_ms[w[0]] == 0]
    if easy or not wanted:
        return easy
    gop = obs.window.gop[min(place for place, _ in wanted)]
    return [w for w in wanted if obs.window.gop[w[0]] == gop]


def doubt_per_item(
    left: Outcome, right: Outcome, agree: Callable[[Outcome, Outcome], float]
) -> float:
    """How little two outcomes vouch for what lies between them: 0 none, 1.5 most.

    Each end's best label is looked up in the other's list and its standing read off. Outcomes
    without labels are compared by the recognizer's `agree`.
    """
    if not left.labels or not right.labels:
        return (1 - MISSING) * (1 - (agree(left, right) + agree(right, left)) / 2)
    return 1 - (standing(left, right) + standing(right, left)) / 2


def _cheap_place(
    obs: Observation, is_open: Array, place: int, start: int, stop: int, detour: float
) -> int | None:
    """The open item nearest to `place` in `start..stop`, or a cheaper one at most `detour` away."""
    candidates = start + np.flatnonzero(is_open[start:stop])
    if not candidates.size:
        return None
    distance = np.abs(candidates - place)
    nearest = int(distance.argmin())
    near = distance <= max(detour, distance[nearest])
    cost = obs.reach_cost_ms[candidates]
    easy = near & ((cost == 0) | obs.window.keyframe[candidates])
    if cost[nearest] > 0 and easy.any():
        # Decoded ones first, then keyframes; among equals the nearest.
        nearest = int(np.lexsort((distance, cost, ~easy))[0])
    return int(candidates[nearest])
