"""The decision log: every plan, what it was based on, and what came of it, one JSON object a line.

| type | what it holds |
|---|---|
| `stream` | the stream, its policy and recognizer with versions |
| `window` | what was shown: pts, keyframes, sizes, reach of every item |
| `preview` | a costlier preview that was paid for, as base64 of float16 |
| `plan` | what was decided: the chosen items with action, score and nominal cost |
| `outcome` | what the recognizer said about an item, audits included |
| `receipt` | what the window really cost |
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from streamdyn.clock import Pts
from streamdyn.errors import SourceError
from streamdyn.items import BLOCK_ARRAYS, Array, Block
from streamdyn.observation import Grade
from streamdyn.outcome import Box, Outcome
from streamdyn.plan import Action, Plan
from streamdyn.receipt import Receipt

FORMAT = 1
_BOX = ("score", "left", "top", "right", "bottom")


class Trace(Protocol):
    """Who is told of every decision of a session."""

    def window(self, window: Block) -> None:
        """Items came into view."""

    def preview(self, grade: Grade, ordinals: Sequence[int], rows: Array) -> None:
        """Previews were paid for."""

    def plan(self, window: Block, plan: Plan, round_number: int, cost_ms: Array) -> None:
        """The policy answered; `cost_ms` is the nominal cost of reaching each item."""

    def outcomes(self, outcomes: Sequence[Outcome], purpose: str) -> None:
        """The recognizer answered; purpose `plan` or `audit`."""

    def receipt(self, first: int, stop: int, receipt: Receipt) -> None:
        """Items `first` to `stop` were closed."""


class TraceWriter:
    """Writes a trace as JSONL; usable in a `with` statement."""

    def __init__(self, path: str | Path, **header: Any) -> None:
        self._file: TextIO = Path(path).open("w", encoding="utf-8")  # noqa: SIM115
        self._write({"type": "stream", "format": FORMAT, **header})

    def window(self, window: Block) -> None:
        """Items came into view."""
        arrays = {name: getattr(window, name).astype(int).tolist() for name in BLOCK_ARRAYS}
        base = f"{window.time_base.numerator}/{window.time_base.denominator}"
        self._write({"type": "window", "first": window.first, "time_base": base, **arrays})

    def preview(self, grade: Grade, ordinals: Sequence[int], rows: Array) -> None:
        """Previews were paid for."""
        shape, data = list(rows.shape[1:]), _to_base64(rows)
        items = list(map(int, ordinals))
        self._write(
            {"type": "preview", "grade": grade, "items": items, "shape": shape, "data": data}
        )

    def plan(self, window: Block, plan: Plan, round_number: int, cost_ms: Array) -> None:
        """The policy answered."""
        chosen = np.flatnonzero(plan.actions >= Action.GLANCE)
        entries = [
            {
                "item": window.first + int(i),
                "action": Action(plan.actions[i]).name.lower(),
                "score": None if plan.scores is None else _finite(plan.scores[i]),
                "cost_ms": round(float(cost_ms[i]), 3),
            }
            for i in chosen
        ]
        self._write(
            {
                "type": "plan",
                "first": window.first,
                "round": round_number,
                "chosen": entries,
                "num_skipped": int((plan.actions == Action.SKIP).sum()),
                "num_open": int((plan.actions == Action.OPEN).sum()),
                "done": None if plan.done is None else int(plan.done),
                "hop": int(plan.hop),
                "stop": bool(plan.stop),
            }
        )

    def outcomes(self, outcomes: Sequence[Outcome], purpose: str) -> None:
        """The recognizer answered."""
        for outcome in outcomes:
            self._write({"type": "outcome", "purpose": purpose, **outcome_to_json(outcome)})

    def receipt(self, first: int, stop: int, receipt: Receipt) -> None:
        """Items were closed."""
        spent = {k: round(v, 3) for k, v in receipt.as_dict().items() if v}
        self._write({"type": "receipt", "first": first, "stop": stop, **spent})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, separators=(",", ":")) + "\n")


def read_trace(path: str | Path) -> Iterator[dict[str, Any]]:
    """The records of a trace.

    Raises:
        SourceError: Missing, not a trace, of a newer format, or damaged (names the line).
    """
    file = Path(path)
    if not file.is_file():
        raise SourceError(f"cannot read the trace {path}: no such file; check the path")
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                kind = record["type"]
            except (ValueError, KeyError, TypeError) as exc:
                raise SourceError(
                    f"cannot read line {number} of the trace {path}: it is no trace record; "
                    "make a trace with: streamdyn index PATH --into FILE --trace DIR"
                ) from exc
            if number == 1 and (kind != "stream" or record.get("format", 0) > FORMAT):
                raise SourceError(
                    f"cannot read the trace {path}: it begins with a {kind!r} record of format "
                    f"{record.get('format')}, not a 'stream' record of format {FORMAT}"
                )
            yield record


def block_from_json(record: dict[str, Any], stream: str) -> Block:
    """The window of a `window` record."""
    kinds: dict[str, type] = {"pts": np.int64, "keyframe": np.bool_, "disposable": np.bool_}
    arrays: dict[str, Array] = {
        name: np.array(record[name], kinds.get(name, np.int32)) for name in BLOCK_ARRAYS
    }
    return Block(stream, record["first"], Fraction(record["time_base"]), **arrays)


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON values; the embedding as base64 of little-endian float16."""
    record: dict[str, Any] = {
        "stream": outcome.stream,
        "item": outcome.ordinal,
        "pts": outcome.pts.ticks,
        "time_base": f"{outcome.pts.time_base.numerator}/{outcome.pts.time_base.denominator}",
        "recognizer": outcome.recognizer,
        "labels": outcome.labels,
        "scores": [float(score) for score in outcome.scores],
    }
    if outcome.text:
        record["text"] = outcome.text
    if outcome.boxes:
        record["boxes"] = [[b.label, *(float(getattr(b, n)) for n in _BOX)] for b in outcome.boxes]
    if outcome.embedding is not None:
        record["embedding"] = _to_base64(outcome.embedding)
    return record


def outcome_from_json(record: dict[str, Any]) -> Outcome:
    """The outcome of an `outcome` record."""
    data = record.get("embedding")
    return Outcome(
        record["stream"],
        record["item"],
        Pts(record["pts"], Fraction(record["time_base"])),
        record["recognizer"],
        tuple(record["labels"]),
        tuple(record["scores"]),
        _from_base64(data) if data else None,
        record.get("text", ""),
        tuple(Box(*box) for box in record.get("boxes", ())),
    )


def preview_rows(record: dict[str, Any]) -> Array:
    """`(n, ...)` float32 of a `preview` record."""
    rows = _from_base64(record["data"]).astype(np.float32)
    return rows.reshape(len(record["items"]), *record["shape"])


def _to_base64(array: Array) -> str:
    return base64.b64encode(array.astype("<f2").tobytes()).decode()


def _from_base64(data: str) -> Array:
    return np.frombuffer(base64.b64decode(data), "<f2")


def _finite(value: Any) -> float | None:
    return round(float(value), 5) if np.isfinite(value) else None
