"""`streamdyn search`: find where something is seen, by words, by picture or by frame."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from streamdyn.cli.app import app
from streamdyn.cli.options import Json
from streamdyn.cli.output import print_json_lines, remark, show, table


class Mode(StrEnum):
    """How words are compared."""

    HYBRID = "hybrid"
    TEXT = "text"
    VECTOR = "vector"


@app.command()
def search(
    index: Annotated[
        str,
        typer.Option(
            "--in", metavar="FILE", help="The index to read, or the URL or folder of its export."
        ),
    ],
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="Any words.")] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Search by this picture instead.")
    ] = None,
    frame: Annotated[
        str | None,
        typer.Option(metavar="VIDEO@SECONDS", help="Search by this frame of a video instead."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", help="Hits at most.")] = 10,
    mode: Annotated[
        Mode,
        typer.Option(
            metavar="hybrid|text|vector",
            help="text: words in labels, texts read and file names; vector: what is alike in "
            "meaning; hybrid: both.",
        ),
    ] = Mode.HYBRID,
    thumbnails: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a JPEG of each hit there.")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="cpu|cuda", help="Where an example picture is embedded.")
    ] = "cpu",
    as_json: Json = False,
) -> None:
    """Search an index: a row a segment, best first.

    With --json, a JSON object a line.
    """
    from streamdyn.pipelines.search_video import open_for_search, write_thumbnails

    with open_for_search(index) as store:
        hits = _find(store, query, image, frame, limit=limit, mode=mode, device=device)
        written = {} if thumbnails is None else write_thumbnails(store, hits, thumbnails)
    if as_json:
        names = {place: str(path) for place, path in written.items()}
        print_json_lines(
            {**hit.as_dict(), **({"thumbnail": names.get(place)} if thumbnails else {})}
            for place, hit in enumerate(hits)
        )
        return
    if not hits:
        remark("nothing found; other words, or --mode vector, may help")
        return
    show(hit_table(hits))
    if thumbnails is not None:
        remark(f"{len(written)} thumbnails in {thumbnails}")


def hit_table(hits: Any, title: str = "") -> Any:
    """Hits as a table."""
    from streamdyn.clock import format_time

    rows: list[tuple[object, ...]] = [
        (
            place,
            hit.path,
            f"{format_time(hit.start_seconds)} - {format_time(hit.stop_seconds)}",
            hit.label or "(whole file)",
            f"{hit.score:.2f}" if hit.label else "",
            "" if hit.text == hit.label else hit.text,
            f"{hit.relevance:.4f}",
        )
        for place, hit in enumerate(hits, 1)
    ]
    columns = [">#", "*file", ">time", "*label", ">score", "*text", ">relevance"]
    if not any(row[5] for row in rows):
        columns.pop(5)
        rows = [(*row[:5], row[6]) for row in rows]
    return table(title, *columns, rows=rows)


def _find(
    store: Any,
    query: str | None,
    image: Path | None,
    frame: str | None,
    *,
    limit: int,
    mode: Mode,
    device: str,
) -> Any:
    from streamdyn.errors import ConfigError
    from streamdyn.index.search import search as search_by_words
    from streamdyn.pipelines.search_video import parse_frame, search_by_frame, search_by_image

    if sum(example is not None for example in (query, image, frame)) != 1:
        raise ConfigError(
            "cannot tell what to search for: give exactly one of QUERY, --image and --frame"
        )
    if image is not None:
        return search_by_image(store, image, device=device, limit=limit)
    if frame is not None:
        video, seconds = parse_frame(frame)
        return search_by_frame(store, video, seconds, device=device, limit=limit)
    return search_by_words(store, query or "", limit=limit, mode=mode.value)
