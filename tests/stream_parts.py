"""Recognizers for tests of stream jobs; also found by other processes, through `numbers_part`."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

from streamdyn.items import Selection
from streamdyn.outcome import Outcome
from streamdyn.registry import recognizer
from tests.cameras import Numbers

PART = Path(__file__).with_name("numbers_part")
"""For `PYTHONPATH`."""
FAULTS = Path(os.environ.get("STREAMDYN_TEST_FAULTS", "/nonexistent"))
"""Folder: while `recognizer` is there, it fails; `clock` see `numbers_part`."""


@recognizer("numbers")
class SlowNumbers(Numbers):
    """Reads the numbers of pictures.

    Args:
        milliseconds: It takes for each.
    """

    def __init__(self, milliseconds: float = 0.0) -> None:
        self._seconds = milliseconds / 1000

    def recognize(self, selection: Selection, hidden: None) -> tuple[list[Outcome], None]:
        """The number as the label."""
        if (FAULTS / "recognizer").exists():
            raise RuntimeError("the recognizer was killed")
        time.sleep(self._seconds * len(selection))
        return super().recognize(selection, hidden)


@recognizer("breaking")
class Breaking(Numbers):
    """Reads the numbers of pictures, and fails at some calls.

    Args:
        at: Numbers of those calls.
    """

    def __init__(self, at: Collection[int]) -> None:
        self._at, self._num_calls = at, 0

    def recognize(self, selection: Selection, hidden: None) -> tuple[list[Outcome], None]:
        """The number as the label, or nothing."""
        self._num_calls += 1
        if self._num_calls in self._at:
            raise RuntimeError(f"broken at call {self._num_calls}")
        return super().recognize(selection, hidden)
