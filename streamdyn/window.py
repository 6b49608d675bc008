"""A window while the engine works on it: what is decided, what was paid, what came back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from streamdyn.items import Array, Block, FrameSpec, ItemError
from streamdyn.observation import Grade, Status
from streamdyn.outcome import Outcome
from streamdyn.plan import FULL_EFFORT, Plan
from streamdyn.reach import ReachModel
from streamdyn.receipt import Receipt


@dataclass(slots=True)
class OpenWindow:
    """Mutable while items are open; the engine turns it into a `WindowResult`."""

    block: Block
    reach: ReachModel
    status: Array
    """`(N,)` uint8 of `Status`."""
    reasons: Array
    """`(N,)` uint8 of `Reason`."""
    scores: Array
    """`(N,)` float32, NaN where the policy gave none."""
    previews: dict[Grade, Array] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    errors: list[ItemError] = field(default_factory=list)
    receipt: Receipt = field(default_factory=Receipt)

    @staticmethod
    def of(block: Block, ms_per_packet: float) -> OpenWindow:
        """All items of a block, all open."""
        n = len(block)
        return OpenWindow(
            block,
            ReachModel(block, ms_per_packet),
            np.zeros(n, np.uint8),
            np.zeros(n, np.uint8),
            np.full(n, np.nan, np.float32),
        )

    def open_items(self) -> Array:
        """`(N,)` bool, the items not decided yet."""
        return np.isin(self.status, (Status.OPEN, Status.GLANCED))

    def first_items(self, count: int) -> OpenWindow:
        """The window cut off after `count` items."""
        return replace(
            self,
            block=self.block.slice(0, count),
            reach=self.reach.first_items(count),
            status=self.status[:count],
            reasons=self.reasons[:count],
            scores=self.scores[:count],
            errors=[e for e in self.errors if e.ordinal < self.block.first + count],
        )


def by_spec(spec: FrameSpec, plan: Plan, indices: Array) -> list[tuple[FrameSpec, list[int]]]:
    """Runs of items that need one picture; efforts may ask for another resolution.

    In the order of the items: a decoder that has gone past one would have to go back.
    """

    def wanted(index: int) -> FrameSpec:
        side = plan.efforts.get(index, FULL_EFFORT).resolution
        return spec if side is None else FrameSpec(side, side, spec.pixel_format)

    return [(found, list(run)) for found, run in groupby(map(int, indices), wanted)]


def media_seconds(block: Block, after_ticks: int | None) -> float:
    """Media time that the items add, such that the times of consecutive blocks add up.

    From the item before (at the start of a stream: from a mean gap before the first item) to the
    last one.
    """
    first, last = int(block.pts[0]), int(block.pts[-1])
    if after_ticks is None:
        after_ticks = first - (last - first) // max(1, len(block) - 1)
    return float((last - after_ticks) * block.time_base)
