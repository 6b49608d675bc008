"""Progress of an index job on stderr: a bar on a terminal, else a line every ten seconds.

For programs it is a JSON object a line, every second and at the end.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from streamdyn.cli.output import percent, remark
from streamdyn.clock import format_seconds

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_OBJECTS = 1.0


class ProgressReport:
    """Adds up what the workers report; use it in a `with` block.

    Args:
        is_quiet: Say nothing.
        as_json: Say it to a program.
        now: Seconds, from any start.
    """

    def __init__(
        self,
        *,
        is_quiet: bool = False,
        as_json: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_quiet, self._as_json, self._now = is_quiet, as_json, now
        self._started = self._last_line = now()
        self._latest: dict[tuple[str, int], Any] = {}
        """Path and first item → what was said last of the file, or of that range of it."""
        self._counts: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self._lock = threading.Lock()
        self._bar: Progress | None = None
        self._stack = ExitStack()

    def watch(self, counts: Callable[[], tuple[int, int]]) -> None:
        """Ask `counts` how many files are finished, and how many there are to do."""
        self._counts = counts

    def update(self, progress: Any) -> None:
        """One more window of a file (`FileProgress`) is stored; called from the workers."""
        with self._lock:
            self._latest[progress.path, progress.first] = progress
            if self._is_quiet:
                return
            if self._bar is not None:
                self._move_bar(self._bar)
            elif self._now() - self._last_line >= self._seconds_between:
                self._last_line = self._now()
                self._say()

    @property
    def _seconds_between(self) -> float:
        return SECONDS_BETWEEN_OBJECTS if self._as_json else SECONDS_BETWEEN_LINES

    def _say(self) -> None:
        remark(json.dumps(self.as_dict()) if self._as_json else self.line())

    def line(self) -> str:
        """Where the job stands, in words."""
        finished, total = self._counts()
        text = f"{finished} of {total} files, {self._rates()}"
        left = self._seconds_left()
        return text if left is None else f"{text}, about {format_seconds(left)[:-4]} left"

    def as_dict(self) -> dict[str, Any]:
        """Where the job stands, as plain data."""
        finished, total = self._counts()
        items, passed, calls = self._sums()
        elapsed = self._now() - self._started
        return {
            "files_finished": finished,
            "files": total,
            "files_in_work": max(0, len({path for path, _ in self._latest}) - finished),
            "items": items,
            "items_this_call": passed,
            "recognized_this_call": calls,
            "elapsed_seconds": round(elapsed, 3),
            "left_seconds": self._seconds_left(),
        }

    def _sums(self) -> tuple[int, int, int]:
        """Items that are done, those of them done in this call, and recognizer calls for these."""
        latest = self._latest.values()
        return (
            sum(p.items_done for p in latest),
            sum(p.receipt.num_items for p in latest),
            sum(p.receipt.num_processed + p.receipt.num_partial for p in latest),
        )

    def _rates(self) -> str:
        items, passed, calls = self._sums()
        elapsed = max(1e-9, self._now() - self._started)
        share = percent(calls / passed) if passed else "nothing"
        return f"{items:,} items, {passed / elapsed:,.0f}/s, {share} recognized"

    def _files_done(self) -> float:
        """Finished files and the parts of those in work."""
        finished, total = self._counts()
        done, expected = Counter[str](), {}
        for (path, _), progress in self._latest.items():
            done[path] += progress.items_done
            expected[path] = progress.items_expected
        shares = sorted(
            min(1.0, count / (expected[path] or 2 * count)) for path, count in done.items()
        )
        in_work = shares[: max(0, len(shares) - finished)]
        return min(total, finished + sum(in_work))

    def _seconds_left(self) -> float | None:
        done, (_, total) = self._files_done(), self._counts()
        elapsed = self._now() - self._started
        return elapsed * (total - done) / done if done > 0 else None

    def _move_bar(self, bar: Progress) -> None:
        finished, total = self._counts()
        bar.update(
            bar.task_ids[0],
            completed=self._files_done(),
            total=total,
            files=f"{finished}/{total} files",
            rates=self._rates(),
        )

    def __enter__(self) -> Self:
        if not self._is_quiet and not self._as_json and sys.stderr.isatty():
            self._bar = self._stack.enter_context(
                Progress(
                    SpinnerColumn(),
                    TextColumn("{task.fields[files]}"),
                    BarColumn(bar_width=10),
                    TextColumn("{task.fields[rates]}"),
                    TimeRemainingColumn(),
                    TextColumn("left"),
                    console=Console(stderr=True),
                    transient=True,
                )
            )
            self._bar.add_task("index", total=None, files="starting", rates="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
        if self._as_json and not self._is_quiet:
            self._say()
