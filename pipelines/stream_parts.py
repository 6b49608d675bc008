"""The parts of a stream job, from its configuration."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamdyn.audit import AuditRule
from streamdyn.budget import Budget
from streamdyn.config import PartConfig
from streamdyn.delivery.clips import Clips
from streamdyn.delivery.courier import Outlet
from streamdyn.delivery.jsonl_file import JsonlFile
from streamdyn.delivery.redis_stream import RedisStream
from streamdyn.delivery.webhook import Webhook
from streamdyn.events import EventRule
from streamdyn.items import Selection
from streamdyn.job import (
    ClipsConfig,
    EventConfig,
    Job,
    JsonlConfig,
    SinkConfig,
    StreamConfig,
    WebhookConfig,
)
from streamdyn.outcome import Outcome
from streamdyn.protocols import Recognizer
from streamdyn.registry import build
from streamdyn.run.load import LoadRule
from streamdyn.run.stream_worker import StreamTask
from streamdyn.sources.live.urls import Address

_TOPICS = {
    "events": frozenset({"event"}),
    "outcomes": frozenset({"outcome"}),
    "all": frozenset({"event", "outcome"}),
}


FOR_EVER = 1e15
PACKETS = "packets"
"""In the state folder: the spools, one a stream."""


class TakingTurns:
    """A recognizer of which only some streams get hold at once, in the order they asked.

    Args:
        recognizer: Set up.
        places: Streams at once.
    """

    def __init__(self, recognizer: Recognizer, places: int) -> None:
        self._recognizer, self._places = recognizer, threading.BoundedSemaphore(places)
        self.name, self.version = recognizer.name, recognizer.version
        self.input, self.batch_size = recognizer.input, recognizer.batch_size

    def setup(self, device: str) -> None:
        """Was done."""

    def initial_hidden(self) -> Any:
        """Of the recognizer."""
        return self._recognizer.initial_hidden()

    def recognize(self, selection: Selection, hidden: Any) -> tuple[list[Outcome], Any]:
        """When it is this stream's turn."""
        with self._places:
            return self._recognizer.recognize(selection, hidden)

    def agree(self, propagated: Outcome, looked_up: Outcome) -> float:
        """Of the recognizer."""
        return self._recognizer.agree(propagated, looked_up)


def task_of(job: Job, name: str, recognizer: Recognizer) -> StreamTask:
    """What a worker is given for a stream of a job.

    Raises:
        ConfigError: A part or an option is wrong.
    """
    config, stream = job.config, job.config.streams[name]
    policy_config: PartConfig = stream.policy or config.policy
    budget = (stream.budget or config.budget).model_dump()
    policy = policy_config.build("policy")
    is_text = stream.kind == "text"
    options = stream.source if is_text else {**config.source, **stream.source}
    source = build(
        "source", "live_text" if is_text else "live",
        path=_location(job, stream),
        stream=name,
        spool=spool_of(job, name),
        **options,
    )  # fmt: skip
    outcome_of = {
        "policy": [policy_config.model_dump(), policy.version],
        "recognizer": [config.recognizer.model_dump(), recognizer.version],
        "budget": budget,
        "audit": [config.audit if stream.audit is None else stream.audit, config.seed],
    }
    # A file and a text have times of their own: others cannot follow on the same timeline.
    address = Address(stream.url)
    has_own_times = is_text or address.is_file
    timeline = hashlib.sha256(stream.url.encode()).hexdigest()[:8] if has_own_times else ""
    text = json.dumps(outcome_of, sort_keys=True, default=str)
    return StreamTask(
        name,
        source,
        policy,
        f"{hashlib.sha256(text.encode()).hexdigest()[:16]} {timeline}",
        audit=AuditRule(config.audit if stream.audit is None else stream.audit, config.seed),
        budget=Budget(**budget),
        events=_rule(stream, config.events),
        load=LoadRule(**config.load.model_dump()),
    )


def _rule(stream: StreamConfig, shared: EventConfig) -> EventRule:
    rule = (stream.events or shared).rule()
    if stream.kind == "text" and stream.events is None:
        # The seconds of a text are characters: those of the job are not meant for it.
        return replace(rule, update_seconds=FOR_EVER, gap_seconds=FOR_EVER)
    return rule


def spool_of(job: Job, name: str) -> Path:
    """Folder of what a stream's address has sent; another address has another."""
    url = job.config.streams[name].url
    return job.state / PACKETS / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _location(job: Job, stream: StreamConfig) -> str:
    if "://" in stream.url or stream.url.startswith("/") or stream.url == "-":
        return stream.url
    return str(job.folder / stream.url)


def outlet_of(job: Job, sink: SinkConfig) -> Outlet:
    """A sink of a job.

    Raises:
        MissingExtra: It needs a package that is not installed.
    """
    topics = _TOPICS[sink.send]
    if isinstance(sink, JsonlConfig):
        return JsonlFile(
            job.folder / sink.path,
            rotate_bytes=int(sink.rotate_megabytes * 1e6),
            keep_files=sink.keep_files,
            topics=topics,
        )
    if isinstance(sink, WebhookConfig):
        return Webhook(
            sink.url,
            secret=sink.secret,
            dead_letters=job.state / "dead_letters.jsonl",
            timeout_seconds=sink.timeout_seconds,
            give_up_seconds=sink.give_up_hours * 3600,
            topics=topics,
        )
    if isinstance(sink, ClipsConfig):
        return Clips(
            job.folder / sink.path,
            lambda stream: spool_of(job, stream),
            before_seconds=sink.before_seconds,
            after_seconds=sink.after_seconds,
            longest_seconds=sink.longest_seconds,
            keep_bytes=int(sink.keep_gigabytes * 1e9),
        )
    return RedisStream(sink.url, stream=sink.stream, longest=sink.longest, topics=topics)
