"""What reaching an item costs: packets to decode from where the decoder stands.

```
index      0 1 2 3 4 5 6 7
coded      K P b P K P P P       b is disposable: nothing is decoded from it
reach      1 2 3 3 1 2 3 4
after 2    0 0 0 1 1 2 3 4       the decoder stands before 3
after 3    0 0 3 0 1 2 3 4       b was left out on the way: getting it means starting at K
```
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.items import Block

NOMINAL_DECODE_MS_PER_MEGAPIXEL = 1.8
"""Of H.264 on one core; nominal, so that policies that look at prices decide alike anywhere."""


class ReachModel:
    """The decoder's place within one window, followed from what was materialized in it.

    It starts afresh with every window (in the middle of a GOP: at the window's first item), so
    that a resumed run sees the same prices as an unbroken one.
    """

    def __init__(self, window: Block, ms_per_packet: float) -> None:
        self._window, self._ms_per_packet = window, ms_per_packet
        numbers, self._gop = np.unique(window.gop, return_inverse=True)
        self._reached = np.zeros(len(numbers), np.int32)
        if not window.keyframe[0]:
            self._reached[self._gop[0]] = window.reach[0] - 1
        self._decoded = np.zeros(len(window), bool)

    def first_items(self, count: int) -> ReachModel:
        """The model cut off after `count` items of the window."""
        model = ReachModel(self._window.slice(0, count), self._ms_per_packet)
        model._reached = self._reached[: len(model._reached)]
        model._decoded = self._decoded[:count]
        return model

    def packets(self) -> npt.NDArray[np.int32]:
        """`(N,)` int32, packets to decode for each item."""
        reach, reached = self._window.reach, self._reached[self._gop]
        behind = np.where(self._window.disposable, reach, 0)
        cost = np.where(reach > reached, reach - reached, behind)
        return np.where(self._decoded, 0, cost).astype(np.int32)

    def cost_ms(self) -> npt.NDArray[np.float32]:
        """`(N,)` float32, nominal milliseconds to decode each item."""
        return (self.packets() * self._ms_per_packet).astype(np.float32)

    def take(self, indices: Any) -> None:
        """The items at `indices` were decoded."""
        # A disposable item is not on the way to any other one.
        passed = self._window.reach[indices] - self._window.disposable[indices]
        np.maximum.at(self._reached, self._gop[indices], passed)
        self._decoded[indices] = True


def nominal_ms_per_packet(width: int, height: int) -> float:
    """Decoding cost of one picture of that size in pixels, nominal."""
    return max(0.05, width * height / 1e6 * NOMINAL_DECODE_MS_PER_MEGAPIXEL)
