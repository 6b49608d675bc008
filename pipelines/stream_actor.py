"""The actor that watches one stream of a job on Ray; see `stream_actors`."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from streamdyn.errors import ConfigError, RecognizerError, StreamdynError
from streamdyn.job import Job
from streamdyn.pipelines.stream_parts import task_of
from streamdyn.protocols import Recognizer
from streamdyn.run.ray_actor import ActorFacts, ray_module, stand_in
from streamdyn.run.ray_live import RemotePages
from streamdyn.run.ray_recognizer import HostedRecognizer
from streamdyn.run.stream_worker import LATENCIES, Stored, StreamStatus, StreamWorker
from streamdyn.sources.live import redacted

MAX_NEWS = 10_000
ANSWER_SECONDS = 120.0
"""To wait for a recognizer; then it is asked again, as after any failure."""


@dataclass(frozen=True, slots=True)
class News:
    """What an actor has to say since it was asked last."""

    facts: ActorFacts
    node_id: str
    status: StreamStatus
    stored: tuple[Stored, ...]
    log: tuple[tuple[str, int, str], ...]
    """Logger, level and text."""


class StreamActor:
    """Watches one stream, with the agent's state and the stream's packets.

    Args:
        job: What to do.
        name: Of the stream.
        pages: Where results go.
        host: Handle of a `RecognizerHost`; `None`: it has a recognizer of its own.
        standing: Folder of the driver, which relative paths are relative to.
        is_paused: Begin with a pause.
    """

    def __init__(
        self, job: Job, name: str, pages: RemotePages, host: Any, standing: str, *, is_paused: bool
    ) -> None:
        stand_in(standing)
        self._stored: deque[Stored] = deque(maxlen=MAX_NEWS)
        self._log: deque[tuple[str, int, str]] = deque(maxlen=MAX_NEWS)
        self._listen()
        self._worker: StreamWorker | None = None
        self._failure: StreamdynError | None = None
        try:
            self._worker = self._made(job, name, pages, host)
        except StreamdynError as exc:  # An actor that cannot be made tells Ray, and not us.
            self._failure = exc
        else:
            if is_paused:
                self._worker.pause()

    def _made(self, job: Job, name: str, pages: RemotePages, host: Any) -> StreamWorker:
        recognizer: Recognizer = job.config.recognizer.build("recognizer")
        if host is None:
            recognizer.setup(job.config.device)
        else:
            recognizer = HostedRecognizer(
                recognizer, host, answer_seconds=ANSWER_SECONDS, lost=RecognizerError
            )
        return StreamWorker(task_of(job, name, recognizer), pages, recognizer, self)

    def _listen(self) -> None:
        """What is logged here is said by the driver."""
        ours, heard = logging.getLogger("streamdyn"), self._log

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                heard.append((record.name, record.levelno, record.getMessage()))
                if record.exc_info is not None:
                    text = logging.Formatter().formatException(record.exc_info)
                    heard.append((record.name, logging.DEBUG, redacted(text)))

        ours.handlers[:] = [Handler()]
        ours.propagate = False

    def window(self, stored: Stored) -> None:
        """A window is stored."""
        self._stored.append(stored)

    def run(self) -> News:
        """Watch until told to stop; the last news."""
        self._there().run()
        return self.news()

    def news(self) -> News:
        """Since the last call."""
        status = self._there().refresh()
        return News(
            ActorFacts.here(),
            ray_module().get_runtime_context().get_node_id(),
            # A copy: it is written while it is sent.
            replace(status, latencies=deque(status.latencies, LATENCIES)),
            tuple(_taken(self._stored)),
            tuple(_taken(self._log)),
        )

    def pause(self) -> None:
        """Hang up after the window that is open."""
        self._there().pause()

    def go_on(self) -> None:
        """End a pause."""
        self._there().go_on()

    def stop(self) -> None:
        """End after what has come was watched."""
        self._there().stop()

    def _there(self) -> StreamWorker:
        if self._worker is None:
            raise self._failure or ConfigError("the actor was not made")
        return self._worker


def _taken(queue: deque[Any]) -> list[Any]:
    found = []
    with suppress(IndexError):
        while True:
            found.append(queue.popleft())
    return found
