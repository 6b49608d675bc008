"""Watch live streams until told to stop: streams in threads of this process, one recognizer.

```
stream ─▶ StreamWorker ─┐                ┌─▶ Courier ─▶ file, webhook, Redis
stream ─▶ StreamWorker ─┼─▶ LiveBook ────┤
stream ─▶ StreamWorker ─┘   (index)      └─▶ search, reports
              └── recognizer, a few at a time
```
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from streamdyn.claims import claim
from streamdyn.delivery.courier import Courier, Outlet
from streamdyn.errors import ConfigError, UnknownName
from streamdyn.index.live_book import LiveBook, Retention
from streamdyn.index.placing import write_explained
from streamdyn.job import Job, load_job
from streamdyn.ops.metrics import JobMetrics
from streamdyn.ops.server import OpsServer
from streamdyn.pipelines.stream_parts import outlet_of, task_of
from streamdyn.pipelines.stream_runners import LocalRunner, Runner, Watching
from streamdyn.protocols import Recognizer
from streamdyn.receipt import ACTIONS, Receipt
from streamdyn.run.stream_worker import Stored, StreamStatus, StreamTask

logger = logging.getLogger(__name__)
OPS_FILE = "ops.json"
"""In the state folder, while the job runs: its address and process."""


class StreamJob:
    """One call of `streamdyn watch`.

    Args:
        job: What to do.
        file: To read again on `reload`; `None` where there is none.
        outlets: Sinks besides those of the job.

    Raises:
        ConfigError: A part or an option is wrong.
        StoreError: The index cannot be opened.
    """

    def __init__(
        self,
        job: Job,
        *,
        file: Path | None = None,
        outlets: Sequence[Outlet] = (),
    ) -> None:
        self._job, self._file = job, file
        config = job.config
        self._started = time.time()
        self._is_over = threading.Event()
        self._lock = threading.RLock()
        self._commanding = threading.Lock()  # While streams are ended and begun by a command.
        self._recognizer: Recognizer = config.recognizer.build("recognizer")
        tasks = [task_of(job, name, self._recognizer) for name in config.streams]
        outlets = [*outlets, *self.outlets_of(job)]
        keys = [outlet.key for outlet in outlets]
        for twice in {key for key in keys if keys.count(key) > 1}:
            raise ConfigError(f"two sinks are the same: {twice.partition('#')[0]}; leave one out")
        with write_explained(job.index):
            job.index.parent.mkdir(parents=True, exist_ok=True)
        self._claim = _claimed(job.state)
        try:
            self.book = _book(job)()
        except BaseException:
            self._claim.close()
            raise
        self._metrics = JobMetrics()
        self.runner = self._made_runner()
        self.workers: dict[str, Watching] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._failure: Exception | None = None
        self._tasks = {task.stream: task for task in tasks}
        self.book.keep_sinks([outlet.key for outlet in outlets])
        self._couriers = [Courier(self.book, outlet) for outlet in outlets]
        self.ops: OpsServer | None = None

    @staticmethod
    def outlets_of(job: Job) -> list[Outlet]:
        """The sinks of a job."""
        return [outlet_of(job, sink) for sink in job.config.sinks]

    def _made_runner(self) -> Runner:
        job = self._job
        if job.config.ray is None:
            return LocalRunner(job, self._recognizer, self.book, self)
        from streamdyn.pipelines.stream_actors import ActorRunner

        return ActorRunner(job, job.config.ray, _book(job), self)

    def run(self) -> None:
        """Watch until `stop`, or until every stream has ended.

        Raises:
            StreamdynError: A part does not suit a stream.
        """
        ops = self._job.config.ops
        try:
            self.ops = OpsServer(self, ops.host, ops.port, ops.token)
            self._note_address()
            self.runner.open()
            for courier in self._couriers:
                courier.start()
            for task in self._tasks.values():
                self._start(task)
            while not self._is_over.wait(0.2) and self._is_any_watched():
                continue
        finally:
            with self._commanding:
                self._is_over.set()
                self._end()
        if self._failure is not None:
            raise self._failure

    def _is_any_watched(self) -> bool:
        if not self._commanding.acquire(blocking=False):
            return True  # Streams that were ended are about to be begun again.
        try:
            return any(thread.is_alive() for thread in self._all_threads())
        finally:
            self._commanding.release()

    def _all_threads(self) -> list[threading.Thread]:
        with self._lock:
            return [*self._threads.values()]

    def _note_address(self) -> None:
        assert self.ops is not None
        facts = {"address": self.ops.address, "pid": os.getpid(), "index": str(self._job.index)}
        (self._job.state / OPS_FILE).write_text(json.dumps(facts))

    def _end(self) -> None:
        for worker in [*self.workers.values()]:
            worker.stop()
        for thread in self._all_threads():
            thread.join()
        self.runner.close()
        for courier in self._couriers:
            courier.stop()
        if self.ops is not None:
            self.ops.close()
        (self._job.state / OPS_FILE).unlink(missing_ok=True)
        self.book.close()
        self._claim.close()

    def stop(self) -> None:
        """Watch what has come, deliver what is left, and end."""
        self._is_over.set()

    def _start(self, task: StreamTask) -> None:
        worker = self.runner.worker(self._job, task)

        def watch() -> None:
            try:
                worker.run()
            except Exception as exc:
                worker.status.last_error = str(exc)
                self._failure = self._failure or exc
                self._is_over.set()

        with self._lock:
            self.workers[task.stream] = worker
            thread = threading.Thread(target=watch, name=f"watch {task.stream}", daemon=True)
            self._threads[task.stream] = thread
        thread.start()

    def _stop_stream(self, name: str) -> None:
        with self._lock:
            worker, thread = self.workers.pop(name), self._threads.pop(name)
        worker.stop()
        thread.join()

    def window(self, stored: Stored) -> None:
        """A window is stored."""
        self._metrics.window(stored)

    def _statuses(self) -> list[StreamStatus]:
        with self._lock:
            return [worker.refresh() for worker in self.workers.values()]

    def status(self) -> dict[str, Any]:
        """All that is known, as JSON takes it."""
        return {
            "index": str(self._job.index),
            "started_at": self._started,
            "recognizer": f"{self._recognizer.name}/{self._recognizer.version}",
            "streams": [_described(status) for status in self._statuses()],
            "sinks": [
                {
                    "name": courier.status.name,
                    "sent": courier.status.num_sent,
                    "failures": courier.status.num_failures,
                    "is_failing": courier.status.is_failing,
                    "last_error": courier.status.last_error,
                }
                for courier in self._couriers
            ],
        }

    def receipts(self) -> dict[str, Receipt]:
        """Stream → what was spent since its worker began."""
        return {name: worker.status.receipt for name, worker in self.workers.items()}

    def not_ready(self) -> list[str]:
        """Streams from which nothing comes."""
        fine = ("up", "paused", "ended")
        return [
            status.stream
            for status in self._statuses()
            if status.connection not in fine or status.state == "failed"
        ]

    def metrics(self) -> bytes:
        """In Prometheus' text format."""
        metrics = self._metrics
        for status in self._statuses():
            name, receipt = status.stream, status.receipt
            metrics.up.labels(name).set(status.connection == "up")
            metrics.lag.labels(name).set(status.backlog_seconds)
            metrics.budget.labels(name).set(status.share)
            metrics.saved.labels(name).set(1 - receipt.share_recognized)
            if status.stored_at is not None:
                metrics.checkpoint_age.labels(name).set(time.time() - status.stored_at)
            if status.last_packet_at is not None:
                metrics.last_frame.labels(name).set(status.last_packet_at)
            if status.agreement is not None:
                metrics.disagreement.labels(name).set(1 - status.agreement)
            metrics.views(name, status.num_view_changes)
            metrics.lost_segments(name, status.num_lost_segments)
            for reason, count in status.reconnects.items():
                metrics.reconnects(name, reason, count)
        for place, courier in enumerate(self._couriers):
            kind = f"{place}_{courier.status.name.split()[0]}"
            metrics.outputs(kind, "sent", courier.status.num_sent)
            metrics.outputs(kind, "failed", courier.status.num_failures)
        return metrics.exposition()

    def command(self, verb: str, stream: str | None) -> dict[str, Any]:
        """Carry out `pause`, `resume`, `restart`, `reload` or `stop`.

        Raises:
            ConfigError: No such verb or stream, or the job file is wrong now.
        """
        if verb == "stop":
            self.stop()
            return {"stopping": True}
        if verb == "reload":
            return self.reload()
        verbs = ("pause", "resume", "restart")
        if verb not in verbs:
            raise UnknownName("command", verb, (*verbs, "reload", "stop"))
        if stream is not None and stream not in self.workers:
            raise UnknownName("stream", stream, self.workers)
        with self._commanding:
            names = [stream] if stream is not None else [*self.workers]
            for name in names:
                if verb == "pause":
                    self.workers[name].pause()
                elif verb == "resume":
                    self.workers[name].go_on()
                elif not self._is_over.is_set():
                    self._stop_stream(name)
                    self._start(self._tasks[name])
        return {verb: names}

    def reload(self) -> dict[str, Any]:
        """Read the job file again: streams that are new, gone or changed are begun or ended.

        The recognizer, the index and the sinks stay as they were when the job began.

        Raises:
            ConfigError: There is no job file, it is wrong, or changes what cannot be changed.
        """
        if self._file is None:
            raise ConfigError("cannot reload: the job was begun with a URL and has no file")
        with self._commanding:
            return self._reload(load_job(self._file))

    def _reload(self, job: Job) -> dict[str, Any]:
        fixed = ("index", "state", "recognizer", "sinks", "device", "retention", "workers", "ray")
        for name in fixed:
            if getattr(job.config, name) != getattr(self._job.config, name):
                raise ConfigError(
                    f"cannot reload {self._file}: {name} has changed, which takes a restart of the "
                    "job; nothing is lost by one"
                )
        tasks = {name: task_of(job, name, self._recognizer) for name in job.config.streams}
        before, self._job = self._job, job
        changed = [n for n in tasks if n in self._tasks and _differ(before, job, n)]
        gone = [name for name in self._tasks if name not in tasks]
        new = [name for name in tasks if name not in self._tasks]
        self._tasks = tasks
        for name in [*gone, *changed]:
            self._stop_stream(name)
        for name in [*new, *changed] if not self._is_over.is_set() else ():
            self._start(tasks[name])
        return {"begun": new, "ended": gone, "changed": changed}


