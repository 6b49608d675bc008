"""One file from its bytes to its rows: what every runner of an index job does, wherever it runs.

```
runner: threads ─┐                                     ┌─ SqliteIndex   (this process)
        Ray      ┴─▶ FileWorker.run(path, media) ─▶ Book ─┴─ RemoteBook (the writer of a cluster)
```
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from streamdyn import checkpoint
from streamdyn.budget import Budget
from streamdyn.checkpoint import SessionState, starting_state
from streamdyn.config import RunConfig
from streamdyn.errors import ConfigError, StoreError, StreamdynError
from streamdyn.index import MediaRow
from streamdyn.protocols import (
    WHOLE_FILE,
    Cursor,
    MediaRange,
    Policy,
    Position,
    RangeSource,
    Recognizer,
    SourceInfo,
)
from streamdyn.receipt import Receipt
from streamdyn.run.local import run_cursor
from streamdyn.timeline import Propagation, WindowResult
from streamdyn.trace import TraceWriter

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """The job was told to stop; what was done is stored."""


class Page(Protocol):
    """Where the windows of one file go, see `streamdyn.index.MediaSink`."""

    media: MediaRow

    def write(self, result: WindowResult, checkpoint: bytes | None) -> None:
        """Store a window and the checkpoint that covers it, or neither."""

    def finish(self, propagation: Propagation = "two-sided", tuning: bytes | None = None) -> None:
        """The file is done."""

    def fail(self, error: str) -> None:
        """The file is given up."""

    def close(self) -> None:
        """Nothing more will be written."""


class Book(Protocol):
    """What a worker needs of an index, see `streamdyn.index.SqliteIndex`."""

    def begin(
        self, media: MediaRow, config_hash: str, media_range: MediaRange = WHOLE_FILE
    ) -> Page:
        """The page of a file or of a range of it; rows after its checkpoint are gone."""

    def checkpoint(self, media_id: str, first: int = 0) -> bytes | None:
        """Where to go on with a file, or with the range that begins there."""

    def tuning(self, config_hash: str) -> tuple[int, bytes | None]:
        """How many audits have tuned the policy, and where it stands."""

    def remove(self, media_id: str) -> None:
        """Forget a file."""


@dataclass(frozen=True, slots=True)
class FileTask:
    """What a worker is given: a file, or a range of one."""

    path: str
    """To open."""
    media: MediaRow
    """As the index knows it."""
    media_range: MediaRange = WHOLE_FILE

    @property
    def key(self) -> tuple[str, int]:
        """Tells it from all other tasks of a job."""
        return self.media.id, self.media_range.first


@dataclass(frozen=True, slots=True)
class FileProgress:
    """How far one file is, or one range of it."""

    path: str
    items_done: int
    """Of the range."""
    items_expected: int | None
    """Of the file, from the header, which may lie."""
    receipt: Receipt
    """Of this call, plan and audits."""
    latest: Receipt = field(default_factory=Receipt)
    """Of the window that was just stored."""
    first: int = 0
    """Of the range."""


@dataclass(slots=True)
class FileReport:
    """What came of one file, or of one range of it."""

    path: str
    media_id: str = ""
    receipt: Receipt = field(default_factory=Receipt)
    audit_receipt: Receipt = field(default_factory=Receipt)
    failure: str | None = None
    """Why it was given up."""
    note: str = ""
    """What the source says a user should know about it."""


def ranges_of(config: RunConfig, path: str, media: MediaRow) -> list[MediaRange] | str:
    """Where to cut a file, nowhere if it is short; or why that cannot be found out."""
    source = config.build_source(path, media.path)
    assert isinstance(source, RangeSource)  # The job has seen to it.
    assert config.split_seconds is not None
    try:
        return source.ranges(config.split_seconds)
    except Exception as exc:
        return _reason(exc, path)


def _reason(exc: Exception, path: str) -> str:
    """Of a failure that is about one file: the others go on."""
    if isinstance(exc, StreamdynError):
        return str(exc)
    logger.error("unexpected error while indexing %s", path, exc_info=exc)
    return f"{type(exc).__name__}: {exc}"


class FileWorker:
    """Watches files, one at a time.

    Args:
        book: Where results go.
        config: Parts and options.
        config_hash: Of all that outcomes depend on.
        recognizer: Set up.
        resume: Go on inside files that an earlier call left unfinished.
        trace_folder: Write the decision log of every file there.
        on_progress: Called after every stored window; may raise `Stopped`.
    """

    def __init__(
        self,
        book: Book,
        config: RunConfig,
        config_hash: str,
        recognizer: Recognizer,
        *,
        resume: bool = True,
        trace_folder: Path | None = None,
        on_progress: Callable[[FileProgress], None] = lambda progress: None,
    ) -> None:
        self._book, self._config, self._hash = book, config, config_hash
        self._recognizer, self._resume = recognizer, resume
        self._trace_folder, self._on_progress = trace_folder, on_progress
        self._policy: Policy[Any] = config.build_policy()

    def run(self, task: FileTask, *, in_prefix: bool = False) -> FileReport:
        """Watch one file or range; its own mistakes are noted in the book and end there.

        Args:
            task: What to watch.
            in_prefix: Keep where the policy's knob stands at the end, for the files to come.

        Raises:
            StoreError: The book cannot be written.
            ConfigError: A part does not suit the run.
            Stopped: `on_progress` said so.
        """
        path, media = task.path, task.media
        if not self._resume and task.media_range == WHOLE_FILE:
            self._book.remove(media.id)
        page = self._book.begin(media, self._hash, task.media_range)
        try:
            resume = self._state_to_start_from(task)
            with closing(self._open(task, resume.position)) as cursor:
                page = self._book.begin(media.described(cursor.info), self._hash, task.media_range)
                return self._watch(task, cursor, page, resume, in_prefix)
        except (StoreError, ConfigError, Stopped):
            raise
        except Exception as exc:
            reason = _reason(exc, path)
            page.fail(reason)
            return FileReport(path, media.id, failure=reason)

    def _open(self, task: FileTask, position: Position) -> Cursor:
        source = self._config.build_source(task.path, task.media.path)
        if task.media_range == WHOLE_FILE:
            return source.open(position)
        assert isinstance(source, RangeSource)  # It made the ranges.
        return source.open_range(task.media_range, position)

    def _watch(
        self, task: FileTask, cursor: Cursor, page: Page, resume: SessionState, in_prefix: bool
    ) -> FileReport:
        with self._trace(page.media, cursor.info) as trace:
            summary = run_cursor(
                cursor,
                self._policy,
                self._recognizer,
                sink=page,
                audit=self._config.build_audit(),
                propagation=self._config.propagation,
                trace=trace,
                resume=resume,
                on_window=_Progress(task, cursor.info, self._on_progress),
            )
        tuning = None
        if in_prefix:
            carried = self._policy.carry_over(summary.policy_state)  # type: ignore[attr-defined]
            tuning = checkpoint.dump(starting_state(self._policy, carried, Budget()))
        page.finish(self._config.propagation, tuning)
        return FileReport(
            task.path, task.media.id, summary.receipt, summary.audit_receipt, note=page.media.note
        )

    def _state_to_start_from(self, task: FileTask) -> SessionState:
        stored = self._book.checkpoint(*task.key) if self._resume else None
        if stored is not None:
            return checkpoint.load(stored, self._policy)
        policy_state = self._policy.initial_state()
        _, tuning = self._book.tuning(self._hash)
        if tuning is not None:
            policy_state = checkpoint.load(tuning, self._policy).policy_state
        state = starting_state(self._policy, policy_state, self._config.build_budget())
        state.position = task.media_range.position
        return state

    def _trace(
        self, media: MediaRow, info: SourceInfo
    ) -> AbstractContextManager[TraceWriter | None]:
        if self._trace_folder is None:
            return nullcontext()
        name = re.sub(r"[^\w.-]+", "_", media.path)
        return TraceWriter(
            self._trace_folder / f"{name}.{media.id[:6]}.jsonl",
            stream=info.stream,
            size=[info.width, info.height],
            policy=f"{self._policy.name}/{self._policy.version}",
            recognizer=self._config.recognizer.name,
            options=self._config.recognizer.options,
        )


class _Progress:
    """Adds up the windows of one file or range."""

    def __init__(
        self, task: FileTask, info: SourceInfo, report: Callable[[FileProgress], None]
    ) -> None:
        self._task, self._expected, self._report = task, info.num_items_from_header, report
        self._receipt = Receipt()

    def __call__(self, result: WindowResult) -> None:
        latest = result.receipt + result.audit_receipt
        self._receipt += latest
        first = self._task.media_range.first
        items_done = result.window.stop - first
        self._report(
            FileProgress(self._task.path, items_done, self._expected, self._receipt, latest, first)
        )
