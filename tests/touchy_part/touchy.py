"""A recognizer of a package of its own, which kills the process that it runs in."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from streamdyn.items import Selection
from streamdyn.outcome import Outcome
from streamdyn.recognizers.brightness import Brightness
from streamdyn.registry import recognizer


@recognizer("touchy")
class Touchy(Brightness):
    """Brightness, slowly.

    Args:
        poison: Kill the process at every look at a file with this name.
        fuse: Kill it once, if this file is there; it is removed first.
        seconds: Taken by every look.
    """

    def __init__(self, *, poison: str = "", fuse: str = "", seconds: float = 0.0) -> None:
        self._poison, self._fuse, self._seconds = poison, fuse, seconds

    def recognize(self, selection: Selection, hidden: None) -> tuple[list[Outcome], None]:
        """Brightness, if the process lives."""
        time.sleep(self._seconds)
        if self._poison and any(item.stream.endswith(self._poison) for item in selection.items):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fuse and any(item.ordinal > 60 for item in selection.items):
            fuse = Path(self._fuse)
            if fuse.exists():
                fuse.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().recognize(selection, hidden)
