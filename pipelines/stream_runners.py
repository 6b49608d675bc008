"""Who watches the streams of a job: threads of this process, or whatever else keeps to this."""

from __future__ import annotations

import os
from typing import Protocol

from streamdyn.job import Job
from streamdyn.pipelines.stream_parts import TakingTurns
from streamdyn.protocols import Recognizer
from streamdyn.run.stream_worker import Pages, StreamStatus, StreamTask, StreamWorker, Told


class Watching(Protocol):
    """One stream that is watched; see `StreamWorker`."""

    status: StreamStatus

    def run(self) -> None:
        """Watch until told to stop, or until a file has ended."""

    def refresh(self) -> StreamStatus:
        """The status as it is now."""

    def pause(self) -> None:
        """Hang up after the window that is open."""

    def go_on(self) -> None:
        """End a pause."""

    def stop(self) -> None:
        """End after what has come was watched."""


class Runner(Protocol):
    """Makes the workers of a job."""

    def open(self) -> None:
        """Before the first worker."""

    def worker(self, job: Job, task: StreamTask) -> Watching:
        """For a stream; its `run` is called in a thread of its own."""

    def close(self) -> None:
        """After the last worker; may be called twice."""


class LocalRunner:
    """Threads of this process, and one recognizer for which they take turns.

    Args:
        job: What to do.
        recognizer: Not set up yet.
        pages: Where results go.
        told: Of every stored window.
    """

    def __init__(self, job: Job, recognizer: Recognizer, pages: Pages, told: Told) -> None:
        self._recognizer, self._device = recognizer, job.config.device
        self._shared = TakingTurns(recognizer, job.config.workers or os.cpu_count() or 1)
        self._pages, self._told = pages, told

    def open(self) -> None:
        """Set the recognizer up."""
        self._recognizer.setup(self._device)

    def worker(self, job: Job, task: StreamTask) -> StreamWorker:
        """For a stream."""
        return StreamWorker(task, self._pages, self._shared, self._told)

    def close(self) -> None:
        """Nothing to end."""
