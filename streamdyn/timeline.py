"""What is known about every item: observed, propagated from a neighbour, or unobserved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from streamdyn.items import Block, ItemError
from streamdyn.outcome import Outcome
from streamdyn.receipt import Receipt

Propagation = Literal["two-sided", "forward"]


class Reason(IntEnum):
    """Why an item was or was not looked at."""

    SKIPPED = 0
    PROCESSED = 1
    PARTIAL = 2
    FAILED = 3
    OVER_BUDGET = 4
    HOPPED = 5
    """Never even shown to the policy."""


@dataclass(frozen=True, slots=True)
class Audit:
    """One skipped item that was processed after all, and how what was propagated fared."""

    ordinal: int
    ticks: int
    agreement: float
    """Of the propagated outcome with the item's own, in [0, 1]."""
    weight: float
    """Skipped items it stands for: the inverse of its chance of being drawn."""
    propagated_from: int
    """Ordinal of the observed item."""
    expected: str
    """Label that was propagated."""
    found: str
    """Label of the item itself."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowResult:
    """Everything decided and learnt about the items of one closed window."""

    window: Block
    reasons: npt.NDArray[np.uint8]
    """`(N,)` uint8 of `Reason`."""
    scores: npt.NDArray[np.float32]
    """`(N,)` float32, the policy's scores, NaN where it gave none."""
    outcomes: tuple[Outcome, ...]
    """Of the observed items, in pts order."""
    errors: tuple[ItemError, ...]
    audits: tuple[Audit, ...]
    """Audits decided by now; they may concern items of earlier windows."""
    receipt: Receipt
    """What the plan cost."""
    audit_receipt: Receipt
    """What the audits cost, on top."""


def propagate(
    pts: npt.NDArray[np.int64],
    observed: Sequence[int] | npt.NDArray[np.int64],
    mode: Propagation = "two-sided",
) -> npt.NDArray[np.int64]:
    """For each item the index of the observed item whose outcome stands for it, -1 for none.

    `two-sided` takes the nearer neighbour in time (the earlier one on a tie), `forward` the last
    observed one, which is all that a live stream knows.

    ```
    observed     O . . . . O .
    two-sided    0 0 0 5 5 5 5
    forward      0 0 0 0 0 5 5
    ```

    Args:
        pts: `(N,)` int64, increasing ticks.
        observed: Increasing indices of the observed items.
        mode: Which neighbours may stand in.

    Returns:
        `(N,)` int64.
    """
    known = np.asarray(observed, np.int64)
    n = len(pts)
    if known.size == 0:
        return np.full(n, -1, np.int64)
    place = np.searchsorted(known, np.arange(n), side="right") - 1
    before = known[np.maximum(place, 0)]
    if mode == "forward":
        return np.where(place < 0, -1, before)
    after = known[np.minimum(place + 1, known.size - 1)]
    nearer_after = np.abs(pts[after] - pts) < np.abs(pts - pts[before])
    return np.where((place < 0) | nearer_after, after, before)


def runs(labels: Sequence[str]) -> list[tuple[int, int]]:
    """Half-open index ranges of equal consecutive labels."""
    starts = [i for i, label in enumerate(labels) if i == 0 or label != labels[i - 1]]
    return list(pairwise([*starts, len(labels)]))
