"""`streamdyn bench video`: the full pass, strides and policies side by side on one's own files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.status import Status

from streamdyn.cli import options
from streamdyn.cli.app import app
from streamdyn.cli.groups import BenchGroup
from streamdyn.cli.output import percent, print_json, remark, show, table

bench_app = typer.Typer(cls=BenchGroup, no_args_is_help=True)
app.add_typer(
    bench_app,
    name="bench",
    help="Compare policies on your videos (`bench PATH...`), or readers on text (`bench text`).",
)


@bench_app.command("video")
def bench(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Videos, or folders of them.")
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="NAME[:KEY=VALUE,...]",
            help="To compare; may be given again. Default: agreement and all baselines.",
        ),
    ] = None,
    recognizer: options.Recognizer = None,
    source: options.Source = None,
    config: options.Config = None,
    device: options.Device = None,
    audit: options.Audit = None,
    budget_share: options.BudgetShare = None,
    budget_items: options.BudgetItems = None,
    budget_ms: options.BudgetMs = None,
    propagation: options.PropagationOption = None,
    seed: options.Seed = None,
    repeats: Annotated[
        int, typer.Option("--repeats", metavar="N", min=1, help="Run everything this often.")
    ] = 1,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Agreement against share, as .png or .svg."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Run a full pass and every policy over the files, and compare.

    Agreement is exact, since the full pass looks at every item. The best stride of the same
    agreement and the greedy oracle are worked out from it with hindsight; the best stride of the
    first policy is run as well. Times are wall clock, decoding included, audits too.
    """
    from streamdyn.config import PartConfig, parse_part
    from streamdyn.pipelines.bench_report import plot as draw
    from streamdyn.pipelines.compare_policies import DEFAULT_POLICIES
    from streamdyn.pipelines.compare_policies import bench as run_bench
    from streamdyn.pipelines.plots import plot_format
    from streamdyn.pipelines.video_index import find_videos

    if plot is not None:
        plot_format(plot)
    given = options.overrides(
        recognizer=recognizer,
        source=source,
        device=device,
        audit=audit,
        budget_share=budget_share,
        budget_items=budget_items,
        budget_ms=budget_ms,
        propagation=propagation,
        seed=seed,
    )
    resolved = options.run_config(config, given)
    policies = {
        text: PartConfig(**parse_part(text)).build("policy") for text in policy or DEFAULT_POLICIES
    }
    videos = find_videos(paths)
    with _steps() as on_step:
        report = run_bench(videos, resolved, policies, repeats=repeats, on_step=on_step)
    for path, reason in report.failures.items():
        remark(f"left out {path}: {reason}")
    document = report.as_dict()
    if as_json:
        print_json(document)
    else:
        for file, entry in document["files"].items():
            show(_comparison(Path(file).name, entry))
        if len(document["files"]) > 1:
            show(_comparison(f"all {len(document['files'])} files", document["pooled"]))
        show(_stages(document["pooled"]))
    if plot is not None:
        draw(report, plot)
        remark(f"plot: {plot}")
    if report.failures:
        raise typer.Exit(1)


@contextmanager
def _steps() -> Iterator[Any]:
    """Shows what runs now on stderr, in place on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield remark
        return
    with Status("", console=console) as status:
        yield lambda step: status.update(step)


def _comparison(title: str, entry: dict[str, Any]) -> Any:
    full = entry["full"]
    rows: list[Sequence[object]] = [
        ("full pass", "100.0 %", "1.000", "1.0x", f"{median(full['wall_ms']):,.0f}", "")
    ]
    for name, run in entry["policies"].items():
        spread = f" ({run['ratio_min']:.1f} to {run['ratio_max']:.1f})"
        rows.append(
            (
                name,
                percent(run["share"]),
                f"{run['agreement']:.3f}",
                f"{run['ratio']:.1f}x" + (spread if len(run["wall_ms"]) > 1 else ""),
                f"{median(run['wall_ms']):,.0f}",
                f"{run['equal_stride']}: {percent(run['equal_stride_share'])}",
            )
        )
    rows.append(("greedy oracle", percent(entry["oracle_share"]), "1.000", "", "", ""))
    ratio = median(full["wall_ms"]) / entry["demux_only_ms"]
    rows.append(("demux only", "0.0 %", "", f"{ratio:.0f}x", f"{entry['demux_only_ms']:,.0f}", ""))
    return table(
        f"{title}: {full['num_items']:,} items",
        "policy", ">recognized", ">agreement", ">speed", ">ms", ">stride of equal agreement",
        rows=rows,
    )  # fmt: skip


def _stages(pooled: dict[str, Any]) -> Any:
    runs = {"full pass": pooled["full"], **pooled["policies"]}
    names = ("demux", "decode", "convert", "preview", "policy", "recognize")
    rows = [
        (
            name,
            *(f"{run['stage_ms'][stage]:,.0f}" for stage in names),
            f"{run['chosen_only_ms']:,.0f}",
        )
        for name, run in runs.items()
    ]
    return table(
        "milliseconds by stage, all files, last repetition",
        "policy", *(f">{name}" for name in names), ">chosen items only",
        rows=rows,
    )  # fmt: skip