def _book(job: Job) -> Callable[[], LiveBook]:
    retention = job.config.retention
    return partial(
        LiveBook,
        job.index.absolute(),
        chapter_seconds=retention.chapter_seconds,
        retention=Retention(
            None if retention.days is None else retention.days * 86_400.0,
            None if retention.gigabytes is None else int(retention.gigabytes * 1e9),
        ),
        topics=job.topics(),
    )


def _claimed(state: Path) -> TextIO:
    """The state folder, for one process alone.

    Raises:
        StoreError: Another process has it.
    """
    with write_explained(state):
        state.mkdir(parents=True, exist_ok=True)
        return claim(state)


def _differ(before: Job, after: Job, stream: str) -> bool:
    shared = ("policy", "source", "budget", "audit", "seed", "events", "load")
    return before.config.streams[stream] != after.config.streams[stream] or any(
        getattr(before.config, name) != getattr(after.config, name) for name in shared
    )


def _described(status: StreamStatus) -> dict[str, Any]:
    receipt = status.receipt
    latencies = sorted(status.latencies)
    return {
        "stream": status.stream,
        "address": status.address,
        "state": status.state,
        "connection": status.connection,
        "frames": receipt.num_items,
        **{action: getattr(receipt, name) for action, name in ACTIONS.items()},
        "agreement": status.agreement,
        "audits": status.num_audits,
        "events": status.num_events,
        "view_changes": status.num_view_changes,
        "lost_segments": status.num_lost_segments,
        "budget_share": status.share,
        "lag_seconds": round(status.backlog_seconds, 3),
        "latency_p99_seconds": _percentile(latencies, 0.99),
        "last_item_seconds": status.last_item_seconds,
        "last_packet_at": status.last_packet_at,
        "reconnects": status.reconnects,
        "restarts": status.num_restarts,
        "last_error": status.last_error,
    }


def _percentile(values: list[float], share: float) -> float | None:
    if not values:
        return None
    return round(values[min(len(values) - 1, int(share * len(values)))], 3)
