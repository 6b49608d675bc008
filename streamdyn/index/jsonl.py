"""The simplest sink: one JSON object a line, for one stream; readable with any tool."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streamdyn.errors import StoreError
from streamdyn.outcome import Outcome
from streamdyn.registry import sink
from streamdyn.timeline import WindowResult


@sink("jsonl")
class JsonlSink:
    """Appends outcomes, errors and audits to a file, each once; embeddings are left out.

    Each line has an id; on opening the ids that are there are read and a line that a crash cut
    short is taken off. The checkpoint goes to a file beside it, replaced in one step after the
    lines were written: a crash in between leaves lines that the next run finds by their ids.

    Args:
        path: The file, made when missing; its folder must exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._known: set[str] = set()
        self._checkpoint_path = Path(f"{self.path}.checkpoint")
        try:
            self._file = self.path.open("ab+", buffering=0)
        except OSError as exc:
            raise StoreError(
                f"cannot open {self.path}: {exc.strerror or exc}; name a file that may be "
                "written, in a folder that exists"
            ) from exc
        self._recover()

    def _recover(self) -> None:
        end = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                self._known.add(self._id_of(line, number))
                end += len(line)
        self._file.truncate(end)

    def _id_of(self, line: bytes, number: int) -> str:
        try:
            return str(json.loads(line)["id"])
        except (ValueError, KeyError, TypeError) as exc:
            self._file.close()
            raise StoreError(
                f"cannot append to {self.path}: line {number} is not one that streamdyn wrote; "
                "name another file"
            ) from exc

    def checkpoint(self) -> bytes | None:
        """Where to go on, if a run was cut short."""
        return self._checkpoint_path.read_bytes() if self._checkpoint_path.exists() else None

    def write(self, result: WindowResult, checkpoint: bytes | None) -> None:
        """Append what is not there yet, then replace the checkpoint.

        Raises:
            StoreError: The disk is full; the file is as it was before this window.
        """
        new = {r["id"]: r for r in _records(result) if r["id"] not in self._known}
        lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in new.values())
        size = os.fstat(self._file.fileno()).st_size
        try:
            self._append(lines.encode())
            if checkpoint is not None:
                self._replace_checkpoint(checkpoint)
        except OSError as exc:
            self._file.truncate(size)
            raise StoreError(
                f"cannot write items {result.window.first}..{result.window.stop} to {self.path}: "
                f"{exc.strerror or exc}; everything before is kept; free some space and run the "
                "same command again"
            ) from exc
        self._known.update(new)

    def _append(self, lines: bytes) -> None:
        rest = memoryview(lines)
        while rest:
            rest = rest[self._file.write(rest) :]

    def _replace_checkpoint(self, checkpoint: bytes) -> None:
        part = Path(f"{self._checkpoint_path}.part")
        part.write_bytes(checkpoint)
        part.replace(self._checkpoint_path)

    def finish(self) -> None:
        """The stream has ended: there is nothing to go on with."""
        self._checkpoint_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file; may be called twice."""
        self._file.close()


def _records(result: WindowResult) -> Iterator[dict[str, Any]]:
    stream = result.window.stream
    base = result.window.time_base
    for outcome in result.outcomes:
        yield outcome_record(outcome)
    for error in result.errors:
        yield {
            "id": f"{stream}#{error.ordinal}:error",
            "kind": "error",
            "stream": stream,
            "ordinal": error.ordinal,
            "ticks": error.pts.ticks,
            "seconds": error.pts.seconds,
            "reason": error.reason,
        }
    for audit in result.audits:
        yield {
            "id": f"{stream}#{audit.ordinal}:audit",
            "kind": "audit",
            "stream": stream,
            "ordinal": audit.ordinal,
            "ticks": audit.ticks,
            "seconds": float(audit.ticks * base),
            "agreement": audit.agreement,
            "weight": audit.weight,
            "propagated_from": audit.propagated_from,
            "expected": audit.expected,
            "found": audit.found,
        }


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain JSON values, without its embedding."""
    base = outcome.pts.time_base
    return {
        "id": outcome.id,
        "kind": "outcome",
        "stream": outcome.stream,
        "ordinal": outcome.ordinal,
        "ticks": outcome.pts.ticks,
        "time_base": f"{base.numerator}/{base.denominator}",
        "seconds": outcome.pts.seconds,
        "recognizer": outcome.recognizer,
        "labels": [
            [label, float(score)]
            for label, score in zip(outcome.labels, outcome.scores, strict=True)
        ],
        "text": outcome.text,
        "boxes": [
            [box.label, *map(float, (box.score, box.left, box.top, box.right, box.bottom))]
            for box in outcome.boxes
        ],
    }
