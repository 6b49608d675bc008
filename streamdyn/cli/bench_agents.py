"""`streamdyn bench agents`: every video agent trained and judged on every task, one table."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from streamdyn.cli import options
from streamdyn.cli.bench import bench_app
from streamdyn.cli.output import print_json, remark


@bench_app.command("agents")
def bench(
    clips: options.Clips,
    idle: Annotated[
        list[Path] | None,
        typer.Option("--idle", metavar="FILE", help="Footage without any action; several times."),
    ] = None,
    video: Annotated[
        list[str] | None,
        typer.Option(
            "--video",
            metavar="PATH",
            help="Videos, or folders of them, for the agreement with a full pass.",
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task", metavar="NAME", help="clips, streams, queries or agreement. Default: all."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="All that is made is kept here.")
    ] = Path("agent-runs"),
    fold: Annotated[
        list[int] | None,
        typer.Option("--fold", metavar="N", help="Of 0 to 4; may be given again. Default: all."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", min=1, help="Of agents.")] = 3,
    num_train: Annotated[
        int, typer.Option("--train", metavar="N", min=1, help="Streams of a fold to train on.")
    ] = 120,
    num_test: Annotated[
        int, typer.Option("--test", metavar="N", min=1, help="Streams of a fold to be judged on.")
    ] = 60,
    num_searched: Annotated[
        int,
        typer.Option("--searched", metavar="N", min=1, help="Streams of a fold to find clips in."),
    ] = 20,
    page: Annotated[
        Path | None,
        typer.Option("--page", metavar="FILE", help="Tables, .md, with plots beside."),
    ] = None,
    recognizer: options.Recognizer = None,
    device: options.Device = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Join streams, train every agent from every seed, and run it on clips it has not seen.

    Each is run from the file, decoding included, next to the dense pass: right answers, recognizer
    calls, milliseconds by stage and wall clock. Run the same command again to go on where it
    stopped; folds may be measured by several processes into one folder.
    """
    import torch

    from streamdyn.errors import ConfigError, UnknownName
    from streamdyn.pipelines.agents_report import page_of, write_page
    from streamdyn.pipelines.bench_agents import NUM_FOLDS, TASKS, AgentBench
    from streamdyn.pipelines.video_index import find_videos

    tasks = task or TASKS
    for name in tasks:
        if name not in TASKS:
            raise UnknownName("task", name, TASKS)
    if wrong := [number for number in fold or () if not 0 <= number < NUM_FOLDS]:
        raise ConfigError(f"folds are 0 to {NUM_FOLDS - 1}, got {wrong}")
    torch.set_num_threads(1)
    resolved = options.run_config(config, options.overrides(recognizer=recognizer, device=device))
    run = AgentBench(
        clips,
        idle or [],
        find_videos(video) if video else [],
        out,
        resolved,
        folds=fold or range(NUM_FOLDS),
        seeds=seeds,
        num_train=num_train,
        num_test=num_test,
        num_searched=num_searched,
        on_step=remark,
    )
    measured = run.run(tasks)
    if page is not None:
        write_page(measured, page)
        remark(f"page: {page}")
    if as_json:
        print_json(asdict(measured))
    else:
        typer.echo(page_of(measured, {}))
