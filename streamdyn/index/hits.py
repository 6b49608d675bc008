"""`Hit`: what a search answers, and how one is read from its row of words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from streamdyn.clock import Pts
from streamdyn.index.reading import IndexReader
from streamdyn.index.records import MediaRow

SearchMode = Literal["hybrid", "text", "vector"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A segment, or a whole file whose name was found, that answers a query."""

    media_id: str
    path: str
    """Below the root of the index."""
    start: Pts
    stop: Pts
    """Half open."""
    label: str
    """Empty for a whole file."""
    score: float
    """The recognizer's best score in the segment, in [0, 1]; 0 for a whole file."""
    text: str
    """What was read there."""
    best: Pts
    """When to look: the item that scored best or, searching by picture, is most alike."""
    outcome_id: str
    """Of that item; empty for a whole file."""
    recognizer: str
    """Empty for a whole file."""
    relevance: float
    """What hits are sorted by; comparable within one search only."""
    ranks: Mapping[str, int]
    """Ranking (`text`, `vector`) → place in it, from 1."""
    mode: SearchMode
    """How the search was really done: `text` where `hybrid` found no sentence encoder."""

    @property
    def start_seconds(self) -> float:
        """For printing."""
        return self.start.seconds

    @property
    def stop_seconds(self) -> float:
        """For printing."""
        return self.stop.seconds

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        base = self.best.time_base
        return {
            "path": self.path,
            "media_id": self.media_id,
            "start_seconds": self.start.seconds,
            "stop_seconds": self.stop.seconds,
            "best_seconds": self.best.seconds,
            "best_ticks": self.best.ticks,
            "time_base": f"{base.numerator}/{base.denominator}",
            "label": self.label,
            "score": self.score,
            "text": self.text,
            "outcome_id": self.outcome_id,
            "recognizer": self.recognizer,
            "relevance": self.relevance,
            "ranks": dict(self.ranks),
            "mode": self.mode,
        }


def hit_of_row(
    index: IndexReader, row: int, relevance: float, ranks: Mapping[str, int], mode: SearchMode
) -> Hit:
    """The hit for a row of `words`: a segment's id, or minus a media file's number."""
    if row < 0:
        ((media_id,),) = index.fetch("SELECT id FROM media WHERE number = ?", -row)
        return _whole_file(index.get(media_id), relevance, ranks, mode)
    ((media_id, start, stop, label, score, text, recognizer, ticks, outcome_id),) = index.fetch(
        "SELECT s.media_id, start_ticks, stop_ticks, s.label, s.score, s.text, s.recognizer, "
        "o.ticks, o.id FROM segments AS s JOIN outcomes AS o ON o.id = best_outcome_id "
        "WHERE s.id = ?",
        row,
    )
    media = index.get(media_id)
    return Hit(
        media_id=media_id,
        path=media.path,
        start=media.pts(start),
        stop=media.pts(stop),
        label=label,
        score=score,
        text=text,
        best=media.pts(ticks),
        outcome_id=outcome_id,
        recognizer=recognizer,
        relevance=relevance,
        ranks=ranks,
        mode=mode,
    )


def _whole_file(
    media: MediaRow, relevance: float, ranks: Mapping[str, int], mode: SearchMode
) -> Hit:
    start = media.pts(media.start_ticks or 0)
    return Hit(
        media_id=media.id,
        path=media.path,
        start=start,
        stop=media.pts(media.stop_ticks or 0),
        label="",
        score=0.0,
        text="",
        best=start,
        outcome_id="",
        recognizer="",
        relevance=relevance,
        ranks=ranks,
        mode=mode,
    )
