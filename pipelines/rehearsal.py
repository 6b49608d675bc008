"""A kept stream that an agent goes through again and again: what would looks have been worth?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.pipelines.unseen_heads import Lesson
from streamdyn.previews.coarse import coarse_features
from streamdyn.previews.glimpses import glimpse_features, likeness, places_of
from streamdyn.previews.surroundings import packet_surroundings
from streamdyn.recognizers.actions import attended

Array = npt.NDArray[Any]


@dataclass(slots=False, eq=False)
class Rehearsal:
    """Answers as the recognizer `actions` would, without its cost; items count by row.

    Args:
        lesson: The stream.
        attention: `(5,)`, of the recognizer.
    """

    lesson: Lesson
    attention: Array

    def __len__(self) -> int:
        return len(self.lesson.said)

    @cached_property
    def packets(self) -> Array:
        """`(M, P)`, see `packet_surroundings`."""
        kept = self.lesson.features
        rows: Array = packet_surroundings(kept.block)[kept.ordinals]
        return rows

    @cached_property
    def seconds(self) -> Array:
        """`(M,)`."""
        seconds: Array = self.lesson.seconds
        return seconds

    @cached_property
    def ms_per_item(self) -> tuple[float, float]:
        """Measured over the file: milliseconds to decode an item, and to convert and recognize."""
        spent = self.lesson.features.milliseconds
        count = len(self)
        return spent["decode"] / count, (spent["convert"] + spent["recognize"]) / count

    def places(self, parts: int) -> Array:
        """See `places_of`."""
        return places_of(len(self), parts)

    def features(self, places: Array, looks: Sequence[int]) -> Array:
        """What an agent that has looked there knows of the places, see `glimpse_features`."""
        rows = np.sort(np.array(looks, np.int64))
        return glimpse_features(
            self.packets[places], self.seconds, places, rows, self.lesson.embeddings[rows]
        )

    def coarse(self, places: Array) -> Array:
        """What small grey pictures say of the places, see `coarse_features`."""
        small = self.lesson.features.luma[places]
        return coarse_features(small, self.seconds[places], self.packets[places])

    def weights(self, looks: Sequence[int]) -> tuple[Array, Array]:
        """Rows looked at, rising, and what the recognizer lets each count; these add up to 1."""
        rows = np.unique(np.array(looks, np.int64))
        seen = self.lesson.embeddings[rows]
        far, before, later = likeness(seen @ seen.T, self.seconds[rows])
        if (far == -1.0).any():
            return rows, np.full(len(rows), 1 / len(rows))
        said = self.lesson.said[rows]
        entropy = -(said * np.log(said + 1e-9)).sum(1)
        likely = attended(np.stack([far, before, later, entropy], 1), self.attention)
        return rows, likely / max(float(likely.sum()), 1e-9)

    def share_inside(self, looks: Sequence[int]) -> float:
        """Of what the answer rests on, the share that shows an action."""
        rows, weights = self.weights(looks)
        return float(weights[self.lesson.inside[rows]].sum())

    def share_right(self, looks: Sequence[int]) -> float:
        """Score of the right action in the answer."""
        rows, weights = self.weights(looks)
        return float(weights @ self.lesson.said[rows, self.lesson.target])

    def is_right(self, looks: Sequence[int]) -> bool:
        """The answer is the right one."""
        rows, weights = self.weights(looks)
        return bool((weights @ self.lesson.said[rows]).argmax() == self.lesson.target)
