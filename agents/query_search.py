"""Find one thing in a file: look evenly, stop once it is surely there, else look around the best.

```
looks   1   2   3   4   5   6      evenly spaced, in time order; stopped once sure
best            *                  the one that says the query loudest
again          7 8                 halfway to its neighbours, then of the second best, ...
```

Papers: Tang et al. 2025, Adaptive Keyframe Sampling for Long Video Understanding,
arXiv:2502.21271, and Ye et al. 2025, Re-thinking Temporal Search for Long-Form Video Understanding,
arXiv:2504.02259, both coarse to fine by relevance to a question. Differs: nothing is looked at that
the budget does not count, where these score a picture a second first; the first pass stops early;
the query is a label that the recognizer knows.

Cost: one plan a look; no preview.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamdyn.errors import ConfigError
from streamdyn.observation import Grade, Observation, Status
from streamdyn.outcome import Outcome
from streamdyn.plan import Plan
from streamdyn.previews.glimpses import places_of
from streamdyn.protocols import WHOLE_STREAM
from streamdyn.registry import policy


@policy("query_search")
@dataclass(frozen=True, kw_only=True)
class QuerySearch:
    """Process items until one shows what is asked for; files only.

    For a recognizer that answers each item by itself, as `lite0`, or `actions` with `alone`.

    Args:
        query: A label of the recognizer, as `jump`.
        k: Evenly spaced items to process at most.
        around: More items to process around the best ones, at most.
        confidence: Score of the query at which no more is looked at, in (0, 1].
    """

    query: str
    k: int = 20
    around: int = 6
    confidence: float = 0.7
    name = "query_search"
    version = "1"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()
    lookahead = WHOLE_STREAM

    def __post_init__(self) -> None:
        if not self.query or self.k < 1 or self.around < 0 or not 0 < self.confidence <= 1:
            raise ConfigError(
                "query_search needs a query, k >= 1, around >= 0 and confidence in (0, 1], got "
                f"{self.query = }, {self.k = }, {self.around = }, {self.confidence = }"
            )

    def initial_state(self) -> None:
        """Nothing to remember: the looks so far come with the observation."""

    def decide(self, obs: Observation, state: None) -> tuple[Plan, None]:
        """The next look, or none."""
        n = len(obs.window)
        sure = any(self.score(o) >= self.confidence for o in obs.last_outcomes.values())
        place = None if sure or obs.budget_left.items == 0 else self._next(obs)
        if place is None:
            return Plan.process_only(n, []), None
        return Plan.process_next(n, place), None

    def score(self, outcome: Outcome) -> float:
        """What the outcome says of the query, 0 where it does not name it."""
        return dict(zip(outcome.labels, outcome.scores, strict=True)).get(self.query, 0.0)

    def _next(self, obs: Observation) -> int | None:
        n = len(obs.window)
        places = places_of(n, self.k)
        left = places[obs.status[places] == Status.OPEN]
        if len(left):
            return int(left[0])
        tried = int((obs.status != Status.OPEN).sum()) - len(places)
        if tried >= self.around:
            return None
        even = [int(place) for place in places if int(place) in obs.outcomes]
        even.sort(key=lambda place: -self.score(obs.outcomes[place]))
        half = max(1, n // (2 * len(places)))
        around = [p for place in even for p in (place - half, place + half) if 0 <= p < n]
        return next((p for p in around if obs.status[p] == Status.OPEN), None)
