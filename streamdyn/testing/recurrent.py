"""`RunningBrightness`: a recurrent recognizer without weights, whose state can be worked out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from streamdyn.items import Item, Selection
from streamdyn.outcome import Outcome
from streamdyn.plan import Action
from streamdyn.recognizers.brightness import BUCKETS, Brightness

PARTIAL_FRACTION = 0.5
"""Of a PARTIAL item whose effort names none."""
Hidden = npt.NDArray[np.float64]


class RunningBrightness(Brightness):
    """Labels an item by a level that follows the brightness of the items it was shown.

    A processed item moves the level half of the way to its own brightness, a partial one its
    `fraction` of that. The text of an outcome says how many items the state has seen and which
    action it was, so that a lost, doubled or foreign update shows.
    """

    name = "running_brightness"

    def initial_hidden(self) -> Hidden:  # type: ignore[override]
        """`(2,)` float64: the level, and the number of items seen."""
        return np.zeros(2)

    def recognize(  # type: ignore[override]
        self, selection: Selection, hidden: Hidden
    ) -> tuple[list[Outcome], Hidden]:
        """One outcome an item, in order."""
        outcomes = []
        level, seen = hidden
        chosen = zip(selection.items, selection.actions, selection.efforts, strict=True)
        for item, action, effort in chosen:
            share = 1.0
            if action == Action.PARTIAL:
                share = PARTIAL_FRACTION if effort.fraction is None else effort.fraction
            level += share * (float(item.data.mean()) - level) / 2
            seen += 1
            outcomes.append(self._said(item, level, f"{int(seen)} {action.name.lower()}"))
        return outcomes, np.array([level, seen])

    def _said(self, item: Item, level: float, text: str) -> Outcome:
        label = BUCKETS[int(level) // 32]
        signed = f"{self.name}/{self.version}"
        return replace(
            super()._outcome(item), recognizer=signed, labels=(label,), scores=(1.0,), text=text
        )
