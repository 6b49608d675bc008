"""`streamdyn list` and `export`: what is in an index, and taking it elsewhere."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from streamdyn.cli.app import app
from streamdyn.cli.options import In, Json
from streamdyn.cli.output import (
    percent,
    print_json,
    print_json_lines,
    print_lines,
    remark,
    show,
    table,
)


class Format(StrEnum):
    """What an index can be exported to."""

    JSONL = "jsonl"
    PARQUET = "parquet"
    WEBVTT = "webvtt"
    COCO = "coco"
    LANCE = "lance"


@app.command("list")
def list_files(index: In, as_json: Json = False) -> None:
    """List the files of an index: status, items, share recognized, and why one failed.

    With --json, a JSON object a line.
    """
    from streamdyn.index import SqliteIndex
    from streamdyn.index.overview import overview

    with SqliteIndex(index, mode="read") as store:
        files = [(media, overview(store, [media])) for media in store.media()]
    if as_json:
        print_json_lines(_record(media, over) for media, over in files)
        return
    rows: list[tuple[str, ...]] = [
        (
            media.path,
            media.status,
            "" if media.num_items is None else f"{media.num_items:,}",
            percent(over.share_recognized) if media.status == "done" else "",
            f"{over.num_segments:,}" if media.status == "done" else "",
            media.error,
        )
        for media, over in files
    ]
    columns = ["*file", "status", ">items", ">recognized", ">segments", "*error"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    show(table(str(index), *columns, rows=rows))


def _record(media: Any, over: Any) -> dict[str, Any]:
    return {
        "path": media.path,
        "media_id": media.id,
        "status": media.status,
        "error": media.error,
        "note": media.note,
        "codec": media.codec,
        "width": media.width,
        "height": media.height,
        "duration_seconds": media.duration_seconds,
        "num_items": media.num_items,
        "num_segments": over.num_segments,
        "share_recognized": over.share_recognized if media.status == "done" else None,
        "agreement": over.agreement.estimate if over.is_measured else None,
        "num_audits": over.tally.num_audits,
    }


@app.command()
def export(
    index: In,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="PATH", help="File; for webvtt a folder, for lance also a URL."
        ),
    ],
    format: Annotated[
        Format,
        typer.Option(
            metavar="jsonl|parquet|webvtt|coco|lance",
            help="jsonl, parquet: a record a segment; webvtt: subtitles, a file each; coco: boxes "
            "on the frames that were looked at; lance: a LanceDB database, which search takes.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Export the finished files of an index, and print the names of what was written.

    To LanceDB all goes that is there.
    """
    from streamdyn.index import SqliteIndex
    from streamdyn.index.export import export as write
    from streamdyn.index.lance import export_lance

    with SqliteIndex(index, mode="read") as store:
        if format is Format.LANCE:
            export_lance(store, to)
            written = [to]
        else:
            name: Any = format.value
            written = [str(path) for path in write(store, name, to)]
        unfinished = sum(media.status != "done" for media in store.media())
    if as_json:
        print_json({"format": format.value, "written": written})
    else:
        print_lines(*written)
    if unfinished and format is not Format.LANCE:
        remark(f"left out, since not done: {unfinished} (see: streamdyn list --in {index})")
