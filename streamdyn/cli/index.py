"""`streamdyn index`: watch files through an agent and store what was seen."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from streamdyn.cli import options
from streamdyn.cli.app import STOPPED, app
from streamdyn.cli.options import run_config
from streamdyn.cli.output import complain, print_json, print_json_lines, remark, show, table

PROGRESS = ("auto", "json", "none")


@app.command()
def index(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Files, folders or URLs of videos.")
    ],
    into: Annotated[
        Path, typer.Option("--into", metavar="FILE", help="The index; made when it is missing.")
    ],
    policy: options.Policy = None,
    recognizer: options.Recognizer = None,
    source: options.Source = None,
    device: options.Device = None,
    config: options.Config = None,
    target_agreement: options.TargetAgreement = None,
    audit: options.Audit = None,
    budget_share: options.BudgetShare = None,
    budget_items: options.BudgetItems = None,
    budget_ms: options.BudgetMs = None,
    propagation: options.PropagationOption = None,
    seed: options.Seed = None,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", help="Workers; by default one a core.", min=1)
    ] = None,
    runner: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="local: threads of this process; processes: of this machine; ray: a cluster.",
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Of a running Ray cluster, or auto; by default one is started here.",
        ),
    ] = None,
    recognizers: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="On Ray: shared by all workers; 0: each has its own."
        ),
    ] = 0,
    gpus: Annotated[
        float,
        typer.Option(metavar="SHARE", min=0, help="On Ray: GPUs of each recognizer, as 0.5."),
    ] = 0.0,
    split: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Cut longer files at keyframes, so that several workers can watch one; the policy "
            "begins afresh at each cut.",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try files again that failed earlier.")
    ] = False,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Start unfinished files afresh.")
    ] = False,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the decision log of every file there, for replay."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder that paths are kept relative to; by default the index's."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be done.")
    ] = False,
    as_json: options.Json = False,
    progress: Annotated[
        str,
        typer.Option(
            "--progress",
            metavar="NAME",
            help="auto: a bar, or lines where there is no terminal; json: an object a line, every "
            "second; none. All on stderr.",
        ),
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no tables.")] = False,
) -> None:
    """Index videos: an agent chooses the frames, a recognizer looks at those only.

    Run the same command again to go on where it stopped; files that have not changed are left
    alone. Exits with 1 if any file failed; the others are indexed all the same.
    """
    from streamdyn.errors import UnknownName

    given = options.overrides(
        policy=policy,
        recognizer=recognizer,
        source=source,
        device=device,
        audit=audit,
        budget_share=budget_share,
        budget_items=budget_items,
        budget_ms=budget_ms,
        propagation=propagation,
        seed=seed,
        split=split,
    )
    resolved = run_config(config, given, target_agreement)
    if progress not in PROGRESS:
        raise UnknownName("progress", progress, PROGRESS)
    videos, failures = find_each(paths)
    if dry_run:
        _print_plan(into, root, resolved, videos, failures, as_json=as_json)
        raise typer.Exit(1 if failures else 0)
    if not videos:
        _complain_of(failures)
        raise typer.Exit(1)
    make_job = _runner(runner, jobs, address=address, hosts=recognizers, host_gpus=gpus)
    failures = _run(
        into, root, resolved, videos, failures, make_job, as_json=as_json, quiet=quiet,
        progress_as=progress, retry_failed=retry_failed, resume=not no_resume, trace_folder=trace,
    )  # fmt: skip
    raise typer.Exit(1 if failures else 0)


def _runner(name: str, jobs: int | None, **cluster: Any) -> Callable[..., Any]:
    """What makes the job: `(index, config, **options)`."""
    from streamdyn.errors import ConfigError, UnknownName
    from streamdyn.pipelines.video_index import IndexJob

    if name == "ray":
        from streamdyn.pipelines.ray_index import RayIndexJob
        from streamdyn.run.ray_cluster import ClusterOptions

        return partial(RayIndexJob, cluster=ClusterOptions(workers=jobs, **cluster))
    if name not in ("local", "processes"):
        raise UnknownName("runner", name, ["local", "processes", "ray"])
    if given := [option for option, value in cluster.items() if value]:
        raise ConfigError(f"{', '.join(given)} are for --runner ray")
    if name == "processes":
        from streamdyn.pipelines.process_index import ProcessIndexJob

        return partial(ProcessIndexJob, jobs=jobs)
    return partial(IndexJob, jobs=jobs)


def find_each(paths: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Videos, and the paths where there is none with the reason: the others go on."""
    from streamdyn.errors import SourceError
    from streamdyn.pipelines.video_index import find_videos

    videos: set[str] = set()
    failures: dict[str, str] = {}
    for path in paths:
        try:
            videos.update(find_videos([path]))
        except SourceError as exc:
            failures[path] = str(exc)
    return sorted(videos), failures


