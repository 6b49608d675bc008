"""Rows of a bench in a file, one JSON object a line: a run that was cut short goes on from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamdyn.errors import StoreError

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RowFile:
    """`rows.jsonl`; a last line that was cut short does not count."""

    path: Path

    def read(self) -> list[Row]:
        """All whole rows.

        Raises:
            StoreError: A line before the last is no row.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_text("utf-8").split("\n")
        rows = []
        for number, line in enumerate(lines[:-1], 1):
            try:
                rows.append(json.loads(line))
            except ValueError as exc:
                raise StoreError(
                    f"line {number} of {self.path} is no row of a bench: {exc}; remove the line to "
                    "measure its row again"
                ) from exc
        return rows

    def add(self, row: Row) -> None:
        """Append a row, after removing what was cut short."""
        with self.path.open("ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write((json.dumps(row) + "\n").encode())

    def replace(self, old: Row, new: Row) -> None:
        """Put a row that was measured again where the old one is."""
        rows = [new if row == old else row for row in self.read()]
        part = self.path.with_suffix(".part")
        part.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        part.replace(self.path)
