"""What finishing a file writes: its segments, and the words that a search looks through."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from streamdyn.index.records import SEGMENT_COLUMNS, MediaRow, Segment
from streamdyn.index.segments import Observed, last_item_stop, make_segments
from streamdyn.timeline import Propagation


def forget_segments(connection: sqlite3.Connection, media_id: str) -> None:
    """Delete the segments of a file and every row of words that is about it."""
    connection.execute(
        "DELETE FROM words WHERE rowid IN (SELECT id FROM segments WHERE media_id = ?)",
        (media_id,),
    )
    connection.execute(
        "DELETE FROM words WHERE rowid IN (SELECT -number FROM media WHERE id = ?)", (media_id,)
    )
    connection.execute("DELETE FROM segments WHERE media_id = ?", (media_id,))


def store_segments(
    connection: sqlite3.Connection, media: MediaRow, propagation: Propagation
) -> MediaRow:
    """Write the segments and words of a file whose windows are all there.

    Returns:
        The file, done, with what is known now of its length.
    """
    done = replace(media, status="done", error="", propagation=propagation)
    pts, ordinals = _timeline(connection, media.id)
    if media.time_base is None or not len(pts):
        return replace(done, num_items=0)
    stop_ticks = last_item_stop(pts, media.time_base, media.rate)
    for recognizer, observed in _observed(connection, media.id).items():
        for segment in make_segments(
            media.id, recognizer, pts, ordinals, observed, stop_ticks, propagation
        ):
            _insert(connection, segment)
    connection.execute(
        "INSERT INTO words (rowid, label, text, name) SELECT -number, '', '', path FROM media "
        "WHERE id = ?",
        (media.id,),
    )
    start_ticks = int(pts[0])
    seconds = float((stop_ticks - start_ticks) * media.time_base)
    return replace(
        done,
        num_items=len(pts),
        start_ticks=start_ticks,
        stop_ticks=stop_ticks,
        duration_seconds=media.duration_seconds or seconds,
        note="; ".join(filter(None, (media.note, _shortfall(media.duration_seconds, seconds)))),
    )


def _shortfall(promised: float | None, seconds: float) -> str:
    """What to say of a file that ended before its header says, or nothing."""
    if promised is None or promised - seconds <= max(2.0, 0.02 * promised):
        return ""
    return (
        f"it ended after {seconds:.1f} s, and its header says {promised:.1f} s: it may be cut off"
    )


def _timeline(
    connection: sqlite3.Connection, media_id: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ticks and ordinals of all items that passed by, each `(N,)` int64."""
    pts, ordinals = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for first, blob in connection.execute(
        "SELECT first, pts FROM windows WHERE media_id = ? ORDER BY first", (media_id,)
    ):
        pts.append(np.frombuffer(blob, "<i8"))
        ordinals.append(first + np.arange(len(pts[-1])))
    return np.concatenate(pts), np.concatenate(ordinals)


def _observed(connection: sqlite3.Connection, media_id: str) -> dict[str, list[Observed]]:
    """Recognizer → its outcomes in order."""
    outcomes = defaultdict(list)
    for recognizer, *values in connection.execute(
        "SELECT recognizer, id, ordinal, label, score, text FROM outcomes WHERE media_id = ? "
        "ORDER BY recognizer, ordinal",
        (media_id,),
    ):
        outcomes[recognizer].append(Observed(*values))
    return outcomes


def _insert(connection: sqlite3.Connection, segment: Segment) -> None:
    values = [getattr(segment, name) for name in SEGMENT_COLUMNS]
    places = ", ".join("?" * len(values))
    cursor = connection.execute(
        f"INSERT INTO segments ({', '.join(SEGMENT_COLUMNS)}) VALUES ({places})", values
    )
    if segment.label:
        label = "" if segment.label == segment.text else segment.label
        connection.execute(
            "INSERT INTO words (rowid, label, text, name) VALUES (?, ?, ?, '')",
            (cursor.lastrowid, label, segment.text),
        )
