"""`streamdyn watch`: live streams, until told to stop."""

from __future__ import annotations

import json
import logging
import re
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from streamdyn.cli import options
from streamdyn.cli.app import app
from streamdyn.cli.output import percent, print_json, print_lines, remark
from streamdyn.clock import format_time

DEFAULT_INDEX = Path("streamdyn-watch.db")
JOB_SUFFIXES = (".yaml", ".yml")
TEXT_SUFFIXES = (".txt", ".log", ".md")


@app.command()
def watch(
    target: Annotated[
        str,
        typer.Argument(metavar="JOB.yaml|URL", help="A job file, or one camera, playlist or file."),
    ] = "",
    into: Annotated[
        Path, typer.Option("--into", metavar="FILE", help="With a URL: the index.")
    ] = DEFAULT_INDEX,
    policy: options.Policy = None,
    recognizer: options.Recognizer = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="live:KEY=VALUE,...",
            help="With a URL: how it is read; see: streamdyn sources.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME", help="Events of it only; may be given again."),
    ] = None,
    min_score: Annotated[
        float, typer.Option("--min-score", metavar="SCORE", help="Of a label that counts.")
    ] = 0.5,
    audit: options.Audit = None,
    stop_after: Annotated[
        float | None,
        typer.Option("--for", metavar="SECONDS", help="End after so long; default: never."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="N", help="Of metrics and commands; 0: any that is free."),
    ] = None,
    runner: Annotated[
        str | None,
        typer.Option(
            "--runner",
            metavar="NAME",
            help="With a URL: local, in threads of this process; or ray, in actors.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="HOST:PORT",
            help="With --runner ray: the cluster; by default one is started.",
        ),
    ] = None,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", help="Say how it goes, on stderr.")
    ] = 30.0,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the job file is right.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Only print the JSON schema of job files.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print events, and what is logged, as JSON lines.")
    ] = False,
) -> None:
    """Watch live streams: events are printed, and all is kept in an index that can be searched.

    It connects again when a connection breaks, and goes on where it was when it was killed. SIGTERM
    and Ctrl-C: what has come is watched first. SIGHUP: the job file is read again.
    """
    from streamdyn.job import JobConfig

    if schema:
        print_json(JobConfig.model_json_schema())
        return
    if not target:
        raise typer.BadParameter("give a job file or a URL", param_hint="JOB.yaml|URL")
    if Path(target).suffix in JOB_SUFFIXES:
        given = (policy, recognizer, source, label, audit, runner, address)
        job, file = _of_file(target, port, any(option is not None for option in given))
    else:
        ray = _ray_table(runner, address)
        job = _of_url(target, into, policy, recognizer, source, label, min_score, audit, port, ray)
        file = None
    if check:
        _check(job)
        return
    if as_json:
        _log_as_json()
    _run(job, file, stop_after, every, as_json=as_json)


def _of_file(target: str, port: int | None, has_options: bool) -> tuple[Any, Path]:
    from streamdyn.errors import ConfigError
    from streamdyn.job import Job, load_job

    if has_options:
        raise ConfigError("options of streams stand in the job file; leave them out here")
    job = load_job(target)
    if port is not None:
        ops = job.config.ops.model_copy(update={"port": port})
        job = Job(job.config.model_copy(update={"ops": ops}), job.folder)
    return job, Path(target)


def _of_url(
    target: str,
    into: Path,
    policy: str | None,
    recognizer: str | None,
    source: str | None,
    labels: Sequence[str] | None,
    min_score: float,
    audit: float | None,
    port: int | None,
    ray: dict[str, Any] | None,
) -> Any:
    from streamdyn.config import parse_part
    from streamdyn.job import Job, JobConfig

    table: dict[str, Any] = {
        "index": str(into.absolute()),
        "streams": {_name_of(target): _stream(target)},
        "events": {"labels": list(labels or ()), "min_score": min_score},
        "ops": {"port": 0 if port is None else port},
        "ray": ray,
    }
    given = {"policy": policy, "recognizer": recognizer}
    table |= {name: parse_part(text) for name, text in given.items() if text}
    if source:
        options_of_it = {k: v for k, v in parse_part(source).items() if k != "name"}
        table["streams"][_name_of(target)]["source"] = options_of_it
    if audit is not None:
        table["audit"] = audit
    return Job(JobConfig.model_validate(table), Path.cwd())


