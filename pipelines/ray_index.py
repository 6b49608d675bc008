"""Index many videos on a Ray cluster: the same rows as `video_index` makes in one process.

Workers take files as they become free. One that dies is started again and its file goes on at its
last stored window; a file that kills its worker `MAX_TRIES` times is set aside as failed. Killed,
the job itself goes on like any other: run the same command again.

Why not Ray Data: it gives a file that kills its worker to the next one for ever, and its rows come
back when all of a file is done, so that nothing could be stored as windows close.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamdyn.config import RunConfig
from streamdyn.errors import ConfigError
from streamdyn.index import MediaRow, SqliteIndex
from streamdyn.index.reading import is_url
from streamdyn.protocols import MediaRange
from streamdyn.run.file_worker import FileTask, Stopped
from streamdyn.run.ray_actor import ActorFacts, check_version, here, last_line, ray_module, remote
from streamdyn.run.ray_batch import Worker, Writer
from streamdyn.run.ray_cluster import START_SECONDS, ClusterOptions, check_gpus, connected, told
from streamdyn.run.ray_recognizer import await_hosts, start_hosts

from .video_index import MAX_TRIES, FarIndexJob, IndexReport  # noqa: TID251 - a base class must have a type.

READY_SECONDS = 20
"""To wait for a node that could hold a worker, where there is none."""
_POLL_SECONDS = 0.25


class RayIndexJob(FarIndexJob):
    """One call of `streamdyn index --runner ray`.

    Args:
        index: Where the results go; the driver and the writer open it, on one machine.
        config: Parts and options.
        cluster: Where to run.
        **options: Of `IndexJob`, but `jobs`.
    """

    def __init__(
        self, index: SqliteIndex, config: RunConfig, cluster: ClusterOptions, **options: Any
    ) -> None:
        super().__init__(index, config, **options)
        self._cluster = cluster
        self.writer: Any = None
        """Handle of the `Writer`, while it runs."""
        self._workers: _Workers | None = None
        self._hosts: list[Any] = []

    def run(self, videos: Sequence[str]) -> IndexReport:
        """Index the files that need it; see `IndexJob.run`.

        Raises:
            ConfigError: No cluster there, or it has not what was asked for.
        """
        with connected(self._cluster):
            try:
                self._workers = self._start()
                self._workers.settle(wait=True)
                await_hosts(self._hosts)
                return super().run(videos)
            finally:
                self._end()

    def _start(self) -> _Workers:
        ray = ray_module()
        asked, there = self._cluster, ray.cluster_resources()
        check_gpus(asked.host_gpus, self._config.device, there.get("GPU", 0.0))
        self.writer = remote(
            Writer, num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here()
        ).remote(str(self._index.path.absolute()), str(self._index.root))
        config, standing = self._config.model_dump_json(), str(Path.cwd())
        self._hosts = start_hosts(
            config, standing, asked.hosts, num_cpus=asked.worker_cpus, num_gpus=asked.host_gpus
        )
        gpus = 0.0 if self._hosts else asked.host_gpus
        folder = None if self._trace_folder is None else str(self._trace_folder.absolute())

        def make(number: int) -> Any:
            host = self._hosts[number % len(self._hosts)] if self._hosts else None
            return remote(
                Worker, max_restarts=0, num_cpus=asked.worker_cpus, num_gpus=gpus
            ).remote(
                config, self._hash, self.writer, host, standing,
                resume=self._resume, trace_folder=folder,
            )  # fmt: skip

        spare = there.get("CPU", 1.0) - asked.hosts * asked.worker_cpus
        count = asked.workers or max(1, int(spare / asked.worker_cpus))
        return _Workers(make, count, {"CPU": asked.worker_cpus, "GPU": gpus})

    def _run_all(self, todo: Sequence[FileTask], *, in_prefix: bool) -> None:
        ray, workers = ray_module(), self._workers
        assert workers is not None
        waiting, tries = deque(todo), Counter[tuple[str, int]]()
        running: dict[Any, tuple[int, FileTask]] = {}
        error: BaseException | None = None
        while running or (waiting and error is None):
            while waiting and workers.free and error is None:
                task, number = waiting.popleft(), workers.free.popleft()
                there = replace(task, path=_absolute(task.path))
                reference = workers.actors[number].run.remote(there, in_prefix)
                running[reference] = number, task
            # Without a file in work there must be a worker soon.
            workers.settle(wait=not running)
            done = ray.wait(list(running), timeout=_POLL_SECONDS)[0] if running else []
            self._tell_progress()
            for reference in done:
                number, task = running.pop(reference)
                try:
                    again = self._settled(reference, number, task, tries)
                    waiting.extendleft([task] * again)
                except Exception as exc:
                    # What a worker raises is about the job, not about its file.
                    error = getattr(exc, "cause", None) or exc
            if self._stop.is_set() and error is None and (running or waiting):
                error = Stopped()
            if error is not None and running:
                ray.get(self.writer.stop.remote())
        self._tell_progress()
        if error is not None:
            raise error

    def _settled(
        self, reference: Any, number: int, task: FileTask, tries: Counter[tuple[str, int]]
    ) -> bool:
        """A task has left its worker; answers whether it has to be tried again."""
        from ray.exceptions import RayActorError

        workers = self._workers
        assert workers is not None
        try:
            self._note(replace(ray_module().get(reference), path=task.path))
        except RayActorError as exc:
            workers.replace(number)
            if self._is_done(task):
                return False
            tries[task.key] += 1
            if tries[task.key] < MAX_TRIES:
                return True
            why = last_line(exc)
            self._set_aside(task, f"its worker died {MAX_TRIES} times while it was watched: {why}")
        else:
            workers.free.append(number)
        return False

    def _find_ranges(
        self, files: Sequence[tuple[str, MediaRow]]
    ) -> Iterator[list[MediaRange] | str]:
        from ray.exceptions import RayActorError
        from ray.util import ActorPool

        workers = self._workers
        assert workers is not None
        left, losses = deque((_absolute(path), media) for path, media in files), 0
        while left:
            # Those that are there; tasks of their own would wait for cores that the workers hold.
            pool = ActorPool([workers.actors[number] for number in workers.free])
            try:
                for found in pool.map(lambda worker, file: worker.ranges.remote(*file), list(left)):
                    left.popleft()
                    yield found
            except RayActorError as exc:
                losses += 1
                if losses == MAX_TRIES:
                    raise ConfigError(
                        f"a worker was lost {MAX_TRIES} times while {left[0][0]} or others were "
                        f"cut: {last_line(exc)}; leave out --split, or index that file alone"
                    ) from exc
                workers.replace_lost()

    def _tell_progress(self) -> None:
        for progress in ray_module().get(self.writer.take_progress.remote()):
            if self._on_progress is not None:
                self._on_progress(progress)

    def _end(self) -> None:
        actors = [] if self._workers is None else self._workers.actors
        for actor in [*actors, *self._hosts, self.writer]:
            if actor is not None:
                ray_module().kill(actor)


class _Workers:
    """Places for workers: each is starting, free, or at a file.

    Args:
        make: Number of a place → a new worker for it.
        count: Places.
        resources: Of each worker.
    """

    def __init__(self, make: Callable[[int], Any], count: int, resources: dict[str, float]) -> None:
        self._make, self._resources = make, resources
        self.actors = [make(number) for number in range(count)]
        self.free: deque[int] = deque()
        self._failures = Counter[int]()
        self._starting = {actor.facts.remote(): n for n, actor in enumerate(self.actors)}

    def replace(self, number: int) -> None:
        """Its worker died."""
        self.actors[number] = self._make(number)
        self._starting[self.actors[number].facts.remote()] = number

    def replace_lost(self) -> None:
        """Of those that are free, the ones that have died; one is there afterwards."""
        from ray.exceptions import RayActorError

        for number in list(self.free):
            try:
                ray_module().get(self.actors[number].facts.remote())
            except RayActorError:
                self.free.remove(number)
                self.replace(number)
        self.settle(wait=True)

    def settle(self, *, wait: bool) -> None:
        """Those that have started are free; where none is, one may be waited for.

        Raises:
            ConfigError: None came, or one cannot be made or is of another version.
        """
        ray = ray_module()
        must_wait = wait and not self.free
        began = time.monotonic()
        while self._starting:
            seconds = min(1.0, READY_SECONDS) if must_wait else 0.0
            ready, _ = ray.wait(list(self._starting), num_returns=1, timeout=seconds)
            for reference in ready:
                self._started(reference)
            if not must_wait or self.free:
                break
            waited = time.monotonic() - began
            if not ready and waited > (START_SECONDS if self._fits() else READY_SECONDS):
                raise ConfigError(
                    f"no worker could be started in {waited:.0f} s: asked for were "
                    f"{len(self.actors)} with {told(self._resources)} each; the cluster has "
                    f"{told(ray.cluster_resources())}, and free are "
                    f"{told(ray.available_resources())}; ask for less, or wait for the others"
                )

    def _started(self, reference: Any) -> None:
        """A worker is there; or it is not, and is made again: its machine may have gone."""
        from ray.exceptions import RayActorError

        number = self._starting.pop(reference)
        try:
            found: ActorFacts = ray_module().get(reference)
        except RayActorError as exc:
            self._failures[number] += 1
            if self._failures[number] == MAX_TRIES:
                raise ConfigError(
                    f"a worker could not be started, {MAX_TRIES} times: {last_line(exc)}"
                ) from exc
            self.replace(number)
            return
        check_version("workers", found)
        self.free.append(number)

    def _fits(self) -> bool:
        """There is a node that is large enough."""
        return any(
            node["Alive"]
            and all(node["Resources"].get(k, 0) >= v for k, v in self._resources.items())
            for node in ray_module().nodes()
        )


def _absolute(path: str) -> str:
    """Workers may stand in other folders."""
    return path if is_url(path) else str(Path(path).absolute())
