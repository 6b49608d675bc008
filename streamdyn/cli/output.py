"""Printing: tables and JSON to stdout, remarks to stderr, nothing that could drive a terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamdyn.controls import CONTROLS

WIDTH_WITHOUT_TERMINAL = 100
"""Columns where stdout is a file or a pipe."""
_CONTROLS = re.compile(f"[{CONTROLS}]")


def printable(text: str) -> str:
    """Without what a terminal would obey: a file name may hold anything."""
    shown = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)
    return shown.encode("utf-8", "replace").decode()


def complain(sentence: str) -> None:
    """An error, as one line on stderr."""
    typer.echo(f"error: {printable(' '.join(sentence.split()))}", err=True)


def remark(sentence: str) -> None:
    """Something to know, on stderr."""
    typer.echo(printable(sentence), err=True)


def print_json(document: Any) -> None:
    """One JSON document; ASCII, so that no locale can spoil it."""
    typer.echo(json.dumps(document, indent=2, default=_plain))


def print_json_lines(records: Iterable[Any]) -> None:
    """A JSON object a line."""
    for record in records:
        typer.echo(json.dumps(record, default=_plain))


def _plain(value: Any) -> Any:
    if hasattr(value, "as_dict"):
        return value.as_dict()
    if hasattr(value, "item"):
        return value.item()
    return str(value)


def table(title: str, *columns: str, rows: Iterable[Iterable[object]]) -> Table:
    """A table; columns whose name begins with `>` are right-aligned numbers, with `*` may wrap."""
    made = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in columns:
        name, is_number = column.lstrip(">*"), column.startswith(">")
        made.add_column(
            name,
            justify="right" if is_number else "left",
            no_wrap=is_number,
            min_width=16 if column.startswith("*") else None,
            overflow="fold",
            ratio=1 if column.startswith("*") else None,
        )
    for row in rows:
        made.add_row(*(Text(printable(str(cell))) for cell in row))
    return made


def print_lines(*lines: str) -> None:
    """Text that another program may read, such as paths, on stdout: never wrapped."""
    for line in lines:
        typer.echo(printable(line))


def show(*renderables: Any) -> None:
    """Print tables and lines to stdout; a file or a pipe gets no padding at the ends of lines."""
    is_terminal = sys.stdout.isatty()
    console = Console(width=None if is_terminal else WIDTH_WITHOUT_TERMINAL, highlight=False)
    for renderable in renderables:
        is_text = isinstance(renderable, str)
        shown = Text(printable(renderable)) if is_text else renderable
        if is_terminal:
            console.print(shown)
            continue
        with console.capture() as captured:
            console.print(shown)
        typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def percent(share: float) -> str:
    """`7.2 %`."""
    return f"{share:.1%}".replace("%", " %")


def seconds(milliseconds: float) -> str:
    """Milliseconds as seconds, `1.23 s`."""
    return f"{milliseconds / 1000:.2f} s"
