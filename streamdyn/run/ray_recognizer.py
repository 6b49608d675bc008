"""A recognizer of a cluster that many workers share, at both its ends."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from streamdyn.config import RunConfig
from streamdyn.errors import ConfigError, StreamdynError
from streamdyn.items import Selection
from streamdyn.outcome import Outcome
from streamdyn.protocols import Recognizer
from streamdyn.receipt import Receipt
from streamdyn.run.ray_actor import (
    ActorFacts,
    check_version,
    get,
    last_line,
    ray_module,
    remote,
    stand_in,
)
from streamdyn.run.ray_cluster import START_SECONDS, told
from streamdyn.run.ray_metrics import Metrics

ANSWER_SECONDS = 600.0
"""To wait for an answer; a host that is started again has to load its model meanwhile."""


@dataclass(slots=True)
class _Asked:
    """A request that waits."""

    selection: Selection
    hidden: Any
    answer: asyncio.Future[Any]
    since: float


class RecognizerHost:
    """A recognizer that many workers share; requests that wait are recognized together.

    Every worker waits for its answer before it asks again, so that first come, first served is
    fair, and a host never holds more than one request of each.

    Args:
        config: Parts and options, as JSON.
        standing: Folder of the driver, see `Worker`.
        wait_ms: How long a request may wait for others to come.
    """

    def __init__(self, config: str, standing: str, wait_ms: float = 2.0) -> None:
        stand_in(standing)
        self._config = RunConfig.model_validate_json(config)
        self._loaded: Recognizer | None = None
        self._wait_seconds = wait_ms / 1000
        self._waiting: list[_Asked] = []
        self._flushing: asyncio.Task[None] | None = None
        self._metrics = Metrics()

    def _recognizer(self) -> Recognizer:
        """Loaded when it is asked for: an actor that fails while it is made is not made again."""
        if self._loaded is None:
            recognizer = self._config.build_recognizer()
            recognizer.setup(self._config.device)
            self._loaded = recognizer
        return self._loaded

    def facts(self) -> ActorFacts:
        """What it is and where, once it is loaded."""
        self._recognizer()
        return ActorFacts.here()

    def initial_hidden(self) -> Any:
        """See `Recognizer`."""
        return self._recognizer().initial_hidden()

    async def recognize(
        self, selection: Selection, hidden: Any
    ) -> tuple[list[Outcome], Any, Receipt]:
        """See `Recognizer`; also what it cost here: its share of the batch, and waiting."""
        self._recognizer()  # A failure is of this request alone.
        answer = asyncio.get_running_loop().create_future()
        asked = _Asked(selection, hidden, answer, perf_counter())
        self._waiting.append(asked)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        outcomes, hidden, recognize_ms = await answer
        waited_ms = (perf_counter() - asked.since) * 1000 - recognize_ms
        return outcomes, hidden, Receipt(recognize_ms=recognize_ms, queue_ms=waited_ms)

    async def _flush(self) -> None:
        while self._waiting:
            if sum(len(one.selection) for one in self._waiting) < self._recognizer().batch_size:
                await asyncio.sleep(self._wait_seconds)
            taken, self._waiting = self._waiting, []
            # Those with a state of their own cannot be put together.
            alone = [[one] for one in taken if one.hidden is not None]
            together = [one for one in taken if one.hidden is None]
            for group in [*([together] if together else []), *alone]:
                try:
                    answers = await asyncio.to_thread(self._recognize, group)
                except Exception as exc:
                    for one in group:
                        one.answer.set_exception(exc)
                else:
                    for one, found in zip(group, answers, strict=True):
                        one.answer.set_result(found)

    def _recognize(self, group: Sequence[_Asked]) -> list[Any]:
        began = perf_counter()
        selections = [one.selection for one in group]
        joined = Selection(
            tuple(item for s in selections for item in s.items),
            tuple(action for s in selections for action in s.actions),
            tuple(effort for s in selections for effort in s.efforts),
        )
        self._metrics.batch(len(joined), [began - one.since for one in group])
        outcomes, hidden = self._recognizer().recognize(joined, group[0].hidden)
        ms_each = (perf_counter() - began) * 1000 / max(1, len(joined))
        answers, first = [], 0
        for selection in selections:
            size = len(selection)
            answers.append((outcomes[first : first + size], hidden, ms_each * size))
            first += size
        return answers


class HostedRecognizer:
    """A recognizer whose looks are taken by a host.

    Args:
        recognizer: The same one, not set up: it says what it wants and when outcomes agree.
        host: Handle of a `RecognizerHost`.
        answer_seconds: To wait for an answer.
        lost: Raised where none comes.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        host: Any,
        *,
        answer_seconds: float = ANSWER_SECONDS,
        lost: type[StreamdynError] = ConfigError,
    ) -> None:
        self._recognizer, self._host = recognizer, host
        self._answer_seconds, self._lost = answer_seconds, lost
        self.name, self.version = recognizer.name, recognizer.version
        self.input, self.batch_size = recognizer.input, recognizer.batch_size
        self._spent = Receipt()
        self._initial: list[Any] = []  # The state that streams begin with, once it is known.

    def setup(self, device: str) -> None:
        """The host is set up already."""

    def initial_hidden(self) -> Any:
        """See `Recognizer`; the host has what it is made of."""
        if not self._initial:
            self._initial.append(self._answer(self._host.initial_hidden.remote(), "its state"))
        return copy.deepcopy(self._initial[0])

    def recognize(self, selection: Selection, hidden: Any) -> tuple[list[Outcome], Any]:
        """Ask the host, and wait.

        Raises:
            StreamdynError: The host cannot be kept alive, or does not answer; see `lost`.
        """
        began = perf_counter()
        outcomes, hidden, spent = self._answer(
            self._host.recognize.remote(selection, hidden), f"{len(selection)} items"
        )
        passed_ms = (perf_counter() - began) * 1000
        spent.transfer_ms = max(0.0, passed_ms - spent.recognize_ms - spent.queue_ms)
        self._spent += spent
        return outcomes, hidden

    def _answer(self, asked: Any, what: str) -> Any:
        from ray.exceptions import GetTimeoutError, RayActorError

        try:
            return get(asked, self._answer_seconds)
        except RayActorError as exc:
            raise self._lost(f"the shared recognizer {self.name} died for good: {exc}") from exc
        except GetTimeoutError as exc:
            raise self._lost(
                f"the shared recognizer {self.name} has not answered a request for {what} for "
                f"{self._answer_seconds:.0f} s; see its log in the folder of Ray's session, and "
                "run the same command again"
            ) from exc

    def take_receipt(self) -> Receipt:
        """What was spent since the last call, here and at the host."""
        spent, self._spent = self._spent, Receipt()
        return spent

    def agree(self, propagated: Outcome, looked_up: Outcome) -> float:
        """See `Recognizer`."""
        return self._recognizer.agree(propagated, looked_up)


