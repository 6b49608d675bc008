"""From a live source's own times to one timeline that never goes back.

```
camera      0 s .... 61 s | gone |  0 s ...        its times begin again at every connection
timeline    T ..... T+61  |      |  T+95 ...       anchored to the clock when a section begins
HLS, file   0 s .... 61 s | gone | 55 s ...        the same pictures come again at the same times
timeline    T ..... T+61  |      | T+55 ...        the anchor is kept: what was seen is recognized
```
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from streamdyn.sources.live.packets import TICKS_PER_SECOND

WRAP = 1 << 33
"""MPEG-TS counts 33 bits (ISO/IEC 13818-1, 2.4.3.7): 26.5 hours."""
JUMP_SECONDS = 10.0
"""A step of the source's times that differs by more from the time that has passed is no step."""
REPEAT_SECONDS = 6 * 3600.0
"""HLS may give again what is so old: the longest playlist."""


@dataclass(slots=True)
class Timekeeper:
    """Anchors the times of a stream, section by section.

    Args:
        from_zero: The timeline is the media's own and not the clock's: a file.
        is_repeatable: After a reconnect the source gives the same times again: a file, HLS.
        wall_clock: Seconds since the epoch.
        monotonic: Seconds; not moved when the clock is set.
    """

    from_zero: bool
    is_repeatable: bool
    wall_clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    anchor: int | None = None
    last: int | None = None
    """Greatest tick that was given."""
    _at: tuple[int, float] | None = None  # Source's dts, and when it came.

    def begin(
        self,
        source_ticks: int,
        *,
        shown_at: float | None = None,
        loops: bool = False,
        jumped: bool = False,
        is_exact: bool = False,
    ) -> int:
        """The anchor of a section that begins with a picture of this time.

        Args:
            source_ticks: The source's pts, in our ticks.
            shown_at: By the clock; now if nothing else is known.
            loops: What begins again, or goes on with other times: it follows what was last.
            jumped: See `is_jump`: the anchor of before is of no use.
            is_exact: `shown_at` is to be kept to, though what was seen may come again.
        """
        self._at = None
        if loops and self.last is not None:
            self.anchor = self.last + TICKS_PER_SECOND // 25 - source_ticks
        elif self.from_zero:
            self.anchor = self.anchor or 0
        elif jumped or not (self.is_repeatable and self._goes_on(source_ticks)):
            clock = self.wall_clock() if shown_at is None else shown_at
            self.anchor = round(clock * TICKS_PER_SECOND) - source_ticks
            if self.last is not None and not is_exact:
                self.anchor = max(self.anchor, self.last + 1 - source_ticks)
        assert self.anchor is not None
        return self.anchor

    def _goes_on(self, source_ticks: int) -> bool:
        if self.anchor is None or self.last is None:
            return False
        distance = source_ticks + self.anchor - self.last
        num_wraps = round(distance / WRAP)
        if abs(distance - num_wraps * WRAP) >= REPEAT_SECONDS * TICKS_PER_SECOND:
            return False
        self.anchor -= num_wraps * WRAP
        return True

    def is_jump(self, source_dts: int) -> bool:
        """Whether the source's times have been set anew before this packet; begin a section then.

        A wrap of 33 bits is no jump: the anchor takes it up.
        """
        now = self.monotonic()
        before, self._at = self._at, (source_dts, now)
        if before is None or self.from_zero:
            return False
        step = source_dts - before[0]
        expected = (now - before[1]) * TICKS_PER_SECOND
        if _is_near(step + WRAP, expected):
            assert self.anchor is not None
            self.anchor += WRAP
            return False
        # A picture that was held up on the way comes late: a step may be smaller than the wait.
        return step < -JUMP_SECONDS * TICKS_PER_SECOND or (
            step > expected and not _is_near(step, expected)
        )

    def ticks(self, source_ticks: int) -> int:
        """On the timeline."""
        assert self.anchor is not None
        ticks = source_ticks + self.anchor
        self.last = ticks if self.last is None else max(self.last, ticks)
        return ticks


def _is_near(step: float, expected: float) -> bool:
    return abs(step - expected) <= JUMP_SECONDS * TICKS_PER_SECOND
