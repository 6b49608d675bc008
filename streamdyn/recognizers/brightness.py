"""Brightness: a recognizer without weights, for trying pipelines and for tests."""

from __future__ import annotations

import numpy as np

from streamdyn.items import FrameSpec, Item, Selection
from streamdyn.outcome import Outcome
from streamdyn.recognizers.stateless import check_pictures
from streamdyn.registry import recognizer

BUCKETS = ("black", "dark", "dusky", "dim", "medium", "light", "bright", "white")
"""Labels by mean level of the picture: 32 of the 256 levels each."""


@recognizer("brightness")
class Brightness:
    """Says how bright a picture is: real, exact, and good for nothing else.

    The label is the bucket of the mean level over all pixels and channels, its score how near
    that level is to the bucket's middle (1 there, 0.5 at its border). The embedding is a histogram
    of 8 colours (each channel below or from 128 on), scaled to unit length.
    """

    name = "brightness"
    version = "1"
    input = FrameSpec(32, 32)
    batch_size = 16

    def setup(self, device: str) -> None:
        """Nothing to load; runs in numpy whatever the device."""

    def initial_hidden(self) -> None:
        """Nothing: every picture is recognized alone."""

    def recognize(self, selection: Selection, hidden: None) -> tuple[list[Outcome], None]:
        """One outcome an item, in order."""
        check_pictures(selection, self.name)
        return [self._outcome(item) for item in selection.items], None

    def agree(self, propagated: Outcome, looked_up: Outcome) -> float:
        """1 if both labels are the same, else 0."""
        return float(propagated.label == looked_up.label)

    def _outcome(self, item: Item) -> Outcome:
        level = float(item.data.mean())
        bucket = int(level) // 32
        colours = (item.data >= 128) @ np.array([4, 2, 1])
        histogram = np.bincount(colours.ravel(), minlength=8)
        return Outcome(
            item.stream,
            item.ordinal,
            item.pts,
            f"{self.name}/{self.version}",
            labels=(BUCKETS[bucket],),
            scores=(1 - abs(level - (bucket * 32 + 16)) / 32,),
            embedding=(histogram / np.linalg.norm(histogram)).astype(np.float16),
        )
