"""Index many videos: an agent chooses the frames, a recognizer looks, a searchable file comes out.

Files run in worker threads (decoding and onnxruntime release the interpreter lock). Where the
policy tunes itself, the first files run one after another until `PREFIX_AUDITS` audits have set its
knob; the others start from there. A killed job goes on where it was: outcomes and checkpoint of a
window are stored together, so that the rows end up the same as those of an unbroken run.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamdyn.config import RunConfig
from streamdyn.errors import ConfigError, SourceError
from streamdyn.index import MediaRow, SqliteIndex
from streamdyn.index.placing import write_explained
from streamdyn.index.sqlite import MediaState
from streamdyn.protocols import MediaRange, Policy, RangeSource, Recognizer
from streamdyn.receipt import Receipt
from streamdyn.run.file_worker import (
    FileProgress,
    FileReport,
    FileTask,
    FileWorker,
    Stopped,
    ranges_of,
)
from streamdyn.sources.remote import find_files, is_remote
from streamdyn.sources.suffixes import VIDEO_SUFFIXES

logger = logging.getLogger(__name__)

PREFIX_AUDITS = 20
"""Audits after which a self-tuning policy's knob is taken as set."""
MAX_TRIES = 3
"""Times that a file may take its process with it, and that a worker of a cluster may not start."""


@dataclass(slots=True)
class IndexReport:
    """What a call did."""

    num_files: int = 0
    num_indexed: int = 0
    num_unchanged: int = 0
    num_left_failed: int = 0
    """Failed in an earlier call and not tried again."""
    failures: dict[str, str] = field(default_factory=dict)
    """Path → why."""
    receipt: Receipt = field(default_factory=Receipt)
    audit_receipt: Receipt = field(default_factory=Receipt)
    wall_seconds: float = 0.0


def find_videos(paths: Sequence[str]) -> list[str]:
    """Files and URLs to index, sorted; folders are searched for video files by suffix.

    Raises:
        SourceError: A path that does not exist, or a folder without a video file.
    """
    found: set[str] = set()
    for text in paths:
        path = Path(text)
        if is_remote(text):
            found.update(find_files(text, VIDEO_SUFFIXES))
        elif "://" in text:
            found.add(text)
        elif path.is_dir():
            inside = {
                str(file)
                for file in path.rglob("*")
                if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file()
            }
            if not inside:
                raise SourceError(
                    f"cannot index {text}: no video file in it or below; files are recognized by "
                    f"suffix ({', '.join(sorted(VIDEO_SUFFIXES))}); name others one by one"
                )
            found |= inside
        elif path.exists():
            found.add(text)
        else:
            raise SourceError(f"cannot index {text}: no such file or folder; check the path")
    return sorted(found)


def planned_states(
    index_path: Path, config: RunConfig, videos: Sequence[str], *, root: Path | None = None
) -> dict[str, MediaState]:
    """What an index has of each video, without writing anything; only `done` needs no work."""
    if not index_path.exists():
        return dict.fromkeys(videos, "new")
    with SqliteIndex(index_path, mode="read", root=root) as index:
        config_hash = outcome_hash(config)
        return {video: index.state(index.describe(video), config_hash) for video in videos}


def outcome_hash(config: RunConfig) -> str:
    """Changes whenever an outcome could: with an option, or with the version of a part."""
    parts = (config.build_policy(), config.build_recognizer())
    versions = "".join(f" {part.name}/{part.version}" for part in parts)
    return hashlib.sha256(f"{config.hash}{versions}".encode()).hexdigest()[:16]


def _check_split(config: RunConfig, trace_folder: Path | None) -> None:
    if not isinstance(config.build_source("", ""), RangeSource):
        raise ConfigError(
            f"source {config.source.name} cannot be split; leave out --split, or use video_av"
        )
    if trace_folder is not None:
        raise ConfigError("a decision log is of a whole file; leave out --split or --trace")
    if config.budget.items is not None:
        raise ConfigError(
            "a budget of items is for a whole file; leave out --split, or give a share instead "
            "(--budget-share)"
        )