def _run(
    into: Path,
    root: Path | None,
    config: Any,
    videos: list[str],
    missing: dict[str, str],
    make_job: Callable[..., Any],
    *,
    as_json: bool,
    quiet: bool,
    progress_as: str,
    **how: Any,
) -> dict[str, str]:
    """Index, print what came of it, and answer the files that failed."""
    from streamdyn.cli.progress import ProgressReport
    from streamdyn.index import SqliteIndex
    from streamdyn.index.overview import overview
    from streamdyn.run.file_worker import Stopped

    with SqliteIndex(into, root=root) as store:
        progress = ProgressReport(
            is_quiet=quiet or progress_as == "none", as_json=progress_as == "json"
        )
        job = make_job(store, config, on_progress=progress.update, **how)
        progress.watch(lambda: _counts(job.report))
        store.start_run(shlex.join(sys.argv), config.model_dump())
        try:
            with progress, _on_interrupt(job.stop):
                report = job.run(videos)
        except Stopped as exc:
            remark(
                f"stopped: every window stored so far is kept in {into}; run the same command "
                "again and it goes on there"
            )
            raise typer.Exit(STOPPED) from exc
        failures: dict[str, str] = (
            missing | report.failures | _failed_earlier(store, report, videos)
        )
        over = overview(store)
    if as_json:
        print_json(_as_json(into, report, failures, over))
    elif not quiet:
        _print_report(into, report, failures, over)
    _complain_of(failures)
    if how["trace_folder"] is not None and report.num_unchanged:
        remark(
            f"no trace of {report.num_unchanged} unchanged files, which were not watched again: "
            "index into a new file to have theirs"
        )
    if report.num_left_failed:
        remark(f"{report.num_left_failed} failed in an earlier call: try again with --retry-failed")
    return failures


def _counts(report: Any) -> tuple[int, int]:
    """Files finished, and files to do."""
    left_alone = report.num_unchanged + report.num_left_failed
    return report.num_indexed + len(report.failures), report.num_files - left_alone


@contextmanager
def _on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C stops after the windows in work, a second one at once."""
    before = signal.getsignal(signal.SIGINT)

    def once(number: int, frame: object) -> None:
        stop()
        remark("stopping after the windows in work; press Ctrl-C again to stop at once")
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _failed_earlier(store: Any, report: Any, videos: Sequence[str]) -> dict[str, str]:
    """Files that an earlier call failed on and this one left alone, with the reason."""
    if not report.num_left_failed:
        return {}
    rows = {v: store.find(store.describe(v).id) for v in videos if v not in report.failures}
    return {video: row.error for video, row in rows.items() if row and row.status == "failed"}


def _complain_of(failures: dict[str, str]) -> None:
    for path, reason in sorted(failures.items()):
        complain(reason if path in reason else f"{path}: {reason}")


def _as_json(into: Path, report: Any, failures: dict[str, str], over: Any) -> dict[str, Any]:
    call = {
        "num_files": report.num_files,
        "num_indexed": report.num_indexed,
        "num_unchanged": report.num_unchanged,
        "wall_seconds": report.wall_seconds,
        "failures": failures,
    }
    return {"index": str(into), "call": call, "whole_index": over.as_dict()}


def _print_report(into: Path, report: Any, failures: dict[str, str], over: Any) -> None:
    from streamdyn.cli import figures

    call = (
        f"{report.num_indexed} files indexed, {report.num_unchanged} unchanged, "
        f"{len(failures)} failed, in {report.wall_seconds:.2f} s"
    )
    num_done = over.statuses.get("done", 0)
    rows = [
        ("this call", call),
        ("files in the index", f"{sum(over.statuses.values())}, {num_done} of them done"),
        *figures.summary_rows(over),
    ]
    show(table(str(into), "what", "*figure", rows=rows), figures.receipt_table(over))
    show(figures.estimate_sentence(over))


def _print_plan(
    into: Path,
    root: Path | None,
    config: Any,
    videos: Sequence[str],
    missing: dict[str, str],
    *,
    as_json: bool,
) -> None:
    from streamdyn.pipelines.video_index import planned_states

    states = planned_states(into, config, videos, root=root)
    if as_json:
        print_json_lines({"path": path, "state": state} for path, state in states.items())
    else:
        show(table(f"What is in {into}", "*file", "state", rows=list(states.items())))
    _complain_of(missing)