def _ray_table(runner: str | None, address: str | None) -> dict[str, Any] | None:
    from streamdyn.errors import ConfigError, UnknownName

    if runner not in (None, "local", "ray"):
        raise UnknownName("runner", runner, ["local", "ray"])
    if runner == "ray":
        return {"address": address}
    if address is not None:
        raise ConfigError("--address is for --runner ray")
    return None


def _name_of(target: str) -> str:
    """Of the stream: its address, so that each has its own in one index."""
    from streamdyn.sources.live import redacted

    words = re.sub(r"[^A-Za-z0-9._]+", "-", redacted(target)).strip("-.")
    return words[-60:].lstrip("-._") or "stdin"


def _stream(target: str) -> dict[str, Any]:
    url = target if "://" in target or target == "-" else str(Path(target).absolute())
    is_text = target == "-" or target.startswith("redis") or target.endswith(TEXT_SUFFIXES)
    return {"url": url, "kind": "text" if is_text else "video"}


def _check(job: Any) -> None:
    from streamdyn.pipelines.stream_parts import outlet_of, task_of

    recognizer = job.config.recognizer.build("recognizer")
    for name in job.config.streams:
        task_of(job, name, recognizer)
    for sink in job.config.sinks:
        outlet_of(job, sink)
    remark(f"right: {len(job.config.streams)} streams, {len(job.config.sinks)} sinks")


def _run(job: Any, file: Path | None, stop_after: float | None, every: float, **how: bool) -> None:
    from streamdyn.pipelines.stream_job import StreamJob

    running = StreamJob(job, file=file, outlets=[_Printer(**how)])
    signal.signal(signal.SIGTERM, lambda number, frame: running.stop())
    signal.signal(signal.SIGINT, lambda number, frame: running.stop())
    signal.signal(signal.SIGHUP, lambda number, frame: _reload(running))
    over = threading.Event()
    if stop_after is not None:
        timer = threading.Timer(stop_after, running.stop)
        timer.daemon = True
        timer.start()
    teller = threading.Thread(target=_tell, args=(running, every, over), daemon=True)
    teller.start()
    try:
        running.run()
    finally:
        over.set()
    _say(running.status())


def _reload(running: Any) -> None:
    from streamdyn.errors import StreamdynError

    def reload() -> None:
        try:
            remark(f"reloaded: {running.reload()}")
        except StreamdynError as exc:
            remark(f"not reloaded: {exc}")

    threading.Thread(target=reload, daemon=True).start()


def _tell(running: Any, every: float, over: threading.Event) -> None:
    while not over.wait(every):
        _say(running.status())


def _say(status: dict[str, Any]) -> None:
    for stream in status["streams"]:
        seen = stream["process"] + stream["partial"]
        share = seen / stream["frames"] if stream["frames"] else 0.0
        parts = [
            f"{stream['stream']}: {stream['state']}, {stream['connection']}",
            f"{stream['frames']:,} items, {percent(share)} looked at",
            f"{stream['drop']:,} dropped, {stream['error']:,} errors",
            f"lag {stream['lag_seconds']:.1f} s",
            f"{sum(stream['reconnects'].values())} reconnects",
        ]
        if stream["last_error"]:
            parts.append(f"last error: {stream['last_error']}")
        remark("; ".join(parts))


class _Printer:
    """Events on stdout."""

    name = key = "stdout"
    topics = frozenset({"event"})

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def send(self, messages: Sequence[Any]) -> int:
        """Print them."""
        for message in messages:
            if self._as_json:
                print_lines(message.body)
            else:
                print_lines(_sentence(json.loads(message.body)))
        return len(messages)

    def close(self) -> None:
        """Nothing is held back."""


def _sentence(event: dict[str, Any]) -> str:
    seconds = event["stop_seconds"] - event["start_seconds"]
    when = format_time(event["start_seconds"])
    lasted = f", {seconds:.1f} s" if event["phase"] != "start" else ""
    return (
        f"{when} {event['stream']} {event['phase']} {event['label']} {event['score']:.2f}{lasted}"
    )


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"at": record.created, "level": record.levelname, "message": record.getMessage()}
        return json.dumps(line | {"logger": record.name})


def _log_as_json() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    ours = logging.getLogger("streamdyn")
    ours.handlers[:] = [handler]