def start_hosts(config: str, standing: str, count: int, **resources: float) -> list[Any]:
    """Handles of so many `RecognizerHost`, which are about to start; killed, they start again.

    Args:
        config: See `RecognizerHost`.
        standing: See `RecognizerHost`.
        count: Of them.
        **resources: `num_cpus` and `num_gpus` of each.
    """
    kind = remote(
        RecognizerHost, max_restarts=-1, max_task_retries=-1, max_concurrency=1000, **resources
    )
    return [kind.remote(config, standing) for _ in range(count)]


def await_hosts(hosts: Sequence[Any]) -> None:
    """All of them: a worker may have to wait for any."""
    from ray.exceptions import RayError

    if not hosts:
        return
    ray = ray_module()
    asked = [host.facts.remote() for host in hosts]
    _, missing = ray.wait(asked, num_returns=len(asked), timeout=START_SECONDS)
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(asked)} shared recognizers could not be started in "
            f"{START_SECONDS} s; the cluster has {told(ray.cluster_resources())}, and free "
            f"are {told(ray.available_resources())}; ask for fewer"
        )
    try:
        found = ray.get(asked)
    except RayError as exc:
        raise ConfigError(f"a recognizer could not be started: {last_line(exc)}") from exc
    for facts in found:
        check_version("shared recognizers", facts)
