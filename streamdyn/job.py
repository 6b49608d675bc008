"""The job file: which streams to watch, how, and whom to tell; YAML in, errors with line numbers.

```yaml
index: cameras.db
policy: {name: keyframe}
recognizer: {name: lite0, resolution: 160}
streams:
  gate:
    url: rtsp://${GATE_USER}@10.0.0.7/main     # from the environment: in secrets only
    events: {labels: [person], end_after_seconds: 5}
sinks:
  - {kind: jsonl, path: events.jsonl}
retention: {days: 14, gigabytes: 20}
```
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamdyn.config import BudgetConfig, PartConfig
from streamdyn.errors import ConfigError
from streamdyn.events import EventRule

SECRET_KEYS = ("url", "secret", "token", "password")
"""Only there `${NAME}` stands for a variable of the environment."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_STREAM_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Keys = tuple[str | int, ...]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EventConfig(_Table):
    """When outcomes make an event; see `streamdyn.events.EventRule`."""

    labels: tuple[str, ...] = ()
    min_score: float = Field(default=0.5, ge=0, le=1)
    start_after_seconds: float = Field(default=0.0, ge=0)
    end_after_seconds: float = Field(default=2.0, ge=0)
    cooldown_seconds: float = Field(default=0.0, ge=0)
    update_seconds: float = Field(default=10.0, ge=0)
    gap_seconds: float = Field(default=10.0, gt=0)
    view_changes: bool = True

    def rule(self) -> EventRule:
        """As the tracker takes it."""
        return EventRule(**self.model_dump())


class StreamConfig(_Table):
    """One stream; what is not given is the job's."""

    url: str
    """Of the camera, playlist, file or text; may hold `${NAME}`."""
    kind: Literal["video", "text"] = "video"
    source: dict[str, Any] = {}
    """Options of the source `live` (of text: `live_text`), such as `max_lag_seconds`."""
    policy: PartConfig | None = None
    budget: BudgetConfig | None = None
    events: EventConfig | None = None
    audit: float | None = Field(default=None, ge=0, le=1)


class JsonlConfig(_Table):
    """A file with a message a line."""

    kind: Literal["jsonl"]
    path: str
    rotate_megabytes: float = Field(default=100.0, gt=0)
    keep_files: int = Field(default=10, ge=1)
    send: Literal["events", "outcomes", "all"] = "events"


class WebhookConfig(_Table):
    """An HTTP receiver."""

    kind: Literal["webhook"]
    url: str
    secret: str = ""
    """Signs each message (HMAC-SHA256); may hold `${NAME}`."""
    timeout_seconds: float = Field(default=10.0, gt=0)
    give_up_hours: float = Field(default=24.0, gt=0)
    """A message that was refused for so long goes to the file of dead letters."""
    send: Literal["events", "outcomes", "all"] = "events"


class RedisConfig(_Table):
    """A Redis stream."""

    kind: Literal["redis"]
    url: str
    stream: str = "streamdyn"
    longest: int = Field(default=100_000, ge=1)
    """Entries that Redis keeps, about."""
    send: Literal["events", "outcomes", "all"] = "events"


class ClipsConfig(_Table):
    """A folder of clips and pictures of events that have ended, cut without encoding again."""

    kind: Literal["clips"]
    path: str
    before_seconds: float = Field(default=3.0, ge=0)
    after_seconds: float = Field(default=3.0, ge=0)
    longest_seconds: float = Field(default=120.0, gt=0)
    keep_gigabytes: float = Field(default=5.0, gt=0)
    send: Literal["events"] = "events"


SinkConfig = Annotated[
    JsonlConfig | WebhookConfig | RedisConfig | ClipsConfig, Field(discriminator="kind")
]


class RetentionConfig(_Table):
    """What is kept; no limit where none is given."""

    days: float | None = Field(default=None, gt=0)
    gigabytes: float | None = Field(default=None, gt=0)
    chapter_seconds: float = Field(default=600.0, gt=0)
    """Streams are kept, searched and deleted in chapters of so much."""


class LoadConfig(_Table):
    """How the budget follows the lag; see `streamdyn.run.load.LoadRule`."""

    target_lag_seconds: float = Field(default=2.0, gt=0)
    shrink: float = Field(default=0.7, gt=0, lt=1)
    grow: float = Field(default=0.02, gt=0)
    least_share: float = Field(default=0.005, gt=0, le=1)


class OpsConfig(_Table):
    """The HTTP server of a job: /metrics, /healthz, /readyz, /status, and commands."""

    host: str = "127.0.0.1"
    port: int = Field(default=9464, ge=0, le=65535)
    """0: any that is free."""
    token: str = ""
    """Commands must bear it; needed where others than this machine can ask."""


class RayConfig(_Table):
    """Streams in actors of a Ray cluster, each with its agent and state, sharing recognizers."""

    address: str | None = None
    """Of the cluster, as `auto` or `HOST:PORT`; by default one is started for the job."""
    recognizers: int = Field(default=1, ge=0)
    """Shared by the streams, which they recognize together; 0: every stream has its own."""
    recognizer_cpus: float = Field(default=1.0, ge=0)
    """Cores that each is placed by, as Ray places actors; they limit nothing."""
    recognizer_gpus: float = Field(default=0.0, ge=0)
    """GPUs of each, or of each stream where none are shared; may be a part of one."""
    stream_cpus: float = Field(default=0.05, ge=0)
    """Cores that each stream is placed by."""


