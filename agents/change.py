"""Process what looks different: luma against the last processed item, with hysteresis.

```
item                          0 1 2 3 4 5 6 7 8
brightness                    a a a b c d d d d     a fade from a to d
differs from the processed    P . . P . . P . .     at 3 by more than threshold, at 6 again
still moving (low)                  x x x           disarmed: 4 and 5 are not processed
```

An item is processed when it differs from the last processed one by more than `threshold`, so slow
drift adds up and is caught. Then the policy is disarmed until the picture has settled (two
neighbours differ by less than `low`), so that a fade or a pan costs two calls and not one an item;
after `patience` items it is armed again even if the picture never settles.

Cost: every item is decoded and scaled to 32x24 grey (preview `luma`), and 20 µs for the decision.
Frame differencing as in Kang et al. 2017, NoScope, arXiv:1703.02529.
Differs: compared with the last processed frame, not with a fixed or a t seconds older one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamdyn.errors import ConfigError
from streamdyn.items import Array
from streamdyn.observation import Grade, Observation
from streamdyn.plan import Plan
from streamdyn.previews.luma import luma_difference
from streamdyn.registry import policy


@dataclass(frozen=True, slots=True)
class ChangeState:
    """What was last processed and last seen."""

    processed: Array | None = None
    """`(24, 32)` float32."""
    seen: Array | None = None
    """`(24, 32)` float32."""
    disarmed_items: int | None = None
    """Items since the policy was disarmed; `None`: armed."""


@policy("change")
@dataclass(frozen=True, kw_only=True)
class Change:
    """Process an item that differs from the last processed one.

    Args:
        threshold: Mean luma difference that counts as a change, as a share of full scale.
        low: Difference of neighbours below which the picture has settled.
        patience: Items after which a moving picture is compared again, at least 1.
        lookahead: Items to plan at once; does not change what is chosen.
    """

    threshold: float = 0.02
    low: float = 0.005
    patience: int = 10
    lookahead: int = 32
    name = "change"
    version = "1"
    previews = frozenset[Grade](("luma",))
    glances = frozenset[Grade]()
    knob = ("threshold", 0.002, 0.3)
    """What `agreement` tunes: the option, its finest and its coarsest value."""

    def __post_init__(self) -> None:
        if not (0 < self.low < 1 and 0 < self.threshold < 1) or self.patience < 1:
            raise ConfigError(
                "change needs low and threshold in (0, 1) and patience >= 1, got "
                f"{self.low = }, {self.threshold = }, {self.patience = }"
            )

    def initial_state(self) -> ChangeState:
        """Nothing processed or seen."""
        return ChangeState()

    def decide(self, obs: Observation, state: ChangeState) -> tuple[Plan, ChangeState]:
        """Close the window at once; an item without a picture is skipped."""
        luma = obs.previews["luma"]
        scores = np.zeros(len(luma), np.float32)
        chosen = []
        for index in np.flatnonzero(~np.isnan(luma[:, 0, 0])):
            picture = luma[index]
            state = self._rearmed(picture, state)
            scores[index] = _difference(state.processed, picture)
            if scores[index] > self.threshold and state.disarmed_items is None:
                chosen.append(int(index))
                state = ChangeState(processed=picture, seen=picture, disarmed_items=0)
            else:
                state = replace(state, seen=picture)
        return Plan.process_only(len(luma), chosen, scores=scores), _detached(state)

    def _rearmed(self, picture: Array, state: ChangeState) -> ChangeState:
        if state.disarmed_items is None:
            return state
        waited = state.disarmed_items + 1
        settled = _difference(state.seen, picture) < self.low
        return replace(state, disarmed_items=None if settled or waited >= self.patience else waited)


def _difference(left: Array | None, right: Array) -> float:
    return 1.0 if left is None else float(luma_difference(left, right))


def _detached(state: ChangeState) -> ChangeState:
    """The same without a view of the window's pictures, which would keep them all in memory."""
    processed, seen = (None if p is None else p.copy() for p in (state.processed, state.seen))
    return ChangeState(processed, seen, state.disarmed_items)
