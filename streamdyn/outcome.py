"""What a recognizer said about one item."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamdyn.clock import Pts


@dataclass(frozen=True, slots=True)
class Box:
    """One detection, in shares of the picture's width and height."""

    label: str
    score: float
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A recognizer's answer for one item; its id depends on what was looked at and by whom."""

    stream: str
    ordinal: int
    pts: Pts
    recognizer: str
    """Name and version, as in `lite0-160/1`."""
    labels: tuple[str, ...] = ()
    """Best first."""
    scores: tuple[float, ...] = ()
    """One a label, in [0, 1]."""
    embedding: npt.NDArray[np.float16] | None = None
    """`(D,)` float16, unit length."""
    text: str = ""
    """Text read on the item."""
    boxes: tuple[Box, ...] = ()

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.scores):
            raise ValueError(f"{len(self.labels) = } must equal {len(self.scores) = }")

    @property
    def id(self) -> str:
        """Deterministic: writing the same outcome twice changes nothing."""
        key = f"{self.stream}\0{self.pts.ticks}\0{self.pts.time_base}\0{self.recognizer}"
        return hashlib.sha256(key.encode()).hexdigest()[:20]

    @property
    def label(self) -> str:
        """The best label, or the empty string."""
        return self.labels[0] if self.labels else ""

    @property
    def score(self) -> float:
        """Score of the best label, or 0."""
        return self.scores[0] if self.scores else 0.0

    def __repr__(self) -> str:
        size = "none" if self.embedding is None else f"float16[{self.embedding.size}]"
        return (
            f"Outcome({self.stream!r}, {self.pts!r}, {self.label!r} {self.score:.2f}, "
            f"embedding={size}, text={self.text[:30]!r})"
        )
