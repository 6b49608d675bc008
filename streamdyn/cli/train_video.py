"""`streamdyn train video`: agents for video, trained on full passes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from streamdyn.cli import options
from streamdyn.cli.features import gather
from streamdyn.cli.output import print_json, remark, show, table
from streamdyn.cli.text import train_app


@train_app.command("video")
def train(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="As learned_bisect.")],
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Videos, or folders of them; for all but learned_bisect a folder of labelled "
            "clips, and streams by --idle or `streamdyn join`.",
        ),
    ],
    idle: Annotated[
        list[Path] | None,
        typer.Option(
            "--idle",
            metavar="FILE",
            help="Footage without any of the clips' actions, several times: streams are joined of "
            "both, kept in --out, and learned from.",
        ),
    ] = None,
    num_streams: Annotated[
        int, typer.Option("--streams", metavar="N", min=1, help="To join, with --idle.")
    ] = 160,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Features and the trained agent are kept here."),
    ] = Path("video-runs"),
    leave_one_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-out",
            help="Also judge it on every longer video by an agent trained on the others.",
        ),
    ] = False,
    without_fold: Annotated[
        int | None,
        typer.Option(
            "--without-fold", metavar="N", help="Leave out this fifth of labelled clips, from 0."
        ),
    ] = None,
    learner: Annotated[
        str,
        typer.Option("--learner", metavar="NAME", help="Of liteeval's gate: truth, or gumbel."),
    ] = "truth",
    log_dir: Annotated[
        Path | None,
        typer.Option(
            "--log-dir", metavar="DIR", help="Losses by epoch go there, for TensorBoard to show."
        ),
    ] = None,
    recognizer: options.Recognizer = None,
    device: options.Device = None,
    config: options.Config = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Of weights, noise and order.")
    ] = 0,
    as_json: options.Json = False,
) -> None:
    """Train an agent on full passes over videos, and write its weights and card.

    The full passes are made first, and kept, and so is every round of the training: the same
    command goes on where it stopped. Use the result as
    `--policy AGENT:model=DIR/AGENT.safetensors`.
    """
    import torch

    from streamdyn.clips.clip_set import read_clips
    from streamdyn.errors import UnknownName
    from streamdyn.learning.logs import tensorboard_log
    from streamdyn.learning.rounds import Rounds
    from streamdyn.pipelines.labelled_videos import labelled_videos
    from streamdyn.pipelines.train_video import (
        AGENTS,
        LABELLED,
        check_learner,
        train_agent,
        train_labelled,
    )
    from streamdyn.pipelines.untrimmed_set import make_streams

    if agent not in AGENTS:
        raise UnknownName("video agent", agent, AGENTS)
    check_learner(agent, learner)
    resolved = options.run_config(config, options.overrides(recognizer=recognizer, device=device))
    torch.set_num_threads(1)
    target = out / f"{agent}.safetensors"
    given = {
        "--seed": seed or None,
        "--without-fold": without_fold,
        "--learner": None if learner == "truth" else learner,
    }
    more = [str(part) for pair in given.items() if pair[1] is not None for part in pair]
    more += [part for file in idle or () for part in ("--idle", str(file))]
    more += ["--leave-one-out"] * leave_one_out
    command = shlex.join(["streamdyn", "train", "video", agent, *paths, *more])
    facts: dict[str, Any]
    if idle and agent in LABELLED:
        make_streams(
            read_clips(paths[0]), idle, out / "streams", share=1 / 11, num_train=num_streams,
            num_test=0, fold=without_fold, on_stream=lambda path: remark(str(path)),
        )  # fmt: skip
        paths = [*paths, str(out / "streams" / "train")]
    labelled = (
        {str(v.path): v for v in labelled_videos(paths, without_fold=without_fold)}
        if agent in LABELLED
        else {}
    )
    videos, failures = gather(list(labelled) or paths, out / "features", resolved)
    kept = Rounds(out / f"{agent}.rounds", f"{command}, {sum(map(len, videos))} items")
    with tensorboard_log(log_dir, agent) as log:
        how: dict[str, Any] = {
            "seed": seed, "command": command, "kept": kept, "on_step": remark, "log": log
        }  # fmt: skip
        if labelled:
            pairs = [(labelled[features.path], features) for features in videos]
            facts = train_labelled(agent, pairs, target, learner=learner, **how)
        else:
            looker = resolved.build_recognizer()
            facts = train_agent(agent, videos, looker, target, leave_one_out=leave_one_out, **how)
    kept.forget()
    if as_json:
        print_json({"model": str(target), "failures": failures, **facts})
    else:
        if left := facts.get("left_out"):
            names = [name for name in left if name not in ("items", "targets")]
            rows = [
                (f"{target:.2f}", *(f"{left[name][place]:.2%}" for name in names))
                for place, target in enumerate(left["targets"])
            ]
            show(
                table("share looked at, each video left out", "agreement",
                      *(f">{name}" for name in names), rows=rows)
            )  # fmt: skip
        typer.echo(target)
    if failures:
        raise typer.Exit(1)
