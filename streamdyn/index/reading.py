"""Reading an index: files, segments, outcomes, windows, audits, receipts, as values."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streamdyn.errors import StoreError
from streamdyn.index.database import Database
from streamdyn.index.records import (
    AUDIT_COLUMNS,
    MEDIA_COLUMNS,
    OUTCOME_COLUMNS,
    SEGMENT_COLUMNS,
    WINDOW_COLUMNS,
    MediaRow,
    ReceiptKind,
    Segment,
    StoredWindow,
    media_from,
    outcome_from,
    window_from,
)
from streamdyn.items import ItemError
from streamdyn.outcome import Outcome
from streamdyn.protocols import WHOLE_FILE, MediaRange
from streamdyn.receipt import Receipt
from streamdyn.timeline import Audit

_PAGE = 512
SIMILARITY_DIGITS = 6
_CHUNK = 8192
"""Embeddings compared at once."""
_SELECT_MEDIA = f"SELECT {', '.join(MEDIA_COLUMNS)} FROM media"


class Neighbour(NamedTuple):
    """An outcome that has an embedding."""

    outcome_id: str
    media_id: str
    ordinal: int
    ticks: int
    similarity: float = 0.0
    """Cosine with what was searched for."""


class IndexReader(Database):
    """The reading half of `SqliteIndex`; open that one instead, with `mode="read"`."""

    root: Path

    def locate(self, media: MediaRow) -> str:
        """Where the file is: its path below the root, or its URL."""
        return media.path if is_url(media.path) else os.path.normpath(self.root / media.path)

    def media(self) -> list[MediaRow]:
        """All files, by path."""
        return [media_from(row) for row in self.fetch(f"{_SELECT_MEDIA} ORDER BY path")]

    def find(self, media_id: str) -> MediaRow | None:
        """The file with this id, if the index has it."""
        rows = self.fetch(f"{_SELECT_MEDIA} WHERE id = ?", media_id)
        return media_from(rows[0]) if rows else None

    def get(self, media_id: str) -> MediaRow:
        """The file with this id.

        Raises:
            StoreError: The index has no such file.
        """
        media = self.find(media_id)
        if media is None:
            raise StoreError(
                f"no file with id {media_id!r} in {self.path}: it was removed or never indexed; "
                "see the ids with streamdyn export --format jsonl"
            )
        return media

    def checkpoint(self, media_id: str, first: int = 0) -> bytes | None:
        """What the last committed window left for resuming, if the file is not finished.

        Args:
            media_id: Of the file.
            first: Of the range, where the file is watched in ranges.
        """
        rows = self.fetch(
            "SELECT checkpoint FROM checkpoints WHERE media_id = ? AND first = ?", media_id, first
        )
        return rows[0][0] if rows else None

    def ranges(self, media_id: str) -> list[tuple[MediaRange, bool]]:
        """The ranges that a file is watched in, if it is, and whether each is done."""
        return [
            (MediaRange(first, stop, after_ticks, tuple(json.loads(hint))), bool(is_done))
            for first, stop, after_ticks, hint, is_done in self.fetch(
                "SELECT first, stop, after_ticks, hint, is_done FROM ranges WHERE media_id = ? "
                "ORDER BY first",
                media_id,
            )
        ]

    def is_done(self, media_id: str, media_range: MediaRange = WHOLE_FILE) -> bool:
        """Whether a file, or a range of it, has been watched to its end."""
        if media_range != WHOLE_FILE:
            return dict(self.ranges(media_id)).get(media_range, False)
        media = self.find(media_id)
        return media is not None and media.status == "done"

    def segments(self, media_id: str) -> list[Segment]:
        """Segments of a file by recognizer and time; none until it is done."""
        columns = ", ".join(SEGMENT_COLUMNS)
        rows = self.fetch(
            f"SELECT {columns} FROM segments WHERE media_id = ? ORDER BY recognizer, start_ordinal",
            media_id,
        )
        return [Segment(*row) for row in rows]

    def outcomes(self, media_id: str, *, embeddings: bool = True) -> Iterator[Outcome]:
        """Outcomes of a file in order; without their embeddings where nobody needs them."""
        media = self.get(media_id)
        columns = ", ".join(OUTCOME_COLUMNS if embeddings else OUTCOME_COLUMNS[:-1])
        last: tuple[int, str] = (-1, "")
        while rows := self.fetch(
            f"SELECT {columns} FROM outcomes WHERE media_id = ? "
            f"AND (ordinal, recognizer) > (?, ?) ORDER BY ordinal, recognizer LIMIT {_PAGE}",
            media_id,
            *last,
        ):
            outcomes = [outcome_from(row, media) for row in rows]
            yield from outcomes
            last = outcomes[-1].ordinal, outcomes[-1].recognizer

    def embedding_sizes(self) -> dict[str, int]:
        """Recognizer → numbers in its embeddings, for those that have any."""
        sizes: dict[str, int] = {}
        for (name,) in self.fetch("SELECT DISTINCT recognizer FROM outcomes"):
            rows = self.fetch(
                "SELECT length(embedding) / 2 FROM outcomes "
                "WHERE recognizer = ? AND embedding IS NOT NULL LIMIT 1",
                name,
            )
            if rows:
                sizes[name] = rows[0][0]
        return sizes

    def embeddings(
        self, recognizer: str, chunk: int = _CHUNK
    ) -> Iterator[list[tuple[Neighbour, npt.NDArray[np.float16]]]]:
        """The outcomes that have an embedding, and it: `(D,)` float16; so many at once."""
        last = 0
        while rows := self.fetch(
            "SELECT rowid, id, media_id, ordinal, ticks, embedding FROM outcomes "
            "WHERE recognizer = ? AND embedding IS NOT NULL AND rowid > ? ORDER BY rowid LIMIT ?",
            recognizer,
            last,
            chunk,
        ):
            last = rows[-1][0]
            yield [(Neighbour(*row[1:-1]), np.frombuffer(row[-1], "<f2")) for row in rows]

    def nearest(self, query: npt.NDArray[np.float32], recognizer: str) -> Iterator[Neighbour]:
        """The outcomes whose embeddings are most like a unit vector, best first.

        Of those that are alike to six digits, the one that was stored first.
        """
        similarity, places = [np.empty(0, np.float32)], list[Neighbour]()
        for chunk in self.embeddings(recognizer):
            vectors = np.stack([vector for _, vector in chunk]).astype(np.float32)
            norms = np.maximum(np.linalg.norm(vectors, axis=1), np.finfo(np.float32).tiny)
            similarity.append(vectors @ query / norms)
            places += [place for place, _ in chunk]
        found = np.concatenate(similarity).round(SIMILARITY_DIGITS)
        for i in np.argsort(-found, kind="stable"):
            yield places[i]._replace(similarity=float(found[i]))

    def windows(self, media_id: str) -> Iterator[StoredWindow]:
        """Windows of a file in order: its items and what became of each."""
        media = self.get(media_id)
        first = -1
        while rows := self.fetch(
            f"SELECT {', '.join(WINDOW_COLUMNS)} FROM windows WHERE media_id = ? AND first > ? "
            f"ORDER BY first LIMIT {_PAGE}",
            media_id,
            first,
        ):
            yield from (window_from(row, media) for row in rows)
            first = rows[-1][0]

    def audits(self, media_id: str) -> list[Audit]:
        """Audits of a file in order."""
        rows = self.fetch(
            f"SELECT {', '.join(AUDIT_COLUMNS)} FROM audits WHERE media_id = ? ORDER BY ordinal",
            media_id,
        )
        return [Audit(*row) for row in rows]

    def errors(self, media_id: str) -> list[ItemError]:
        """Chosen items of a file that could not be decoded, in order."""
        media = self.get(media_id)
        rows = self.fetch(
            "SELECT ordinal, ticks, reason FROM errors WHERE media_id = ? ORDER BY ordinal",
            media_id,
        )
        return [ItemError(ordinal, media.pts(ticks), reason) for ordinal, ticks, reason in rows]

    def receipt(self, media_id: str, kind: ReceiptKind = "plan") -> Receipt:
        """What the plan or the audits of a file cost, added up over its windows."""
        rows = self.fetch(
            "SELECT receipt FROM receipts WHERE media_id = ? AND kind = ?", media_id, kind
        )
        return sum((Receipt(**json.loads(text)) for (text,) in rows), Receipt())

    def run_configs(self) -> list[dict[str, Any]]:
        """Configurations of the calls that wrote to the index, newest first."""
        return [
            json.loads(text) for (text,) in self.fetch("SELECT config FROM runs ORDER BY id DESC")
        ]

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Table → sorted rows, for telling whether two indexes hold the same.

        Left out is what differs between two runs over the same files: wall-clock dates, row
        numbers, receipts (measured times), runs, ranges and checkpoints, and the cache of phrases.
        """
        outcomes = f"media_id, {', '.join(OUTCOME_COLUMNS)}"
        tables = {
            "media": ", ".join(name for name in MEDIA_COLUMNS if name != "mtime_ns"),
            "windows": f"media_id, {', '.join(WINDOW_COLUMNS)}",
            "outcomes": outcomes,
            "segments": ", ".join(SEGMENT_COLUMNS),
            "audits": "*",
            "errors": "*",
            "words": "label, text, name",
        }
        dump = {}
        for table, columns in tables.items():
            dump[table] = sorted(self.fetch(f"SELECT {columns} FROM {table}"), key=repr)
        return dump


def is_url(path: str) -> bool:
    """Whether a path is a URL, which no root applies to."""
    return "://" in path