class JobConfig(_Table):
    """A stream job."""

    index: str
    """SQLite file; relative to the job file."""
    state: str = ""
    """Folder of packets and dead letters; `INDEX.state` when not given."""
    streams: dict[Annotated[str, Field(pattern=_STREAM_NAME)], StreamConfig] = Field(min_length=1)
    policy: PartConfig = PartConfig(name="keyframe")
    recognizer: PartConfig = PartConfig(name="lite0")
    source: dict[str, Any] = {}
    """Options of the source `live`, for all streams of video."""
    budget: BudgetConfig = BudgetConfig()
    audit: float = Field(default=0.0, ge=0, le=1)
    """Share of the skipped items to look at after all."""
    seed: int = 0
    device: str = "cpu"
    workers: int | None = Field(default=None, ge=1)
    """Streams that the recognizer looks at side by side; by default one a core."""
    events: EventConfig = EventConfig()
    sinks: tuple[SinkConfig, ...] = ()
    retention: RetentionConfig = RetentionConfig()
    load: LoadConfig = LoadConfig()
    ops: OpsConfig = OpsConfig()
    ray: RayConfig | None = None
    """On Ray; not given: in threads of one process."""

    @model_validator(mode="after")
    def _check_ray(self) -> JobConfig:
        if self.ray is not None and self.workers is not None:
            raise ValueError("workers are of threads; with ray say ray.recognizers")
        if self.ray is not None and any(stream.url == "-" for stream in self.streams.values()):
            raise ValueError("standard input cannot be read by an actor; leave out ray")
        return self


@dataclass(frozen=True, slots=True)
class Job:
    """A job and where its file lies."""

    config: JobConfig
    folder: Path
    """Paths in it are relative to this."""

    @property
    def index(self) -> Path:
        """The index."""
        return self.folder / self.config.index

    @property
    def state(self) -> Path:
        """Folder of packets and dead letters."""
        return self.folder / (self.config.state or f"{self.config.index}.state")

    def topics(self) -> tuple[str, ...]:
        """What any sink is sent: `event`, `outcome`."""
        sent = {sink.send for sink in self.config.sinks}
        outcome = {"outcomes", "all"} & sent
        return ("event", "outcome") if outcome else ("event",)


def load_job(path: str | Path, environment: Mapping[str, str] | None = None) -> Job:
    """A job from its file.

    Raises:
        ConfigError: It cannot be read, or a key or value is wrong; with the line of each.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read the job file {path}: {exc}; check the path") from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError(f"{place}: no YAML: {exc.problem or exc.context}") from exc
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}: a job file holds keys and values, such as 'index: cameras.db'")
    lines: dict[Keys, int] = {}
    problems = [*_doubled(root, (), lines)]
    document = yaml.SafeLoader(text).construct_document(root)
    values = _filled_in(document, (), os.environ if environment is None else environment, problems)
    config = None
    try:
        config = JobConfig.model_validate(values)
    except ValidationError as exc:
        problems += [(tuple(e["loc"]), _said(e)) for e in exc.errors()]
    if problems or config is None:
        said = "; ".join(f"line {_line(lines, keys)}: {problem}" for keys, problem in problems)
        raise ConfigError(f"wrong job file {path}: {said}")
    return Job(config, file.parent)


def _said(error: Mapping[str, Any]) -> str:
    where = ".".join(str(key) for key in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{where}: no such key"
    said = error["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def _line(lines: Mapping[Keys, int], keys: Keys) -> int:
    """Of the innermost key that stands in the file."""
    for count in range(len(keys), -1, -1):
        if keys[:count] in lines:
            return lines[keys[:count]]
    # A union puts the name of its member between the keys.
    kinds = ("jsonl", "webhook", "redis", "clips")
    named = [key for key in keys if key not in kinds]
    return _line(lines, tuple(named)) if len(named) < len(keys) else 1


def _doubled(node: Any, keys: Keys, lines: dict[Keys, int]) -> Iterator[tuple[Keys, str]]:
    """Notes the line of every key and value; keys that stand twice, which YAML lets pass."""
    lines.setdefault(keys, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            yield from _doubled(item, (*keys, place), lines)
    elif isinstance(node, yaml.MappingNode):
        for key_node, value in node.value:
            inner = (*keys, str(key_node.value))
            if inner in lines:
                yield inner, f"{key_node.value} stands twice, on line {lines[inner]} before"
            lines[inner] = key_node.start_mark.line + 1
            yield from _doubled(value, inner, lines)


def _filled_in(
    value: Any, keys: Keys, environment: Mapping[str, str], problems: list[tuple[Keys, str]]
) -> Any:
    """The document with variables of the environment in secrets; notes what is wrong with them."""
    if isinstance(value, dict):
        return {k: _filled_in(v, (*keys, k), environment, problems) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled_in(v, (*keys, k), environment, problems) for k, v in enumerate(value)]
    names = _VARIABLE.findall(value) if isinstance(value, str) else []
    if names and (not keys or keys[-1] not in SECRET_KEYS):
        problems.append((keys, f"${{{names[0]}}} can only stand in {', '.join(SECRET_KEYS)}"))
        return value
    missing = [name for name in names if name not in environment]
    problems += [(keys, f"the environment has no variable {name}") for name in missing]
    if missing or not names:
        return value
    return _VARIABLE.sub(lambda match: environment[match[1]], value)
