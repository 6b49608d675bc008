"""Streams of a job in actors of a Ray cluster, which share recognizers.

```
driver:  ActorWatch, a thread a stream ──news, commands──┐      Courier ─▶ sinks
                                                          │         ▲
         StreamActor: source, agent, state ◀──────────────┘      the index
              │     ▲ │                                             ▲
              │     │ └───── windows with their checkpoints ──▶ LiveWriter
              ▼     │
         RecognizerHost: batches what all streams have chosen
```

An actor that dies is made again, where it was if its machine is there, since its packets are kept
there; it goes on after its last stored window. Recognizers and the writer are started again by Ray,
and what they were asked is asked again.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamdyn.config import RunConfig
from streamdyn.errors import ConfigError
from streamdyn.index.live_book import LiveBook
from streamdyn.job import ClipsConfig, Job, RayConfig
from streamdyn.pipelines.stream_actor import News, StreamActor
from streamdyn.run.ray_actor import (
    check_version,
    get,
    here,
    last_line,
    ray_module,
    remote,
)
from streamdyn.run.ray_cluster import START_SECONDS, ClusterOptions, check_gpus, connected, told
from streamdyn.run.ray_live import LiveWriter, RemotePages
from streamdyn.run.ray_recognizer import await_hosts, start_hosts
from streamdyn.run.stream_worker import (
    StreamStatus,
    StreamTask,
    Told,
)
from streamdyn.sources.live.reconnect import Reconnect

logger = logging.getLogger(__name__)
POLL_SECONDS = 0.3
"""Between two questions for news."""
PLACE_SECONDS = 30.0
"""An actor that is not there after so long waits for a place; it is said."""
WAITS = Reconnect()
"""Before an actor is made again."""


class ActorWatch:
    """A stream in an actor, as the job sees it; the actor is made again when it dies.

    Args:
        make: Makes an actor: where to place it, and whether it begins with a pause.
        task: What is watched.
        told: Of every stored window.
        home: File that keeps the id of the node where the stream's packets are; `None`: they must
            be on this machine.
    """

    def __init__(self, make: Any, task: StreamTask, told: Told, home: Path | None) -> None:
        self._make, self._told, self._home = make, told, home
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._is_paused = False
        self._has_watched = False
        self._node_id = ""
        self.actor: Any = None
        """Handle of the `StreamActor`, while there is one."""
        self._num_deaths = 0
        self.status = StreamStatus(task.stream, task.source.name)

    def run(self) -> None:
        """Watch until told to stop, or until a file has ended.

        Raises:
            ConfigError: A part does not suit the stream.
        """
        num_failures = 0
        while (actor := self._made()) is not None:
            began = time.monotonic()
            try:
                self._follow(actor)
                break
            except Exception as exc:
                # What was right once is right still: its machine, or a file, has gone for now.
                if isinstance(exc, ConfigError) and not self._has_watched:
                    raise
                held = time.monotonic() - began
                num_failures = 1 if held > WAITS.stable_seconds else num_failures + 1
                self._note_death(last_line(exc), WAITS.wait_seconds(num_failures, 0.0))
            finally:
                with self._lock:
                    self.actor = None
                ray_module().kill(actor)

    def _made(self) -> Any:
        """An actor; `None` once it was told to stop."""
        with self._lock:
            if self._is_over.is_set():
                return None
            self.actor = self._make(self._place(), is_paused=self._is_paused)
            return self.actor

    def _place(self) -> Any:
        if self._home is None:
            return here()
        try:
            return here(or_elsewhere=True, node=self._home.read_text())
        except FileNotFoundError:
            return "DEFAULT"

    def _note_place(self, node_id: str) -> None:
        if self._home is not None and node_id != self._node_id:
            self._home.parent.mkdir(exist_ok=True)
            self._home.write_text(node_id)
            self._node_id = node_id

    def _follow(self, actor: Any) -> None:
        """Hear what it says until it has ended."""
        ray, began = ray_module(), time.monotonic()
        running, asked, has_spoken = actor.run.remote(), actor.news.remote(), False
        while not ray.wait([running], timeout=POLL_SECONDS)[0]:
            if ray.wait([asked], timeout=0)[0]:
                self._take(get(asked))
                asked, has_spoken = actor.news.remote(), True
            elif not has_spoken and time.monotonic() - began > PLACE_SECONDS:
                if self._is_over.is_set():
                    return
                self._note_wait()
        self._take(get(running))

    def _take(self, news: News) -> None:
        check_version("stream actors", news.facts)
        self._note_place(news.node_id)
        self._has_watched |= news.status.state == "watching"
        said = news.status.last_error or self.status.last_error
        restarts = news.status.num_restarts + self._num_deaths
        self.status = replace(news.status, last_error=said, num_restarts=restarts)
        for stored in news.stored:
            self._told.window(stored)
        for name, level, text in news.log:
            logging.getLogger(name).log(level, "%s", text)

    def _note_wait(self) -> None:
        there, free = ray_module().cluster_resources(), ray_module().available_resources()
        said = f"no place in the cluster yet: it has {told(there)}, and free are {told(free)}"
        if self.status.last_error != said:
            logger.warning("%s: %s", self.status.stream, said)
            self.status.last_error = said

    def _note_death(self, said: str, wait_seconds: float) -> None:
        logger.warning(
            "%s: its actor died: %s; another one in %.1f s", self.status.stream, said, wait_seconds
        )
        self._num_deaths += 1
        self.status.num_restarts += 1
        self.status.state, self.status.connection = "failed", "gone"
        self.status.last_error = f"its actor died: {said}"
        self._is_over.wait(wait_seconds)

    def refresh(self) -> StreamStatus:
        """As it was told last."""
        return self.status

    def pause(self) -> None:
        """Hang up after the window that is open."""
        with self._lock:
            self._is_paused = True
            self._tell("pause")

    def go_on(self) -> None:
        """End a pause."""
        with self._lock:
            self._is_paused = False
            self._tell("go_on")

    def stop(self) -> None:
        """End after what has come was watched; without an actor that is left for the next run."""
        with self._lock:
            self._is_over.set()
            self._tell("stop")

    def _tell(self, verb: str) -> None:
        if self.actor is not None:
            getattr(self.actor, verb).remote()


class ActorRunner:
    """Streams in actors of a cluster: the one at the address, or one that is started here.

    Args:
        job: What to do.
        options: Of the cluster and its actors.
        open_book: Opens the index, in the writer.
        told: Of every stored window.
    """

    def __init__(
        self, job: Job, options: RayConfig, open_book: Callable[[], LiveBook], told: Told
    ) -> None:
        self._job, self._options, self._told = job, options, told
        self._open_book = open_book
        self._stack = ExitStack()
        self._terms, self._places = itertools.count(1), itertools.count()
        self.writer: Any = None
        """Handle of the `LiveWriter`, while it is open."""
        self.hosts: list[Any] = []
        """Handles of the `RecognizerHost`s that streams share."""

    def open(self) -> None:
        """Connect, and start what streams share.

        Raises:
            ConfigError: No cluster there, or it has not what was asked for.
        """
        from ray.exceptions import RayError

        options, config = self._options, self._job.config
        if "-" in (stream.url for stream in config.streams.values()):
            raise ConfigError(
                "standard input cannot be read by actors; leave out ray, or name a file"
            )
        self._stack.enter_context(connected(ClusterOptions(options.address)))
        there = ray_module().cluster_resources()
        check_gpus(options.recognizer_gpus, config.device, there.get("GPU", 0.0))
        cores = options.recognizers * options.recognizer_cpus
        cores += len(config.streams) * options.stream_cpus
        if cores > there.get("CPU", 0.0):
            raise ConfigError(
                f"{len(config.streams)} streams and {options.recognizers} recognizers ask for "
                f"{cores:g} cores, and the cluster has {told(there)}; lower ray.stream_cpus or "
                "ray.recognizer_cpus, which only place them, or add a node"
            )
        self.writer = remote(
            LiveWriter, num_cpus=0, max_restarts=-1, max_task_retries=-1,
            scheduling_strategy=here(),
        ).remote(self._open_book, self._job.state.absolute())  # fmt: skip
        run = RunConfig.model_validate({"recognizer": config.recognizer, "device": config.device})
        self.hosts = start_hosts(
            run.model_dump_json(), str(Path.cwd()), options.recognizers,
            num_cpus=options.recognizer_cpus, num_gpus=options.recognizer_gpus,
        )  # fmt: skip
        await_hosts(self.hosts)
        try:
            get(self.writer.facts.remote(), START_SECONDS)
        except RayError as exc:
            raise ConfigError(f"the writer could not be started: {last_line(exc)}") from exc

    def worker(self, job: Job, task: StreamTask) -> ActorWatch:
        """For a stream."""
        options, number = self._options, next(self._places)
        host = self.hosts[number % len(self.hosts)] if self.hosts else None
        kind = remote(
            StreamActor,
            max_restarts=0,
            max_concurrency=8,
            num_cpus=options.stream_cpus,
            num_gpus=0.0 if self.hosts else options.recognizer_gpus,
        )

        there = replace(job, folder=job.folder.absolute())  # Actors may stand elsewhere.

        def make(place: Any, *, is_paused: bool) -> Any:
            pages = RemotePages(self.writer, next(self._terms))
            return kind.options(scheduling_strategy=place).remote(
                there, task.stream, pages, host, str(Path.cwd()), is_paused=is_paused
            )

        # Clips are cut by this process, from the packets of the streams.
        cuts = any(isinstance(sink, ClipsConfig) for sink in job.config.sinks)
        home = None if cuts else there.state / "nodes" / task.stream
        return ActorWatch(make, task, self._told, home)

    def close(self) -> None:
        """End what streams shared, and the cluster if it was started here."""
        for actor in [*self.hosts, self.writer]:
            if actor is not None:
                ray_module().kill(actor)
        self.hosts, self.writer = [], None
        self._stack.close()
