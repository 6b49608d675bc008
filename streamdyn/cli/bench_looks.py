"""`streamdyn bench looks`: where each policy looks, as a picture."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from streamdyn.cli import options
from streamdyn.cli.bench import bench_app
from streamdyn.cli.output import print_json, remark, show, table

DEFAULT_POLICIES = (
    "uniform_k:k=8", "bisect", "scsampler:k=8", "marl:k=8", "adaframe:k=8", "liteeval", "ffnet",
    "skip_rnn",
)  # fmt: skip


@bench_app.command("looks")
def bench(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Videos.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", metavar="NAME[:KEY=VALUE,...]", help="To show; may be given again."
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="The picture, as .png or .svg.")
    ] = None,
    recognizer: options.Recognizer = None,
    device: options.Device = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Show where each policy looks in some videos."""
    from streamdyn.config import PartConfig, parse_part
    from streamdyn.pipelines.bench_looks import bench_looks, plot_looks
    from streamdyn.pipelines.plots import plot_format

    if plot is not None:
        plot_format(plot)
    resolved = options.run_config(config, options.overrides(recognizer=recognizer, device=device))
    looker = resolved.build_recognizer()
    looker.setup(resolved.device)
    names = list(dict.fromkeys(policy or DEFAULT_POLICIES))
    policies = {name: PartConfig(**parse_part(name)).build("policy") for name in names}
    found = bench_looks([str(path) for path in paths], looker, policies, on_step=remark)
    if plot is not None:
        plot_looks(found, plot)
        remark(f"plot: {plot}")
    if as_json:
        print_json([asdict(looks) for looks in found])
        return
    show(
        table(
            "where each policy looked", "video", "policy", ">items", ">looks", "seconds",
            rows=[
                (
                    Path(looks.path).name,
                    looks.policy,
                    f"{looks.num_items:,}",
                    f"{len(looks.ordinals):,}",
                    _some(looks.seconds),
                )
                for looks in found
            ],
        )
    )  # fmt: skip


def _some(seconds: tuple[float, ...]) -> str:
    shown = " ".join(f"{second:.1f}" for second in seconds[:12])
    return f"{shown} …" if len(seconds) > 12 else shown
