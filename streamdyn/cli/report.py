"""`streamdyn report`: one HTML page that shows what was looked at, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamdyn.cli.app import app
from streamdyn.cli.options import In, Json
from streamdyn.cli.output import print_json, print_lines


@app.command()
def report(
    index: In,
    out: Annotated[
        Path, typer.Option("--out", metavar="HTML", help="The page; an older one is replaced.")
    ],
    file: Annotated[
        list[str] | None,
        typer.Option("--file", metavar="NAME", help="Only this file; may be given again."),
    ] = None,
    max_thumbnails: Annotated[
        int, typer.Option(metavar="N", min=0, help="Thumbnails in the whole page.")
    ] = 120,
    as_json: Json = False,
) -> None:
    """Write a report on an index: one HTML page that needs nothing else.

    It shows for every file which frames were looked at and why, the segments with thumbnails, the
    receipt by stage, and the agreement.
    """
    from streamdyn.index import SqliteIndex
    from streamdyn.report import write_report

    with SqliteIndex(index, mode="read") as store:
        path = write_report(store, out, names=file or (), max_thumbnails=max_thumbnails)
    if as_json:
        print_json({"report": str(path), "bytes": path.stat().st_size})
    else:
        print_lines(str(path))
