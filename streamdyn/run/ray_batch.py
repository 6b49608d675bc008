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

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamdyn.config import RunConfig
from streamdyn.index import MediaRow, MediaSink, SqliteIndex
from streamdyn.protocols import WHOLE_FILE, MediaRange
from streamdyn.run.file_worker import (
    FileProgress,
    FileReport,
    FileTask,
    FileWorker,
    Stopped,
    ranges_of,
)
from streamdyn.run.ray_actor import ActorFacts, get, stand_in
from streamdyn.run.ray_metrics import Metrics
from streamdyn.run.ray_recognizer import HostedRecognizer
from streamdyn.timeline import Propagation, WindowResult

WINDOWS_AHEAD = 4
"""Windows of a file that may be on their way to the writer."""


class Writer:
    """Writes what workers see; killed, it starts again and goes on.

    Only the driver writes to the index besides: which files there are, and that all ranges of one
    have ended.

    Every call may come twice and changes nothing then: a window replaces itself.

    Args:
        path: The index.
        root: See `SqliteIndex`.
    """

    def __init__(self, path: str, root: str | None) -> None:
        self._index = SqliteIndex(path, root=root)
        self._pages: dict[tuple[str, int], MediaSink] = {}
        self._progress: dict[tuple[str, int], FileProgress] = {}
        self._stopped = False

    def begin(self, media: MediaRow, config_hash: str, media_range: MediaRange) -> MediaRow:
        """Take up a file or a range; answers how the index has the file."""
        page = self._index.begin(media, config_hash, media_range)
        self._pages[media.id, media_range.first] = page
        return page.media

    def checkpoint(self, media_id: str, first: int) -> bytes | None:
        """See `SqliteIndex`."""
        return self._index.checkpoint(media_id, first)

    def tuning(self, config_hash: str) -> tuple[int, bytes | None]:
        """See `SqliteIndex`."""
        return self._index.tuning(config_hash)

    def remove(self, media_id: str) -> None:
        """See `SqliteIndex`."""
        self._index.remove(media_id)

    def write(
        self,
        media: MediaRow,
        media_range: MediaRange,
        result: WindowResult,
        checkpoint: bytes | None,
    ) -> bool:
        """Store a window; answers whether to stop."""
        self._page(media, media_range).write(result, checkpoint)
        return self._stopped

    def finish(
        self,
        media: MediaRow,
        media_range: MediaRange,
        propagation: Propagation,
        tuning: bytes | None,
    ) -> MediaRow:
        """A file or a range is done; answers how the index has the file."""
        if self._index.is_done(media.id, media_range):
            return self._index.get(media.id)  # Said twice: the answer was lost.
        page = self._page(media, media_range)
        page.finish(propagation, tuning)
        del self._pages[media.id, media_range.first]
        return page.media

    def fail(self, media: MediaRow, error: str) -> None:
        """A file is given up."""
        self._index.fail(media.id, error)

    def note(self, progress: FileProgress) -> None:
        """How far a file is."""
        self._progress[progress.path, progress.first] = progress

    def take_progress(self) -> list[FileProgress]:
        """What was noted since the last call, the newest of each file or range."""
        found, self._progress = list(self._progress.values()), {}
        return found

    def stop(self) -> None:
        """Say to every worker that it should stop after its window."""
        self._stopped = True

    def _page(self, media: MediaRow, media_range: MediaRange) -> MediaSink:
        """After a restart the page is opened again, at its last window."""
        key = media.id, media_range.first
        if key not in self._pages:
            self._pages[key] = self._index.begin(media, media.config_hash, media_range)
        return self._pages[key]


