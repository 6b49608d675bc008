"""What a stream consists of: `Block` (seen, not paid for), `Item` (paid for), `Selection`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from streamdyn.clock import Pts
from streamdyn.plan import FULL_EFFORT, Action, Effort

Array = npt.NDArray[Any]
Kind = Literal["frame", "audio", "token"]
BLOCK_ARRAYS = ("pts", "keyframe", "num_bytes", "disposable", "gop", "reach")
"""The fields of a `Block` that hold a value an item."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Consecutive items in pts order, known from demuxing alone: nothing is decoded yet.

    For video a block is a GOP or, where GOPs are long, a piece of one.
    """

    stream: str
    """Id of the stream."""
    first: int
    """Ordinal of the first item: its place in pts order since the start of the stream."""
    time_base: Fraction
    """Seconds per tick."""
    pts: Array
    """`(N,)` int64, strictly increasing ticks."""
    keyframe: Array
    """`(N,)` bool, decoding can start here."""
    num_bytes: Array
    """`(N,)` int32, coded size of each item."""
    disposable: Array
    """`(N,)` bool, no other item is decoded from this one."""
    gop: Array
    """`(N,)` int32, number of the GOP that the item is coded in."""
    reach: Array
    """`(N,)` int32, items to decode to get this one from its keyframe, itself included and
    disposable items left out: 1 for a keyframe."""

    def __post_init__(self) -> None:
        n = len(self.pts)
        shapes = {name: getattr(self, name).shape for name in BLOCK_ARRAYS}
        if any(shape != (n,) for shape in shapes.values()) or n == 0:
            raise ValueError(f"a block needs N > 0 items and arrays of shape (N,), got {shapes}")
        if not (self.pts[1:] > self.pts[:-1]).all():
            raise ValueError(f"pts must strictly increase, got {self.pts[:8].tolist()}...")

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def stop(self) -> int:
        """Ordinal after the last item."""
        return self.first + len(self)

    def pts_at(self, index: int) -> Pts:
        """Pts of the item at `index` in this block."""
        return Pts(int(self.pts[index]), self.time_base)

    def slice(self, start: int, stop: int) -> Block:
        """Items `start` to `stop` (half open, indices in this block) as a block."""
        if (start, stop) == (0, len(self)):
            return self
        arrays = {name: getattr(self, name)[start:stop] for name in BLOCK_ARRAYS}
        return Block(self.stream, self.first + start, self.time_base, **arrays)

    @staticmethod
    def join(blocks: Sequence[Block]) -> Block:
        """Consecutive blocks of one stream as one."""
        head = blocks[0]
        if len(blocks) == 1:
            return head
        for left, right in pairwise(blocks):
            if left.stop != right.first:
                raise ValueError(f"blocks do not follow each other: {left!r}, {right!r}")
        arrays = {name: np.concatenate([getattr(b, name) for b in blocks]) for name in BLOCK_ARRAYS}
        return Block(head.stream, head.first, head.time_base, **arrays)

    def __repr__(self) -> str:
        return (
            f"Block({self.stream!r}, items {self.first}..{self.stop}, "
            f"{self.pts_at(0).seconds:.3f}s..{self.pts_at(-1).seconds:.3f}s, "
            f"{int(self.keyframe.sum())} keyframes)"
        )


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """The picture a recognizer (or a glance) wants: made in one scaling step."""

    width: int | None
    """Pixels; `None`: as coded."""
    height: int | None
    """Pixels; `None`: as coded."""
    pixel_format: Literal["rgb24", "gray"] = "rgb24"

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1 pixel, got {value}")


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One decoded, converted input."""

    stream: str
    ordinal: int
    """Place in pts order since the start of the stream."""
    pts: Pts
    data: Array
    """frame: `(H, W, 3)` uint8 RGB (or `(H, W)` grey); audio: `(channels, samples)` float32."""
    kind: Kind = "frame"

    def __repr__(self) -> str:
        shape = f"{self.data.dtype}{list(self.data.shape)}"
        return f"Item({self.stream!r}, {self.kind} {self.ordinal}, {shape}, {self.pts!r})"


@dataclass(frozen=True, slots=True)
class ItemError:
    """An item that was chosen and could not be decoded."""

    ordinal: int
    pts: Pts
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Chosen items, in pts order for each stream, ragged over streams."""

    items: tuple[Item, ...]
    actions: tuple[Action, ...]
    """PROCESS or PARTIAL, one for each item."""
    efforts: tuple[Effort, ...]
    """How much to spend on each item."""

    def __post_init__(self) -> None:
        lengths = len(self.items), len(self.actions), len(self.efforts)
        if len(set(lengths)) != 1 or not self.items:
            raise ValueError(f"a selection needs one action and effort an item, got {lengths = }")

    def __len__(self) -> int:
        return len(self.items)

    @staticmethod
    def in_full(items: Sequence[Item]) -> Selection:
        """All of the items, each to be processed with full effort."""
        n = len(items)
        return Selection(tuple(items), (Action.PROCESS,) * n, (FULL_EFFORT,) * n)

    def stack(self) -> Array:
        """All items as one `(B, ...)` array; all must have one shape."""
        return np.stack([item.data for item in self.items])

    def __repr__(self) -> str:
        return f"Selection({len(self)} items, first {self.items[0]!r})"
