"""Before anything else in a process: its clock can be set wrong, by a file."""

import os
import time
from pathlib import Path

CLOCK = Path(os.environ.get("STREAMDYN_TEST_FAULTS", "/nonexistent")) / "clock"
"""Holds seconds to add."""
_true_time = time.time


def _time() -> float:
    try:
        return _true_time() + float(CLOCK.read_text() or 0)
    except (OSError, ValueError):
        return _true_time()


time.time = _time