class IndexJob:
    """One call of `streamdyn index`.

    Args:
        index: Where the results go.
        config: Parts and options.
        jobs: Worker threads; by default one a core.
        retry_failed: Try files again that failed in an earlier call.
        resume: Go on inside files that an earlier call left unfinished.
        trace_folder: Write the decision log of every file there; an unfinished file then starts
            afresh, so that its trace is whole.
        on_progress: Called from the workers after every stored window.
    """

    def __init__(
        self,
        index: SqliteIndex,
        config: RunConfig,
        *,
        jobs: int | None = None,
        retry_failed: bool = False,
        resume: bool = True,
        trace_folder: Path | None = None,
        on_progress: Callable[[FileProgress], None] | None = None,
    ) -> None:
        if jobs is not None and jobs < 1:
            raise ConfigError(f"jobs must be at least 1, got {jobs}")
        if config.split_seconds is not None:
            _check_split(config, trace_folder)
        self._index, self._config = index, config
        self._jobs = jobs or _num_cores()
        self._retry_failed, self._resume = retry_failed, resume and trace_folder is None
        self._trace_folder, self._on_progress = trace_folder, on_progress
        self._policy: Policy[Any] = config.build_policy()
        self._hash = outcome_hash(config)
        self._local = threading.local()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._ranges_left: Counter[str] = Counter()
        """Media id → ranges that are not done."""
        self.report = IndexReport()

    def run(self, videos: Sequence[str]) -> IndexReport:
        """Index the files that need it.

        Raises:
            StoreError: The index cannot be written; what was stored is kept.
            ConfigError: A part cannot be built or does not suit the run.
            Stopped: `stop` was called; what was stored is kept.
        """
        started = time.perf_counter()
        self._recognizer()  # A missing model is a mistake in the call, not of every file.
        if self._trace_folder is not None:
            with write_explained(self._trace_folder):
                self._trace_folder.mkdir(parents=True, exist_ok=True)
        self.report.num_files = len(videos)
        todo = list(self._tasks(list(self._todo(videos))))
        try:
            if hasattr(self._policy, "carry_over"):
                todo = self._run_prefix(todo)
            self._run_parallel(todo)
        finally:
            self.report.wall_seconds = time.perf_counter() - started
        return self.report

    def stop(self) -> None:
        """Stop after the windows in work; what was stored is kept."""
        self._stop.set()

    def _todo(self, videos: Sequence[str]) -> Iterator[tuple[str, MediaRow]]:
        seen = set()
        for path in videos:
            try:
                media = self._index.describe(path)
            except SourceError as exc:
                self.report.failures[path] = str(exc)
                continue
            if media.id in seen:
                continue  # Named twice, as x.mp4 and ./x.mp4.
            seen.add(media.id)
            state = self._index.state(media, self._hash)
            if state == "done":
                self.report.num_unchanged += 1
            elif state == "failed" and not self._retry_failed:
                self.report.num_left_failed += 1
            else:
                self._index.register(media, self._hash)
                yield path, media

    def _tasks(self, files: Sequence[tuple[str, MediaRow]]) -> Iterator[FileTask]:
        """Each file as one task, or cut into those ranges that are not done."""
        if self._config.split_seconds is None:
            yield from (FileTask(path, media) for path, media in files)
            return
        if not self._resume:
            for _, media in files:
                self._index.remove(media.id)
                self._index.register(media, self._hash)
        self._cut([(path, media) for path, media in files if not self._index.ranges(media.id)])
        for path, media in files:
            ranges = self._index.ranges(media.id)
            left = [one for one, is_done in ranges if not is_done]
            if left:
                self._ranges_left[media.id] = len(left)
                yield from (FileTask(path, media, one) for one in left)
            elif ranges:  # The job was killed between the last range and this.
                self._end_split(media.id, None)
                self.report.num_indexed += 1
            elif path not in self.report.failures:
                yield FileTask(path, media)

    def _cut(self, files: Sequence[tuple[str, MediaRow]]) -> None:
        """Into ranges, those that are long; one that cannot be read has failed."""
        for (path, media), found in zip(files, self._find_ranges(files), strict=True):
            if isinstance(found, str):
                self._index.fail(media.id, found)
                self.report.failures[path] = found
            elif found:
                self._index.split(media.id, found)
            if self._stop.is_set():
                raise Stopped

    def _find_ranges(
        self, files: Sequence[tuple[str, MediaRow]]
    ) -> Iterator[list[MediaRange] | str]:
        """Of each file, in order; see `ranges_of`."""
        pool = ThreadPoolExecutor(self._jobs, thread_name_prefix="streamdyn")
        try:
            yield from pool.map(lambda file: ranges_of(self._config, *file), files)
        finally:
            pool.shutdown(cancel_futures=True)

    def _run_prefix(self, todo: list[FileTask]) -> list[FileTask]:
        """One after another, until the knob is set; answers what is left."""
        while todo and self._index.tuning(self._hash)[0] < PREFIX_AUDITS:
            self._run_one(todo.pop(0))
        return todo

    def _run_one(self, task: FileTask) -> None:
        """One of the prefix."""
        self._run_file(task, in_prefix=True)

    def _run_parallel(self, todo: list[FileTask]) -> None:
        with ThreadPoolExecutor(self._jobs, thread_name_prefix="streamdyn") as pool:
            futures = [pool.submit(self._run_file, task) for task in todo]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                # Also on Ctrl-C: the workers leave after the window in work.
                if any(not f.done() or (not f.cancelled() and f.exception()) for f in futures):
                    self._stop.set()
                    pool.shutdown(cancel_futures=True)
        errors = [exc for f in futures if not f.cancelled() and (exc := f.exception())]
        # The others were stopped because of the one that failed.
        for error in sorted(errors, key=lambda exc: isinstance(exc, Stopped)):
            raise error

    def _run_file(self, task: FileTask, *, in_prefix: bool = False) -> None:
        if self._stop.is_set():
            raise Stopped
        worker = FileWorker(
            self._index,
            self._config,
            self._hash,
            self._recognizer(),
            resume=self._resume,
            trace_folder=self._trace_folder,
            on_progress=self._on_window,
        )
        self._note(worker.run(task, in_prefix=in_prefix))

    def _note(self, found: FileReport) -> None:
        """A task has ended."""
        with self._lock:
            if found.failure is not None:
                self.report.failures[found.path] = found.failure
            self.report.receipt += found.receipt
            self.report.audit_receipt += found.audit_receipt
            note, is_split = found.note, found.media_id in self._ranges_left
            if is_split:
                self._ranges_left[found.media_id] -= 1
                if self._ranges_left[found.media_id]:
                    return
                note = self._end_split(found.media_id, self.report.failures.get(found.path))
            self.report.num_indexed += found.path not in self.report.failures
        if note:
            logger.warning("%s: %s", found.path, note)

    def _end_split(self, media_id: str, failure: str | None) -> str:
        """All ranges of a file have ended; answers what a user should know about it."""
        if failure is None:
            self._index.finish(media_id, self._config.propagation)
        else:
            # Those that went on after the one that failed have forgotten it.
            self._index.fail(media_id, failure)
        return self._index.get(media_id).note

    def _recognizer(self) -> Recognizer:
        """This thread's own, set up once."""
        held: Recognizer | None = getattr(self._local, "recognizer", None)
        if held is None:
            held = self._config.build_recognizer()
            held.setup(self._config.device)
            self._local.recognizer = held
        return held

    def _on_window(self, progress: FileProgress) -> None:
        if self._on_progress is not None:
            self._on_progress(progress)
        if self._stop.is_set():
            raise Stopped


class FarIndexJob(IndexJob):
    """One whose files are watched in other processes, which may die; see its subclasses."""

    def _run_all(self, todo: Sequence[FileTask], *, in_prefix: bool) -> None:
        """Watch them, several at a time."""
        raise NotImplementedError

    def _set_aside(self, task: FileTask, reason: str) -> None:
        """A task took its worker with it too often."""
        self._index.fail(task.media.id, reason)
        self._note(FileReport(task.path, task.media.id, failure=reason))

    def _is_done(self, task: FileTask) -> bool:
        """Whether a worker that died had done its task, and only not said so."""
        if not self._index.is_done(task.media.id, task.media_range):
            return False
        self._note(FileReport(task.path, task.media.id))
        return True

    def _run_one(self, task: FileTask) -> None:
        self._run_all([task], in_prefix=True)

    def _run_parallel(self, todo: list[FileTask]) -> None:
        self._run_all(todo, in_prefix=False)

    def _recognizer(self) -> Any:
        # One that needs a GPU may find none here, or be in the way of those elsewhere.
        return super()._recognizer() if self._config.device == "cpu" else None


def _num_cores() -> int:
    """That this process may use; macOS and Windows only say how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
