"""The actors of an index job on Ray: workers that decode and decide, one writer, recognizers.

```
Worker (a core each)                            Writer (where the driver is)
  cursor ─▶ session ─▶ policy                     the one that writes the index
     │        ▲ │                                      ▲
     │        │ └── windows with their checkpoints ────┘   at most WINDOWS_AHEAD on the way
     ▼        │
  chosen pictures ─▶ recognizer: its own, or a RecognizerHost (a GPU or a part of one)
```

A row of work is a file, never a frame: what was not chosen is not decoded and never leaves its
worker, and of what was chosen only the pictures cross, once. A worker has one request at a time
with a host, so that what is in flight is bounded by the number of workers.
"""

from __future__ import annotations

import asyncio
import platform
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamdyn import __version__
from streamdyn.config import RunConfig
from streamdyn.errors import ConfigError
from streamdyn.index import MediaRow, MediaSink, SqliteIndex
from streamdyn.items import Selection
from streamdyn.outcome import Outcome
from streamdyn.protocols import Recognizer
from streamdyn.run.file_worker import FileProgress, FileReport, FileWorker, Stopped
from streamdyn.timeline import Propagation, WindowResult

WINDOWS_AHEAD = 4
"""Windows of a file that may be on their way to the writer."""


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What an actor is, and where."""

    version: str
    """Of streamdyn."""
    node: str
    """Name of the machine."""

    @staticmethod
    def here() -> WorkerFacts:
        """Of this process."""
        return WorkerFacts(__version__, platform.node())


class Writer:
    """Writes the index; the only one that does. Killed, it starts again and goes on.

    Every call may come twice and changes nothing then: a window replaces itself.

    Args:
        path: The index.
        root: See `SqliteIndex`.
    """

    def __init__(self, path: str, root: str | None) -> None:
        self._index = SqliteIndex(path, root=root)
        self._pages: dict[str, MediaSink] = {}
        self._progress: dict[str, FileProgress] = {}
        self._stopped = False

    def begin(self, media: MediaRow, config_hash: str) -> MediaRow:
        """Take up a file; answers how the index has it."""
        page = self._index.begin(media, config_hash)
        self._pages[media.id] = page
        return page.media

    def checkpoint(self, media_id: str) -> bytes | None:
        """See `SqliteIndex`."""
        return self._index.checkpoint(media_id)

    def tuning(self, config_hash: str) -> tuple[int, bytes | None]:
        """See `SqliteIndex`."""
        return self._index.tuning(config_hash)

    def remove(self, media_id: str) -> None:
        """See `SqliteIndex`."""
        self._index.remove(media_id)

    def write(self, media: MediaRow, result: WindowResult, checkpoint: bytes | None) -> bool:
        """Store a window; answers whether to stop."""
        self._page(media).write(result, checkpoint)
        return self._stopped

    def finish(self, media: MediaRow, propagation: Propagation, tuning: bytes | None) -> MediaRow:
        """A file is done; answers how the index has it."""
        stored = self._index.find(media.id)
        if stored is not None and stored.status == "done":
            return stored  # Said twice: the answer was lost, or its worker.
        page = self._page(media)
        page.finish(propagation, tuning)
        del self._pages[media.id]
        return page.media

    def fail(self, media: MediaRow, error: str) -> None:
        """A file is given up."""
        self._page(media).fail(error)

    def note(self, progress: FileProgress) -> None:
        """How far a file is."""
        self._progress[progress.path] = progress

    def take_progress(self) -> list[FileProgress]:
        """What was noted since the last call, the newest of each file."""
        found, self._progress = list(self._progress.values()), {}
        return found

    def stop(self) -> None:
        """Say to every worker that it should stop after its window."""
        self._stopped = True

    def _page(self, media: MediaRow) -> MediaSink:
        """After a restart the page is opened again, at its last window."""
        if media.id not in self._pages:
            self._pages[media.id] = self._index.begin(media, media.config_hash)
        return self._pages[media.id]


@dataclass(slots=True)
class RemoteBook:
    """The writer, as a worker sees it."""

    writer: Any
    """Handle of a `Writer`."""

    def begin(self, media: MediaRow, config_hash: str) -> RemotePage:
        """See `Book`."""
        return RemotePage(self.writer, _get(self.writer.begin.remote(media, config_hash)))

    def checkpoint(self, media_id: str) -> bytes | None:
        """See `Book`."""
        found: bytes | None = _get(self.writer.checkpoint.remote(media_id))
        return found

    def tuning(self, config_hash: str) -> tuple[int, bytes | None]:
        """See `Book`."""
        found: tuple[int, bytes | None] = _get(self.writer.tuning.remote(config_hash))
        return found

    def remove(self, media_id: str) -> None:
        """See `Book`."""
        _get(self.writer.remove.remote(media_id))


class RemotePage:
    """A file of the writer's index; a few windows may be on their way.

    Args:
        writer: Handle of a `Writer`.
        media: As the index has it.
    """

    def __init__(self, writer: Any, media: MediaRow) -> None:
        self.media = media
        self._writer = writer
        self._ahead: deque[Any] = deque()

    def write(self, result: WindowResult, checkpoint: bytes | None) -> None:
        """Send a window; waits while too many are on their way.

        Raises:
            StoreError: An earlier window could not be stored.
            Stopped: The job was told to stop.
        """
        self._ahead.append(self._writer.write.remote(self.media, result, checkpoint))
        self._settle(WINDOWS_AHEAD)

    def finish(self, propagation: Propagation = "two-sided", tuning: bytes | None = None) -> None:
        """All windows are stored, and the file is done."""
        self._settle(0)
        self.media = _get(self._writer.finish.remote(self.media, propagation, tuning))

    def fail(self, error: str) -> None:
        """The file is given up."""
        self._settle(0)
        _get(self._writer.fail.remote(self.media, error))

    def close(self) -> None:
        """The writer keeps what was sent."""

    def _settle(self, left: int) -> None:
        """Wait until no more windows than `left` are on their way."""
        while len(self._ahead) > left:
            if _get(self._ahead.popleft()):
                raise Stopped


class Worker:
    """Decodes, decides, and recognizes by itself or through a host; one file at a time.

    Args:
        config: Parts and options, as JSON.
        config_hash: Of all that outcomes depend on.
        writer: Handle of a `Writer`.
        host: Handle of a `RecognizerHost`; `None`: it has a recognizer of its own.
        resume: Go on inside unfinished files.
        trace_folder: For decision logs, of the worker's machine.
    """

    def __init__(
        self,
        config: str,
        config_hash: str,
        writer: Any,
        host: Any,
        *,
        resume: bool,
        trace_folder: str | None,
    ) -> None:
        self._config, self._hash = config, config_hash
        self._writer, self._host = writer, host
        self._resume, self._trace_folder = resume, trace_folder
        self._worker: FileWorker | None = None

    def facts(self) -> WorkerFacts:
        """What it is and where."""
        return WorkerFacts.here()

    def run(self, path: str, media: MediaRow, in_prefix: bool) -> FileReport:
        """Index a file; `file_worker.FileWorker.run`."""
        if self._worker is None:  # Loading a model is no part of starting: that is to be quick.
            self._worker = self._made()
        return self._worker.run(path, media, in_prefix=in_prefix)

    def _made(self) -> FileWorker:
        config = RunConfig.model_validate_json(self._config)
        recognizer = config.build_recognizer()
        if self._host is None:
            recognizer.setup(config.device)
        else:
            recognizer = HostedRecognizer(recognizer, self._host)
        return FileWorker(
            RemoteBook(self._writer),
            config,
            self._hash,
            recognizer,
            resume=self._resume,
            trace_folder=None if self._trace_folder is None else Path(self._trace_folder),
            on_progress=lambda progress: self._writer.note.remote(progress),
        )


class RecognizerHost:
    """A recognizer that many workers share; requests that wait are recognized together.

    Every worker waits for its answer before it asks again, so that first come, first served is
    fair, and a host never holds more than one request of each.

    Args:
        config: Parts and options, as JSON.
        wait_ms: How long a request may wait for others to come.
    """

    def __init__(self, config: str, wait_ms: float = 2.0) -> None:
        resolved = RunConfig.model_validate_json(config)
        self._recognizer = resolved.build_recognizer()
        self._recognizer.setup(resolved.device)
        self._wait_seconds = wait_ms / 1000
        self._waiting: list[tuple[Selection, Any, asyncio.Future[Any]]] = []
        self._flushing: asyncio.Task[None] | None = None

    def facts(self) -> WorkerFacts:
        """What it is and where."""
        return WorkerFacts.here()

    async def recognize(self, selection: Selection, hidden: Any) -> tuple[list[Outcome], Any]:
        """See `Recognizer`."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((selection, hidden, answer))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        found: tuple[list[Outcome], Any] = await answer
        return found

    async def _flush(self) -> None:
        while self._waiting:
            if sum(len(s) for s, _, _ in self._waiting) < self._recognizer.batch_size:
                await asyncio.sleep(self._wait_seconds)
            taken, self._waiting = self._waiting, []
            # Those with a state of their own cannot be put together.
            alone = [[one] for one in taken if one[1] is not None]
            together = [one for one in taken if one[1] is None]
            for group in [*([together] if together else []), *alone]:
                try:
                    answers = await asyncio.to_thread(self._recognize, group)
                except Exception as exc:
                    for _, _, answer in group:
                        answer.set_exception(exc)
                else:
                    for (_, _, answer), found in zip(group, answers, strict=True):
                        answer.set_result(found)

    def _recognize(self, group: Sequence[tuple[Selection, Any, Any]]) -> list[Any]:
        joined = Selection(
            tuple(item for s, _, _ in group for item in s.items),
            tuple(action for s, _, _ in group for action in s.actions),
            tuple(effort for s, _, _ in group for effort in s.efforts),
        )
        outcomes, hidden = self._recognizer.recognize(joined, group[0][1])
        answers, first = [], 0
        for selection, _, _ in group:
            answers.append((outcomes[first : first + len(selection)], hidden))
            first += len(selection)
        return answers


