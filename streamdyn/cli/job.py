"""`streamdyn job` and `streamdyn top`: ask and command a stream job that runs."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import typer

from streamdyn.cli.app import app
from streamdyn.cli.options import Json
from streamdyn.cli.output import percent, print_json, remark, show, table

job_app = typer.Typer(no_args_is_help=True)
app.add_typer(job_app, name="job", help="Ask and command a stream job that runs.")

At = Annotated[
    str,
    typer.Option(
        "--at",
        metavar="URL|JOB.yaml",
        help="Where its server listens, or its job file.",
        envvar="STREAMDYN_JOB",
    ),
]
Stream = Annotated[
    str | None, typer.Option("--stream", metavar="NAME", help="Default: all of the job.")
]
DEFAULT_AT = "http://127.0.0.1:9464"
_TIMEOUT_SECONDS = 60.0


@job_app.callback()
def _job() -> None:
    """Ask and command a stream job that runs."""


@job_app.command()
def status(at: At = DEFAULT_AT, as_json: Json = False) -> None:
    """How the streams and sinks fare."""
    found = ask(at, "status")
    if as_json:
        print_json(found)
        return
    show(*_page(found, {}))


@job_app.command()
def pause(stream: Stream = None, at: At = DEFAULT_AT) -> None:
    """Hang up; what has come is watched first."""
    _command(at, "pause", stream)


@job_app.command()
def resume(stream: Stream = None, at: At = DEFAULT_AT) -> None:
    """End a pause."""
    _command(at, "resume", stream)


@job_app.command()
def restart(stream: Stream = None, at: At = DEFAULT_AT) -> None:
    """End and begin again, after the last stored window."""
    _command(at, "restart", stream)


@job_app.command()
def reload(at: At = DEFAULT_AT) -> None:
    """Read the job file again: streams that are new, gone or changed are begun or ended."""
    _command(at, "reload", None)


@job_app.command()
def stop(at: At = DEFAULT_AT) -> None:
    """Watch what has come, deliver what is left, and end."""
    _command(at, "stop", None)


@app.command()
def top(
    at: At = DEFAULT_AT,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", help="Between two looks.", min=0.1)
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look twice, print, and end.")] = False,
) -> None:
    """Watch a stream job at work: frames in, looked at, dropped, lag, connections made again."""
    from rich.console import Group
    from rich.live import Live

    before = ask(at, "status")
    asked = time.monotonic()
    time.sleep(every)
    if once:
        found = ask(at, "status")
        show(*_page(found, _rates(before, found, time.monotonic() - asked)))
        return
    with Live(refresh_per_second=4, screen=False) as live:
        while True:
            found, now = ask(at, "status"), time.monotonic()
            live.update(Group(*_page(found, _rates(before, found, now - asked))))
            before, asked = found, now
            time.sleep(every)


def _rates(before: dict[str, Any], after: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Stream → frames, looks, skips and drops a second."""
    old = {stream["stream"]: stream for stream in before["streams"]}
    names = ("frames", "process", "skip", "drop")
    return {
        stream["stream"]: {
            name: (stream[name] - old.get(stream["stream"], stream)[name]) / seconds
            for name in names
        }
        for stream in after["streams"]
    }


def _page(found: dict[str, Any], rates: dict[str, Any]) -> list[Any]:
    shown = [stream_table(found, rates)]
    if found["sinks"]:
        shown.append(_sink_table(found["sinks"]))
    return [*shown, *_errors(found)]


def stream_table(found: dict[str, Any], rates: dict[str, Any]) -> Any:
    """Streams; with rates, where they were asked for twice."""
    rows = []
    for stream in found["streams"]:
        rate = rates.get(stream["stream"])
        frames = stream["frames"]
        seen = stream["process"] + stream["partial"]
        counts = [
            f"{rate[name]:.1f}" if rate else f"{stream[name]:,}"
            for name in ("frames", "process", "skip", "drop")
        ]
        agreement, latency = stream["agreement"], stream["latency_p99_seconds"]
        rows.append(
            (
                stream["stream"],
                stream["connection"] if stream["state"] == "watching" else stream["state"],
                *counts,
                percent(seen / frames) if frames else "",
                "" if agreement is None else f"{agreement:.3f}",
                f"{stream['lag_seconds']:.1f}",
                "" if latency is None else f"{latency:.2f}",
                str(sum(stream["reconnects"].values())),
            )
        )
    unit = "/s" if rates else ""
    return table(
        "",
        "stream", "state", f">in{unit}", f">looked{unit}", f">skipped{unit}", f">dropped{unit}",
        ">share", ">agree", ">lag s", ">p99 s", ">again",
        rows=rows,
    )  # fmt: skip


def _errors(found: dict[str, Any]) -> list[str]:
    """What went wrong last, a line for each stream and sink that has something to say."""
    told = [(stream["stream"], stream) for stream in found["streams"]]
    told += [(sink["name"], sink) for sink in found["sinks"] if sink["is_failing"]]
    return [f"{name}: {entry['last_error']}" for name, entry in told if entry["last_error"]]


def _sink_table(sinks: list[dict[str, Any]]) -> Any:
    rows = [
        (
            sink["name"],
            "failing" if sink["is_failing"] else "fine",
            f"{sink['sent']:,}",
            f"{sink['failures']:,}",
        )
        for sink in sinks
    ]
    return table("", "sink", "state", ">sent", ">failed tries", rows=rows)


def _command(at: str, verb: str, stream: str | None) -> None:
    done = ask(at, verb if stream is None else f"{verb}?stream={stream}", post=True)
    for what, names in done.items():
        remark(f"{what}: {', '.join(names) if isinstance(names, list) else names}")


def ask(at: str, path: str, *, post: bool = False) -> dict[str, Any]:
    """What a job answers.

    Raises:
        StoreError: It cannot be reached.
        ConfigError: It refuses the command.
    """
    from streamdyn.errors import ConfigError, StoreError

    address = _address(at)
    headers = {"Authorization": f"Bearer {os.environ.get('STREAMDYN_TOKEN', '')}"}
    request = urllib.request.Request(
        f"{address}/{path}", data=b"" if post else None, headers=headers
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as exc:
        text = exc.read().decode(errors="replace")
        said = json.loads(text)["error"] if text.startswith("{") else text.strip()
        raise ConfigError(f"the job at {address} says: {said}") from exc
    except (OSError, ValueError) as exc:
        raise StoreError(
            f"cannot ask the job at {address}: {getattr(exc, 'reason', exc)}; is it running? give "
            "its address or its job file to --at"
        ) from exc


def _address(at: str) -> str:
    if "://" in at:
        return at.rstrip("/")
    from streamdyn.errors import StoreError
    from streamdyn.job import load_job
    from streamdyn.pipelines.stream_job import OPS_FILE

    file = load_job(at).state / OPS_FILE
    try:
        return str(json.loads(Path(file).read_text())["address"])
    except (OSError, ValueError, KeyError) as exc:
        raise StoreError(f"no job of {at} is running: {file} is not there") from exc
