"""Made-up streams: pictures by ordinal, decoding counted as a codec charges it.

A picture is reached on from where the decoder stands, or again from its keyframe; what was decoded
and not released is had again for nothing. Nothing is read or decoded in truth, so receipts hold
counts and no times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from streamdyn.clock import Pts
from streamdyn.errors import ConfigError, SourceError
from streamdyn.items import Array, Block, FrameSpec, Item, ItemError
from streamdyn.observation import Grade
from streamdyn.previews.luma import LUMA_SPEC, THUMBNAIL_SPEC
from streamdyn.previews.token import token_features
from streamdyn.protocols import Position, SourceInfo
from streamdyn.receipt import Receipt

TIME_BASE = Fraction(1, 25)
SIDE = 64
"""Pixels of a picture where nothing else is asked for."""


def plain_picture(brightness: int) -> Array:
    """`(1, 1, 3)` uint8 of one brightness, to be scaled to any size."""
    return np.full((1, 1, 3), brightness, np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """What a made-up stream consists of; `N` items, one every 1/25 s."""

    stream: str
    num_bytes: Array
    """`(N,)` int32."""
    keyframe: Array
    """`(N,)` bool, the first is one."""
    picture: Callable[[int], Array | None]
    """Ordinal → `(H, W, 3)` uint8 RGB of any size; `None`: it cannot be decoded."""


class ScriptCursor:
    """Where we are in a made-up stream; hands out a GOP at a time."""

    def __init__(self, script: Script, resume_from: Position | None = None) -> None:
        self._script = script
        self._num_items = len(script.num_bytes)
        self._gop = np.cumsum(script.keyframe, dtype=np.int32) - 1
        self._starts = np.flatnonzero(script.keyframe)
        self.next_ordinal = 0 if resume_from is None else resume_from.ordinal
        self._released = 0
        self._decoder: tuple[int, int] = (0, 0)  # GOP, items of it decoded.
        self._kept: set[int] = set()
        self._receipt = Receipt()
        self.info = SourceInfo(
            script.stream,
            "frame",
            "synthetic",
            TIME_BASE,
            width=SIDE,
            height=SIDE,
            rate_from_header=1 / TIME_BASE,
            duration_from_header_seconds=float(self._num_items * TIME_BASE),
            num_items_from_header=self._num_items,
        )

    def next_block(self) -> Block | None:
        """The rest of the GOP."""
        first, stop = self.next_ordinal, self._block_stop()
        if first >= self._num_items:
            return None
        self.next_ordinal = stop
        self._receipt.num_demuxed += stop - first
        ordinals, gop = np.arange(first, stop), self._gop[first:stop]
        return Block(
            self._script.stream,
            first,
            TIME_BASE,
            pts=ordinals,
            keyframe=self._script.keyframe[first:stop],
            num_bytes=self._script.num_bytes[first:stop],
            disposable=np.zeros(stop - first, bool),
            gop=gop,
            reach=(ordinals - self._starts[gop] + 1).astype(np.int32),
        )

    def _block_stop(self) -> int:
        later = self._starts[self._starts > self.next_ordinal]
        return int(later[0]) if later.size else self._num_items

    def materialize(
        self, ordinals: Sequence[int], spec: FrameSpec
    ) -> tuple[list[Item], list[ItemError]]:
        """Make the chosen pictures."""
        items, errors = [], []
        for ordinal, picture in self._decoded(ordinals):
            pts = Pts(ordinal, TIME_BASE)
            if picture is None:
                self._receipt.num_errors += 1
                errors.append(ItemError(ordinal, pts, "the stream says it is broken"))
                continue
            self._receipt.num_converted += 1
            data = _scaled(picture, spec.height or SIDE, spec.width or SIDE)
            data = data if spec.pixel_format == "rgb24" else _grey(data)
            items.append(Item(self._script.stream, ordinal, pts, data))
        return items, errors

    def preview(self, grade: Grade, ordinals: Sequence[int]) -> Array:
        """`luma`, `thumbnail`, or what stands for them where there is no picture.

        `audio`: `(n, 32)`, every band as loud as the picture is bright. `token`: `(n, 10)`, of the
        number that is its brightness.

        Raises:
            ConfigError: Another grade.
        """
        if grade not in ("luma", "thumbnail", "audio", "token"):
            raise ConfigError(
                f"a synthetic stream has no preview of grade {grade!r}; it has luma, thumbnail, "
                "audio, token, and packet without asking"
            )
        spec = THUMBNAIL_SPEC if grade == "thumbnail" else LUMA_SPEC
        shape = (spec.height or 0, spec.width or 0, 3)
        rows = []
        for _, picture in self._decoded(ordinals):
            pixels = np.full(shape, np.nan) if picture is None else _scaled(picture, *shape[:2])
            grey = pixels.mean(axis=2, dtype=np.float32)
            rows.append(_row(grade, pixels, grey))
        return np.stack(rows)

    def _decoded(self, ordinals: Sequence[int]) -> Iterable[tuple[int, Array | None]]:
        for ordinal in ordinals:
            if not self._released <= ordinal < self.next_ordinal:
                raise SourceError(
                    f"cannot decode item {ordinal} of {self._script.stream}: it was released or "
                    f"not handed out; ask for {self._released} to {self.next_ordinal - 1}"
                )
            if ordinal not in self._kept:
                self._decode(ordinal)
                self._kept.add(ordinal)
            yield ordinal, self._script.picture(ordinal)

    def _decode(self, ordinal: int) -> None:
        gop = int(self._gop[ordinal])
        reach = ordinal - int(self._starts[gop]) + 1
        at_gop, reached = self._decoder
        if gop != at_gop or reach <= reached:
            self._receipt.num_restarts += gop == at_gop and reached > 0
            reached = 0
        self._receipt.num_decoded += reach - reached
        self._decoder = (gop, reach)

    def release(self, before: int) -> None:
        """Forget items below `before`."""
        self._released = max(self._released, before)
        self._kept = {ordinal for ordinal in self._kept if ordinal >= before}

    def hop_to(self, ordinal: int) -> None:
        """Leave items unseen; they are not even demuxed."""
        self.next_ordinal = max(self.next_ordinal, ordinal)

    def take_receipt(self) -> Receipt:
        """What was spent since the last call: counts, no times."""
        spent, self._receipt = self._receipt, Receipt()
        return spent

    def close(self) -> None:
        """Nothing is open."""


def _row(grade: Grade, pixels: Array, grey: Array) -> Array:
    if grade == "thumbnail":
        return pixels.astype(np.float32)
    if grade == "luma":
        return grey
    if grade == "audio":
        return np.full(32, grey.mean() / 255, np.float32)
    number = f"{grey.mean():.0f}"
    row: Array = token_features([number])[0] * (np.nan if number == "nan" else 1)
    return row


def _scaled(picture: Array, height: int, width: int) -> Array:
    """Nearest neighbour: `(H, W, 3)` to `(height, width, 3)`."""
    rows = np.arange(height) * picture.shape[0] // height
    columns = np.arange(width) * picture.shape[1] // width
    return np.asarray(picture[rows[:, None], columns])


def _grey(picture: Array) -> Array:
    return np.asarray(picture.mean(axis=2).round(), np.uint8)
