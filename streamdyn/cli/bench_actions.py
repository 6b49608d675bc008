"""`streamdyn bench actions`: policies side by side on videos whose action is known."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from streamdyn.cli import options
from streamdyn.cli.bench import bench_app
from streamdyn.cli.output import percent, print_json, remark, show, table

DEFAULT_POLICIES = (
    "full", "uniform_k:k=1", "uniform_k:k=2", "uniform_k:k=4", "uniform_k:k=8", "uniform_k:k=12",
    "first_k:k=4", "frame_exit", "scsampler:k=4", "scsampler:k=8", "scsampler:k=12",
    "ocsampler:k=8", "marl:k=8", "adaframe:k=8", "ffnet", "skip_rnn", "liteeval",
)  # fmt: skip
DEFAULT_SEARCHES = (
    "full", "uniform_k:k=10", "uniform_k:k=20", "uniform_k:k=40", "random:share=0.03",
    "query_search:query=any",
)  # fmt: skip


@bench_app.command("actions")
def bench(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Labelled clips, or streams by `streamdyn join`."),
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="NAME[:KEY=VALUE,...]",
            help="To compare; may be given again. known:k=N knows where the action is.",
        ),
    ] = None,
    queries: Annotated[
        bool,
        typer.Option(
            "--queries", help="Ask where each action of a stream is, not which one it shows."
        ),
    ] = False,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="FILE", help="Weights of actions.")
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option("--fold", metavar="N", help="Only this fifth of labelled clips, from 0."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Rows are kept here as they are measured.")
    ] = Path("action-runs"),
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Accuracy against time, as .png or .svg."),
    ] = None,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Watch every video by every policy and compare accuracy, calls and wall clock.

    Each is run from the file, decoding included, next to the dense pass. Run the same command again
    to go on where it stopped. The shipped weights were made from all clips of their data: judge on
    other videos, or train with --without-fold and give --fold.
    """
    from streamdyn.config import PartConfig, parse_part
    from streamdyn.pipelines.bench_actions import (
        DENSE,
        KNOWN,
        Known,
        bench_actions,
        mcnemar,
        plot_rows,
        summarized,
    )
    from streamdyn.pipelines.labelled_videos import labelled_videos
    from streamdyn.pipelines.plots import plot_format
    from streamdyn.recognizers.actions import Actions

    if plot is not None:
        plot_format(plot)
    # Outcomes are few labels of all looks so far, or every label of each picture alone.
    recognizer = Actions(
        model=None if model is None else str(model), alone=queries, top_k=10_000 if queries else 5
    )
    recognizer.setup(device or "cpu")
    default = DEFAULT_SEARCHES if queries else DEFAULT_POLICIES
    policies: dict[str, Any] = {}
    for name in dict.fromkeys([DENSE, *(policy or default)]):
        part = PartConfig(**parse_part(name))
        is_known = part.name == KNOWN
        policies[name] = Known(**part.options) if is_known else part.build("policy")
    names = list(policies)
    videos = labelled_videos(folders, only_fold=fold)
    watched = bench_actions(videos, recognizer, policies, out, queries=queries, on_step=remark)
    rows = summarized(watched)
    if plot is not None:
        plot_rows(rows, plot)
        remark(f"plot: {plot}")
    evenly = [name for name in names if name.startswith("uniform_k")]
    versus = {
        row.policy: _nearest(row, [r for r in rows if r.policy in evenly])
        for row in rows
        if row.policy in names and row.policy not in (*evenly, DENSE) and evenly
    }
    tests = {name: (other, *mcnemar(watched, name, other)) for name, other in versus.items()}
    if as_json:
        print_json(
            {
                "rows": [asdict(row) for row in rows],
                "against_uniform": {
                    name: dict(zip(("uniform", "wins", "losses", "p"), test, strict=True))
                    for name, test in tests.items()
                },
            }
        )
        return
    show(
        table(
            f"{rows[0].num_videos} videos", "policy", ">accuracy", ">calls", ">ms", ">speed",
            ">executed", "against uniform of about as many calls",
            rows=[
                (
                    row.policy,
                    _accuracy(row),
                    f"{row.calls:.1f}",
                    f"{row.wall_ms:,.0f}",
                    f"{row.ratio:.1f}x ({row.ratio_low:.1f} to {row.ratio_high:.1f})",
                    "" if math.isnan(row.executed) else percent(row.executed),
                    "{}: {} to {}, p {:.2f}".format(*tests[row.policy])
                    if row.policy in tests
                    else "",
                )
                for row in rows
            ],
        )
    )  # fmt: skip


def _accuracy(row: Any) -> str:
    return f"{percent(row.accuracy)} ± {100 * row.standard_error:.1f}" if row.calls else ""


def _nearest(row: Any, others: list[Any]) -> str:
    """The one of about as many calls; the larger of two that are as near."""
    nearest = max(others, key=lambda other: (-abs(other.calls - row.calls), other.calls))
    return str(nearest.policy)
