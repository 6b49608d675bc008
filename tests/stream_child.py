"""`streamdyn` with the recognizer `numbers`, to be killed: python -m tests.stream_child."""

from __future__ import annotations

import time

from streamdyn.cli import main
from streamdyn.items import Selection
from streamdyn.outcome import Outcome
from streamdyn.registry import recognizer
from tests.cameras import Numbers


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
        time.sleep(self._seconds * len(selection))
        return super().recognize(selection, hidden)


if __name__ == "__main__":
    main()
