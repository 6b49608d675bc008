"""`streamdyn features`: a full pass over videos, kept for training and judging agents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from streamdyn.cli import options
from streamdyn.cli.app import app
from streamdyn.cli.index import find_each
from streamdyn.cli.output import complain, print_json, remark, show, table


@app.command()
def features(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Videos, or folders of them.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where features are kept, one file each.")
    ],
    recognizer: options.Recognizer = None,
    device: options.Device = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Recognize every frame of videos once, and keep what was said for agents to learn from.

    Labels, scores, embeddings, small grey pictures and what demuxing tells. Run the same command
    again to go on where it stopped. Exits with 1 if any file failed; the others are done all the
    same.
    """
    resolved = options.run_config(config, options.overrides(recognizer=recognizer, device=device))
    found, failures = gather(paths, out, resolved)
    made = [_summary(entry) for entry in found]
    if as_json:
        print_json({"out": str(out), "files": made, "failures": failures})
    else:
        rows = [
            (e["path"], f"{e['items']:,}", f"{e['recognized']:,}", f"{e['seconds']:.1f}")
            for e in made
        ]
        show(table(str(out), "*file", ">items", ">recognized", ">seconds", rows=rows))
    if failures:
        raise typer.Exit(1)


def gather(paths: list[str], out: Path, config: Any) -> tuple[list[Any], dict[str, str]]:
    """Features of all videos with a progress bar, and path → reason of those that failed."""
    from streamdyn.pipelines.video_features import video_features

    model = config.build_recognizer()
    model.setup(config.device)
    videos, failures = find_each(paths)
    made: list[Any] = []
    with _progress(len(videos)) as (on_file, finished):
        found = video_features(videos, out, model, on_file=on_file, on_failure=failures.__setitem__)
        for entry in found:
            made.append(entry)
            finished(len(made) + len(failures))
    for path, reason in failures.items():
        complain(reason if path in reason else f"{path}: {reason}")
    return made, failures


def _summary(entry: Any) -> dict[str, Any]:
    return {
        "path": entry.path,
        "items": len(entry),
        "recognized": len(entry.ordinals),
        "seconds": sum(entry.milliseconds.values()) / 1000,
        "milliseconds": entry.milliseconds,
    }


@contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[str, int], None], Callable[[int], None]]]:
    """A bar over files on a terminal, else a line a file; told of items and of finished files."""
    console = Console(stderr=True)
    if not console.is_terminal:
        begun: set[str] = set()

        def say(path: str, items: int) -> None:
            if path not in begun:
                begun.add(path)
                remark(f"{path}: watching")

        yield say, lambda count: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield (
            lambda path, items: bar.update(task, description=f"{Path(path).name}: {items:,} items"),
            lambda count: bar.update(task, completed=count),
        )