class HostedRecognizer:
    """A recognizer whose looks are taken by a host.

    Args:
        recognizer: The same one, not set up: it says what it wants and when outcomes agree.
        host: Handle of a `RecognizerHost`.
    """

    def __init__(self, recognizer: Recognizer, host: Any) -> None:
        self._recognizer, self._host = recognizer, host
        self.name, self.version = recognizer.name, recognizer.version
        self.input, self.batch_size = recognizer.input, recognizer.batch_size

    def setup(self, device: str) -> None:
        """The host is set up already."""

    def initial_hidden(self) -> Any:
        """See `Recognizer`."""
        return self._recognizer.initial_hidden()

    def recognize(self, selection: Selection, hidden: Any) -> tuple[list[Outcome], Any]:
        """Ask the host, and wait.

        Raises:
            ConfigError: The host cannot be kept alive.
        """
        from ray.exceptions import RayActorError

        try:
            found: tuple[list[Outcome], Any] = _get(self._host.recognize.remote(selection, hidden))
        except RayActorError as exc:
            raise ConfigError(f"the shared recognizer {self.name} died for good: {exc}") from exc
        return found

    def agree(self, propagated: Outcome, looked_up: Outcome) -> float:
        """See `Recognizer`."""
        return self._recognizer.agree(propagated, looked_up)


def ray_module() -> Any:
    """It takes seconds to load, and half of it has no types."""
    import ray

    return ray


def _get(reference: Any) -> Any:
    return ray_module().get(reference)
