"""What a policy answers: a `Plan`, one action an item, and where to go next."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt


class Action(IntEnum):
    """What to do with one item; the closed set that covers the family of dynamic networks."""

    OPEN = 0
    """Undecided: ask again once the rest of the plan was carried out."""
    SKIP = 1
    """Never decode for its own sake, never convert, never recognize."""
    GLANCE = 2
    """Pay for the costlier previews of this item, then ask again."""
    PARTIAL = 3
    """Update part of the recognizer's state from it (Skim-RNN, VCRNN, LiteEval)."""
    PROCESS = 4
    """Recognize it."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to spend within one chosen item; `None` means all."""

    depth: float | None = None
    """Share of the network's depth, in (0, 1] (early exit, layer skipping)."""
    resolution: int | None = None
    """Side of the picture in pixels (AR-Net)."""
    region: tuple[float, float, float, float] | None = None
    """Left, top, right, bottom as shares of the picture (AdaFocus)."""
    fraction: float | None = None
    """For PARTIAL: share of the state to update, in (0, 1]."""

    def __post_init__(self) -> None:
        for name in ("depth", "fraction"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {value}")
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"resolution must be at least 1 pixel, got {self.resolution}")


FULL_EFFORT = Effort()


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Actions for the items of the observed window.

    ```
    window   0 1 2 3 4 5 6 7
    actions  P S S S P O O O      done=5: items 0..4 are closed, 5..7 open the next window
    ```
    """

    actions: npt.NDArray[np.uint8]
    """`(N,)` uint8 of `Action`."""
    scores: npt.NDArray[np.float32] | None = None
    """`(N,)` float32, how much the policy wants each item; ranks them under a hard budget."""
    efforts: dict[int, Effort] = field(default_factory=dict)
    """Index in the window → effort, where it is not full."""
    done: int | None = None
    """Close the first `done` items and hand the rest to the next window; `None`: all of them,
    once none is open."""
    hop: int = 0
    """Items to leave unseen after the closed ones: only demuxed, so that time stays exact."""
    stop: bool = False
    """End the stream after this plan: everything later is unobserved."""

    def __post_init__(self) -> None:
        if self.actions.ndim != 1 or self.actions.dtype != np.uint8:
            raise ValueError(
                "actions must be uint8 of shape (N,), got "
                f"{self.actions.dtype} of shape {self.actions.shape}"
            )
        if self.scores is not None and self.scores.shape != self.actions.shape:
            raise ValueError(f"{self.scores.shape = } must equal {self.actions.shape = }")
        if self.done is not None and not 0 < self.done <= len(self.actions):
            raise ValueError(f"done must be in 1..{len(self.actions)}, got {self.done}")
        if self.hop < 0:
            raise ValueError(f"hop must not be negative, got {self.hop}")

    @staticmethod
    def process_only(n: int, chosen: Any, **kwargs: Any) -> Plan:
        """A plan of `n` items that processes `chosen` (indices or mask) and skips the rest."""
        actions = np.full(n, Action.SKIP, np.uint8)
        actions[chosen] = Action.PROCESS
        return Plan(actions, **kwargs)

    @staticmethod
    def glance_next(n: int, chosen: Any) -> Plan:
        """A plan of `n` items that glances at `chosen` (indices or mask), the rest left open."""
        actions = np.zeros(n, np.uint8)
        actions[chosen] = Action.GLANCE
        return Plan(actions)

    @staticmethod
    def process_next(n: int, chosen: Any) -> Plan:
        """A plan of `n` items that processes `chosen` (indices or mask), the rest left open."""
        actions = np.zeros(n, np.uint8)
        actions[chosen] = Action.PROCESS
        return Plan(actions)

    def __repr__(self) -> str:
        text = "".join("OSGpP?"[min(a, 5)] for a in self.actions[:60])
        more = "…" if len(self.actions) > 60 else ""
        return f"Plan({text}{more}, done={self.done}, hop={self.hop}, stop={self.stop})"
