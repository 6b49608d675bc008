"""What an index holds, as values: `MediaRow`, `Segment`, `StoredWindow`; and how rows encode."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from streamdyn.clock import Pts
from streamdyn.items import Block
from streamdyn.outcome import Box, Outcome
from streamdyn.protocols import SourceInfo
from streamdyn.receipt import Receipt
from streamdyn.timeline import Audit, Propagation, WindowResult

MediaStatus = Literal["pending", "running", "done", "failed"]
ReceiptKind = Literal["plan", "audit"]


@dataclass(frozen=True, slots=True)
class MediaRow:
    """One media file of an index; its id is made from its path below the index's root."""

    path: str
    """Below the root, with `/`; a URL as it is."""
    bytes: int = 0
    mtime_ns: int = 0
    fingerprint: str = ""
    """Hash of the size and of the first and last 64 KiB."""
    codec: str = ""
    width: int = 0
    """Pixels, as displayed; 0 where there is no picture."""
    height: int = 0
    duration_seconds: float | None = None
    """As the header says, or as measured where it says nothing."""
    rate: Fraction | None = None
    """Items a second, as the header says."""
    time_base: Fraction | None = None
    """Seconds per tick; `None` until the file was opened."""
    num_items: int | None = None
    """As the header says; once done, as many as passed by."""
    note: str = ""
    """What the source says a user should know about this file, such as unreliable times."""
    stream: str = ""
    """Id of the stream that was read; empty before the first window."""
    start_ticks: int | None = None
    """Pts of the first item, once done."""
    stop_ticks: int | None = None
    """Where the last item ends, once done."""
    propagation: Propagation | None = None
    """How the segments were made, once done."""
    status: MediaStatus = "pending"
    error: str = ""
    """Why it failed."""
    config_hash: str = ""
    """Hash of all that the outcomes depend on."""

    @property
    def id(self) -> str:
        """Deterministic: the same path below the root has the same id in every index."""
        return hashlib.sha256(self.path.encode()).hexdigest()[:20]

    def described(self, info: SourceInfo) -> MediaRow:
        """This row with what is known once the source was opened."""
        return replace(
            self,
            codec=info.codec,
            width=info.width,
            height=info.height,
            duration_seconds=info.duration_from_header_seconds,
            rate=info.rate_from_header,
            time_base=info.time_base,
            num_items=info.num_items_from_header,
            note=info.note,
        )

    def pts(self, ticks: int) -> Pts:
        """Exact time of `ticks` in this file."""
        if self.time_base is None:
            raise ValueError(f"{self.path} has no time base: it was never opened")
        return Pts(ticks, self.time_base)


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive items of one label; an empty label says: looked, and nothing was found."""

    media_id: str
    recognizer: str
    start_ordinal: int
    stop_ordinal: int
    """Half open."""
    start_ticks: int
    stop_ticks: int
    """Half open: where the next item begins."""
    label: str
    """The text itself where the recognizer reads text and gives no labels."""
    score: float
    """Best score among the observed items."""
    num_observed: int
    num_propagated: int
    best_outcome_id: str
    """The outcome with that score."""
    text: str
    """Distinct texts read on the observed items, a line each."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredWindow:
    """One closed window: its items and what became of them."""

    block: Block
    reasons: npt.NDArray[np.uint8]
    """`(N,)` uint8 of `Reason`."""
    scores: npt.NDArray[np.float32]
    """`(N,)` float32, the policy's scores, NaN where it gave none."""


_BLOCK_TYPES = {
    "pts": "<i8",
    "keyframe": "?",
    "num_bytes": "<i4",
    "disposable": "?",
    "gop": "<i4",
    "reach": "<i4",
}
MEDIA_COLUMNS = tuple(f.name for f in fields(MediaRow))
SEGMENT_COLUMNS = tuple(f.name for f in fields(Segment))
AUDIT_COLUMNS = tuple(f.name for f in fields(Audit))
WINDOW_COLUMNS = ("first", "num_items", *_BLOCK_TYPES, "reasons", "scores")
OUTCOME_COLUMNS = (
    "id", "ordinal", "ticks", "recognizer", "label", "score", "labels", "text", "boxes",
    "embedding",
)  # fmt: skip


def media_values(media: MediaRow) -> dict[str, Any]:
    """Column → value."""
    values: dict[str, Any] = {name: getattr(media, name) for name in MEDIA_COLUMNS}
    for name in ("rate", "time_base"):
        if values[name] is not None:
            values[name] = f"{values[name].numerator}/{values[name].denominator}"
    return values


def media_from(row: Sequence[Any]) -> MediaRow:
    """The inverse; `row` has the `MEDIA_COLUMNS`."""
    values = dict(zip(MEDIA_COLUMNS, row, strict=True))
    for name in ("rate", "time_base"):
        if values[name] is not None:
            values[name] = Fraction(values[name])
    return MediaRow(**values)


def window_values(result: WindowResult) -> tuple[Any, ...]:
    """Values of the `WINDOW_COLUMNS`."""
    block = result.window
    arrays = [getattr(block, name).astype(dtype) for name, dtype in _BLOCK_TYPES.items()]
    arrays += [result.reasons.astype("u1"), result.scores.astype("<f4")]
    return (block.first, len(block), *(array.tobytes() for array in arrays))


def window_from(row: Sequence[Any], media: MediaRow) -> StoredWindow:
    """The inverse."""
    first, _, *blobs = row
    dtypes = [*_BLOCK_TYPES.values(), "u1", "<f4"]
    arrays = [np.frombuffer(blob, dtype) for blob, dtype in zip(blobs, dtypes, strict=True)]
    time_base = media.pts(0).time_base
    return StoredWindow(Block(media.stream, first, time_base, *arrays[:-2]), *arrays[-2:])


def outcome_values(outcome: Outcome) -> tuple[Any, ...]:
    """Values of the `OUTCOME_COLUMNS`."""
    names = [f.name for f in fields(Box)] if outcome.boxes else []
    boxes = [[getattr(box, name) for name in names] for box in outcome.boxes]
    labels = list(zip(outcome.labels, map(float, outcome.scores), strict=True))
    embedding = outcome.embedding
    return (
        outcome.id,
        outcome.ordinal,
        outcome.pts.ticks,
        outcome.recognizer,
        outcome.label,
        float(outcome.score),
        json.dumps(labels, ensure_ascii=False),
        outcome.text,
        json.dumps(boxes, ensure_ascii=False, default=float) if boxes else "[]",
        None if embedding is None else embedding.astype("<f2").tobytes(),
    )


def outcome_from(row: Sequence[Any], media: MediaRow) -> Outcome:
    """The inverse; without the embedding where the row leaves it out."""
    _, ordinal, ticks, recognizer, _, _, labels, text, boxes, *embedding = row
    pairs = json.loads(labels)
    return Outcome(
        stream=media.stream,
        ordinal=ordinal,
        pts=media.pts(ticks),
        recognizer=recognizer,
        labels=tuple(label for label, _ in pairs),
        scores=tuple(score for _, score in pairs),
        embedding=np.frombuffer(embedding[0], "<f2") if embedding and embedding[0] else None,
        text=text,
        boxes=tuple(Box(*box) for box in json.loads(boxes)),
    )


def receipt_json(receipt: Receipt) -> str:
    """A receipt as JSON, without what is zero."""
    return json.dumps({name: value for name, value in receipt.as_dict().items() if value})
