"""`streamdyn` with the recognizer `numbers`, to be killed: python -m tests.stream_child."""

from __future__ import annotations

import os
import time
from pathlib import Path

FAULTS = Path(os.environ.get("STREAMDYN_TEST_FAULTS", "/nonexistent"))
"""Folder: `clock` holds seconds to add to the clock; while `recognizer` is there, it fails."""
_true_time = time.time


def _time() -> float:
    try:
        return _true_time() + float((FAULTS / "clock").read_text() or 0)
    except (OSError, ValueError):
        return _true_time()


time.time = _time  # Before anything else keeps it.

from streamdyn.cli import main  # noqa: E402
from streamdyn.items import Selection  # noqa: E402
from streamdyn.outcome import Outcome  # noqa: E402
from streamdyn.registry import recognizer  # noqa: E402
from tests.cameras import Numbers  # noqa: E402


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


if __name__ == "__main__":
    main()
