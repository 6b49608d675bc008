"""Notices that a camera looks elsewhere: it was turned, moved or covered.

A picture is brought down to 32 x 18 cells, and the steps of brightness between them, each divided
by what is usual around it, are compared with their slow average. People and cars change a part of
them, light and weather change their size and not their direction; another view changes all of them.
On the fixed cameras among our videos the correlation stays above 0.49, and falls below 0.4 when the
view is moved by a tenth of its width, in most of them by a twentieth.

Only looks are compared, since nothing else is decoded: a change is noticed after `NUM_LOOKS` of
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

CELLS = (18, 32)
ALIKE = 0.4
"""Correlation of what is the same view."""
NUM_LOOKS = 5
"""In a row that show another view, and the same one."""
LEAST_SECONDS = 5.0
"""From the first to the last of them: a lorry that stops is gone by then, mostly."""
SETTLED_LOOKS = 20
"""Of one view, before a change of it means anything: films and moving cameras never settle."""
PACE = 0.05
"""Of the average, for each look."""
FLAT = 1.0
"""Mean step between cells, of 256 levels: nothing is to be seen."""

Steps = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ViewChange:
    """The camera looks elsewhere."""

    ticks: int
    """Of the first look that showed it."""
    difference: float
    """1 minus the correlation with the view before, in [0, 1]."""


@dataclass(slots=True)
class ViewState:
    """What is known of a stream's view; picklable, part of a checkpoint."""

    known: Steps | None = None
    num_alike: int = 0
    """Looks that showed it."""
    other: Steps | None = None
    other_ticks: int = 0
    num_other: int = 0

    def look(self, steps: Steps, ticks: int, time_base: Fraction) -> ViewChange | None:
        """Take up the next picture that was looked at; the change that it completes, if any.

        Args:
            steps: Of it.
            ticks: Of it.
            time_base: Seconds of a tick.
        """
        if self.known is None:
            self.known = steps
        if likeness(self.known, steps) >= ALIKE:
            self.known = self.known + np.float32(PACE) * (steps - self.known)
            self.num_alike += 1
            self.other = None
        elif self.num_alike < SETTLED_LOOKS:
            self.known, self.num_alike = steps, 0
        elif self.other is None or likeness(self.other, steps) < ALIKE:
            self.other, self.other_ticks, self.num_other = steps, ticks, 1
        else:
            self.num_other += 1
            self.other = self.other + (steps - self.other) / np.float32(self.num_other)
            lasted = (ticks - self.other_ticks) * time_base
            if self.num_other >= NUM_LOOKS and lasted >= LEAST_SECONDS:
                difference = 1 - max(0.0, likeness(self.known, self.other))
                self.known, self.num_alike, self.other = self.other, self.num_other, None
                return ViewChange(self.other_ticks, difference)
        return None


def steps_of(picture: NDArray[np.uint8]) -> Steps:
    """Between cells of a picture, rightwards and downwards; 0 where it is flat.

    Args:
        picture: `(H, W)` or `(H, W, 3)` uint8.
    """
    grey = picture if picture.ndim == 2 else picture[..., 1]
    height, width = grey.shape
    if height < CELLS[0] or width < CELLS[1]:
        return np.zeros((2, CELLS[0] - 1, CELLS[1] - 1), np.float32)
    edges = [np.linspace(0, n, k + 1).astype(int) for n, k in zip(grey.shape, CELLS, strict=True)]
    sums = np.add.reduceat(grey, edges[0][:-1], axis=0, dtype=np.float32)
    sums = np.add.reduceat(sums, edges[1][:-1], axis=1)
    cells = sums / np.outer(np.diff(edges[0]), np.diff(edges[1]))
    steps = np.stack([np.diff(cells, axis=1)[:-1], np.diff(cells, axis=0)[:, :-1]])
    size = np.hypot(*steps)
    if size.mean() < FLAT:
        return np.zeros_like(steps, np.float32)
    found: Steps = (steps / (size + size.mean())).astype(np.float32)
    return found


def likeness(one: Steps, other: Steps) -> float:
    """Correlation of two views, in [-1, 1]; of two in which nothing is to be seen 1."""
    energy = float((one * one).sum()), float((other * other).sum())
    if not all(energy):
        return float(energy[0] == energy[1])
    return float((one * other).sum()) / float(np.sqrt(energy[0] * energy[1]))
