"""Alarms for the ways in which readers are known to collapse while they learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Collapse = Literal["reads all", "reads none", "reads the same place again"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """A collapse that was noticed."""

    collapse: Collapse
    epoch: int
    figure: float
    """The share that raised it."""

    def __str__(self) -> str:
        what = "share of reads" if self.collapse.endswith("again") else "read rate"
        return f"epoch {self.epoch}: the reader {self.collapse} ({what} {self.figure:.3f})"


def collapses(rates: Sequence[float], revisits: float, *, target_rate: float | None) -> list[Alarm]:
    """Which alarms the last epoch raises.

    Args:
        rates: Mean read rate of each epoch so far, in [0, 1].
        revisits: Share of the last epoch's reads that read a token again.
        target_rate: The rate that is trained for; without one, reading all is no collapse.

    The share of re-reads that counts as collapse comes from the reproduction of Yu et al. 2018,
    whose agent read its first chunk forever.
    """
    epoch, rate = len(rates) - 1, rates[-1]
    found = []
    if target_rate is not None and target_rate < 0.9 and rate > 0.98:
        found.append(Alarm("reads all", epoch, rate))
    if rate < 0.005 or (target_rate is not None and rate < 0.1 * target_rate):
        found.append(Alarm("reads none", epoch, rate))
    if revisits > 0.5:
        found.append(Alarm("reads the same place again", epoch, revisits))
    return found
