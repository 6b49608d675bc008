"""What a policy gets to see: the window, cheap previews, prices, and what was said so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from streamdyn.items import Block
from streamdyn.outcome import Outcome

Grade = Literal["packet", "luma", "thumbnail", "audio", "token"]


class Status(IntEnum):
    """What became of one item of the window so far."""

    OPEN = 0
    SKIPPED = 1
    GLANCED = 2
    """Its costlier previews are there; still open."""
    OBSERVED = 3
    FAILED = 4
    """Chosen, and could not be decoded."""


@dataclass(frozen=True, slots=True)
class BudgetLeft:
    """What may still be spent when the window is closed; `None`: unlimited."""

    items: float | None = None
    """Items that may still be recognized, this window's allowance included."""
    milliseconds: float | None = None


@dataclass(frozen=True, slots=True)
class AuditSummary:
    """Counts of the audits so far; the audited outcomes themselves are never shown to a policy."""

    num_audits: int
    weight: float
    """Sum of the audits' sampling weights: skipped items they stand for."""
    agreement: float
    """Weighted mean agreement of audited items with what was propagated, in [0, 1]."""
    share_observed: float
    """Share of all items so far that were observed."""


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """All that a policy may base its plan on; `N` is the number of items in the window."""

    window: Block
    """The items; indices below count from its first."""
    status: npt.NDArray[np.uint8]
    """`(N,)` uint8 of `Status`."""
    ended: bool
    """The stream ends with this window."""
    reach_cost_ms: npt.NDArray[np.float32]
    """`(N,)` float32, nominal cost of decoding each item from where the decoder stands in this
    window: 0 for what is decoded already. Nominal, not measured, so that a run can be repeated."""
    agree: Callable[[Outcome, Outcome], float]
    """The recognizer's agreement of a propagated outcome (first) with one looked up, in [0, 1]."""
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    """Index in the window → outcome, of the items observed in it."""
    last_outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    """Those of the previous plan only."""
    left: Outcome | None = None
    """The last outcome before the window."""
    previews: Mapping[Grade, npt.NDArray[Any]] = field(default_factory=dict)
    """Grade → `(N, ...)` float32; rows of items whose preview was not paid for are NaN."""
    budget_left: BudgetLeft = BudgetLeft()
    audits: AuditSummary | None = None
    """`None` where the run has no audits."""

    @property
    def num_open(self) -> int:
        """Items not decided yet."""
        return int(np.isin(self.status, (Status.OPEN, Status.GLANCED)).sum())

    def __repr__(self) -> str:
        return (
            f"Observation({self.window!r}, {self.num_open} open, {len(self.outcomes)} outcomes, "
            f"previews={sorted(self.previews)}, {self.budget_left!r})"
        )
