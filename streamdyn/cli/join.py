"""`streamdyn join`: untrimmed streams of labelled clips and idle footage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamdyn.cli import options
from streamdyn.cli.app import app
from streamdyn.cli.output import print_json, remark


@app.command()
def join(
    clips: options.Clips,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Streams go to train/ and test/ in it.")
    ],
    idle: Annotated[
        list[Path] | None,
        typer.Option(
            "--idle",
            metavar="FILE",
            help="Footage without any action; twice at least where the share is below 1.",
        ),
    ] = None,
    share: Annotated[
        float, typer.Option("--share", metavar="SHARE", help="Of a stream, that of its clips.")
    ] = 1 / 11,
    num_clips: Annotated[
        int, typer.Option("--clips", metavar="N", min=1, help="Clips in a stream.")
    ] = 1,
    num_train: Annotated[
        int, typer.Option("--train", metavar="N", min=0, help="Streams to train on.")
    ] = 160,
    num_test: Annotated[
        int | None,
        typer.Option(
            "--test",
            metavar="N",
            min=0,
            help="Streams to test on; as many as there are clips when not given.",
        ),
    ] = None,
    fold: Annotated[
        int, typer.Option("--fold", metavar="N", help="Fifth of the clips to test on, from 0.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of clips and footage.")] = 0,
    as_json: options.Json = False,
) -> None:
    """Make untrimmed streams, clips between idle footage, with their truth beside.

    Neither a recording nor idle footage is in both parts. H.264, a keyframe every 250 pictures. Run
    the same command again to go on where it stopped.
    """
    from streamdyn.clips.clip_set import read_clips
    from streamdyn.pipelines.untrimmed_set import make_streams

    made = make_streams(
        read_clips(clips),
        idle or [],
        out,
        share=share,
        num_train=num_train,
        num_test=num_test,
        clips_per_stream=num_clips,
        fold=fold,
        seed=seed,
        on_stream=lambda path: remark(str(path)),
    )
    counts = {"train": len(made.train), "test": len(made.test)}
    if as_json:
        print_json({"out": str(out), **counts})
    else:
        typer.echo(f"{out}: {counts['train']} streams to train on, {counts['test']} to test on")
