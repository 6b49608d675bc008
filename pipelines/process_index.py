"""Index many videos in processes of this machine: the same rows as `video_index` makes in threads.

Decoders and recognizers that hold the interpreter lock run side by side, and one that takes its
process with it does not end the job: the file goes on in a new process at its last stored window,
and is set aside as failed after `MAX_TRIES`. Every process writes the index by itself, a window at
a time. Ray is not needed.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from streamdyn.config import RunConfig
from streamdyn.index import SqliteIndex
from streamdyn.run.file_worker import FileProgress, FileReport, FileTask, FileWorker, Stopped

from .video_index import MAX_TRIES, FarIndexJob, IndexReport  # noqa: TID251 - a base class must have a type.

_POLL_SECONDS = 0.25


class ProcessIndexJob(FarIndexJob):
    """One call of `streamdyn index --runner processes`; see `IndexJob`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # A fork would take over the locks of threads that are not there.
        self._context = multiprocessing.get_context("spawn")
        self._leave = self._context.Event()
        self._processes: list[_Process] = []

    def run(self, videos: Sequence[str]) -> IndexReport:
        """Index the files that need it; see `IndexJob.run`."""
        try:
            return super().run(videos)
        finally:
            self._leave.set()
            for process in self._processes:
                process.end()

    def _run_all(self, todo: Sequence[FileTask], *, in_prefix: bool) -> None:
        waiting, tries = deque(todo), Counter[tuple[str, int]]()
        errors: list[Exception] = []
        while True:
            if self._stop.is_set() and not errors:
                errors.append(Stopped())
            if errors:
                self._leave.set()
                waiting.clear()
            while waiting and (free := self._free()) is not None:
                free.take(waiting.popleft(), in_prefix=in_prefix)
            at_work = {process.link: process for process in self._processes if process.task}
            if not at_work:
                break
            for link in wait(list(at_work), _POLL_SECONDS):
                process = at_work[link]
                try:
                    errors += self._hear(process)
                except EOFError:
                    waiting.extendleft(self._died(process, tries))
        # The others were stopped because of the one that failed.
        for error in sorted(errors, key=lambda exc: isinstance(exc, Stopped)):
            raise error

    def _hear(self, process: _Process) -> list[Exception]:
        """What a process says next; answers an error, which is about the job, not about a file."""
        told = process.hear()
        if isinstance(told, Exception):
            return [told]
        if isinstance(told, FileReport):
            self._note(told)
        elif self._on_progress is not None:
            self._on_progress(told)
        return []

    def _free(self) -> _Process | None:
        """A process without a file: one that is there, else a new one."""
        for process in self._processes:
            if process.task is None:
                return process
        if len(self._processes) == self._jobs:
            return None
        index = str(self._index.path.absolute()), str(self._index.root)
        trace = None if self._trace_folder is None else str(self._trace_folder)
        process = _Process(
            self._context, self._leave, index, self._config.model_dump_json(), self._hash,
            self._resume, trace,
        )  # fmt: skip
        self._processes.append(process)
        return process

    def _died(self, process: _Process, tries: Counter[tuple[str, int]]) -> list[FileTask]:
        """A process took its task with it; the task, if it is to be tried again."""
        task = process.task
        assert task is not None
        process.end()
        self._processes.remove(process)
        if self._is_done(task):
            return []
        tries[task.key] += 1
        if tries[task.key] < MAX_TRIES:
            return [task]
        self._set_aside(
            task,
            f"its process died {MAX_TRIES} times while it was watched (exit code "
            f"{process.exit_code}; -9 is how the system ends one that takes too much memory)",
        )
        return []


class _Process:
    """A worker in a process of its own, as the job sees it."""

    def __init__(self, context: Any, leave: Any, *how: Any) -> None:
        self.task: FileTask | None = None
        """What it is at."""
        self.link, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, leave, *how), daemon=True)
        self._process.start()
        theirs.close()

    def take(self, task: FileTask, *, in_prefix: bool) -> None:
        """Begin it."""
        self.task = task
        # If it died while it had nothing to do, that is heard when it is listened to.
        with suppress(OSError):
            self.link.send((task, in_prefix))

    def hear(self) -> FileProgress | FileReport | Exception:
        """What it says next.

        Raises:
            EOFError: It died.
        """
        try:
            told: FileProgress | FileReport | Exception = self.link.recv()
        except OSError as exc:
            raise EOFError from exc
        if not isinstance(told, FileProgress):
            self.task = None
        return told

    @property
    def exit_code(self) -> int | None:
        """Of a process that has ended; negative: ended by this signal."""
        code: int | None = self._process.exitcode
        return code

    def end(self) -> None:
        """It has nothing to do, or is dead."""
        self.link.close()
        self._process.join()


def _work(
    link: Connection,
    leave: Any,
    index: tuple[str, str],
    config_json: str,
    config_hash: str,
    resume: bool,
    trace_folder: str | None,
) -> None:
    """What runs in the process: files, until the link is closed or the job is gone."""
    # Ctrl-C is for the job, which says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    is_alone = False

    def tell(what: FileProgress | FileReport | Exception) -> None:
        nonlocal is_alone
        try:
            link.send(what)
        except OSError:
            is_alone = True

    def on_progress(progress: FileProgress) -> None:
        tell(progress)
        if is_alone or leave.is_set():
            raise Stopped

    worker: FileWorker | None = None
    path, root = index
    with SqliteIndex(path, root=root) as book:
        while not is_alone:
            try:
                task, in_prefix = link.recv()
            except (EOFError, OSError):
                return
            try:
                if worker is None:
                    config = RunConfig.model_validate_json(config_json)
                    recognizer = config.build_recognizer()
                    recognizer.setup(config.device)
                    worker = FileWorker(
                        book, config, config_hash, recognizer, resume=resume,
                        trace_folder=None if trace_folder is None else Path(trace_folder),
                        on_progress=on_progress,
                    )  # fmt: skip
                tell(worker.run(task, in_prefix=in_prefix))
            except Exception as exc:
                tell(exc)