@dataclass(slots=True)
class RemoteBook:
    """The writer, as a worker sees it."""

    writer: Any
    """Handle of a `Writer`."""

    def begin(
        self, media: MediaRow, config_hash: str, media_range: MediaRange = WHOLE_FILE
    ) -> RemotePage:
        """See `Book`."""
        placed = get(self.writer.begin.remote(media, config_hash, media_range))
        return RemotePage(self.writer, placed, media_range)

    def checkpoint(self, media_id: str, first: int = 0) -> bytes | None:
        """See `Book`."""
        found: bytes | None = get(self.writer.checkpoint.remote(media_id, first))
        return found

    def tuning(self, config_hash: str) -> tuple[int, bytes | None]:
        """See `Book`."""
        found: tuple[int, bytes | None] = get(self.writer.tuning.remote(config_hash))
        return found

    def remove(self, media_id: str) -> None:
        """See `Book`."""
        get(self.writer.remove.remote(media_id))


class RemotePage:
    """A file or range of the writer's index; a few windows may be on their way.

    Args:
        writer: Handle of a `Writer`.
        media: As the index has it.
        media_range: Of the file.
    """

    def __init__(self, writer: Any, media: MediaRow, media_range: MediaRange) -> None:
        self.media = media
        self._writer, self._range = writer, media_range
        self._ahead: deque[Any] = deque()

    def write(self, result: WindowResult, checkpoint: bytes | None) -> None:
        """Send a window; waits while too many are on their way.

        Raises:
            StoreError: An earlier window could not be stored.
            Stopped: The job was told to stop.
        """
        self._ahead.append(self._writer.write.remote(self.media, self._range, result, checkpoint))
        self._settle(WINDOWS_AHEAD)

    def finish(self, propagation: Propagation = "two-sided", tuning: bytes | None = None) -> None:
        """All windows are stored, and the file is done."""
        self._settle(0)
        told = self._writer.finish.remote(self.media, self._range, propagation, tuning)
        self.media = get(told)

    def fail(self, error: str) -> None:
        """The file is given up."""
        self._settle(0)
        get(self._writer.fail.remote(self.media, error))

    def close(self) -> None:
        """The writer keeps what was sent."""

    def _settle(self, left: int) -> None:
        """Wait until no more windows than `left` are on their way."""
        while len(self._ahead) > left:
            if get(self._ahead.popleft()):
                raise Stopped


class Worker:
    """Decodes, decides, and recognizes by itself or through a host; one file at a time.

    Args:
        config: Parts and options, as JSON.
        config_hash: Of all that outcomes depend on.
        writer: Handle of a `Writer`.
        host: Handle of a `RecognizerHost`; `None`: it has a recognizer of its own.
        standing: Folder of the driver, which paths in options are relative to.
        resume: Go on inside unfinished files.
        trace_folder: For decision logs, of the worker's machine.
    """

    def __init__(
        self,
        config: str,
        config_hash: str,
        writer: Any,
        host: Any,
        standing: str,
        *,
        resume: bool,
        trace_folder: str | None,
    ) -> None:
        stand_in(standing)
        self._config, self._hash = config, config_hash
        self._writer, self._host = writer, host
        self._resume, self._trace_folder = resume, trace_folder
        self._worker: FileWorker | None = None
        self._metrics = Metrics()

    def facts(self) -> ActorFacts:
        """What it is and where."""
        return ActorFacts.here()

    def ranges(self, path: str, media: MediaRow) -> list[MediaRange] | str:
        """Where to cut a file; `file_worker.ranges_of`."""
        return ranges_of(RunConfig.model_validate_json(self._config), path, media)

    def run(self, task: FileTask, in_prefix: bool) -> FileReport:
        """Watch a file or a range; `file_worker.FileWorker.run`."""
        if self._worker is None:  # Loading a model is no part of starting: that is to be quick.
            self._worker = self._made()
        report = self._worker.run(task, in_prefix=in_prefix)
        self._metrics.file(report.failure)
        return report

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
            on_progress=self._on_progress,
        )

    def _on_progress(self, progress: FileProgress) -> None:
        self._metrics.window(progress.latest)
        self._writer.note.remote(progress)
