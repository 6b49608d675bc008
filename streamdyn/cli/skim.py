"""`streamdyn skim`: the sentences or words of a text that matter."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from streamdyn.cli.app import app
from streamdyn.cli.options import Json
from streamdyn.cli.output import percent, print_json, print_lines, remark


class Unit(StrEnum):
    """What is kept or left out as a whole."""

    SENTENCE = "sentence"
    TOKEN = "token"


class Vectors(StrEnum):
    """How words are compared."""

    WORDLLAMA = "wordllama"
    HASHED = "hashed"


@app.command()
def skim(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A text, or - for standard input.")],
    rate: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of the tokens to keep, in (0, 1]. Default: 0.2."),
    ] = None,
    target_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="How many tokens to keep, instead of --rate.")
    ] = None,
    query: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Keep what matters to this question.")
    ] = None,
    unit: Annotated[
        Unit,
        typer.Option(
            metavar="sentence|token",
            help="sentence: whole sentences, but for the last; token: words wherever they stand, "
            "as for the prompt of a language model.",
        ),
    ] = Unit.SENTENCE,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep", metavar="REGEX", help="Always keep what this matches; may be given again."
        ),
    ] = None,
    vectors: Annotated[
        Vectors,
        typer.Option(
            metavar="wordllama|hashed",
            help="wordllama: words are compared by meaning; hashed: by identity, which needs no "
            "package.",
        ),
    ] = Vectors.WORDLLAMA,
    encoding: Annotated[
        str, typer.Option(metavar="NAME", help="Of the bytes of FILE, such as latin-1.")
    ] = "utf-8",
    html: Annotated[
        Path | None,
        typer.Option(metavar="HTML", help="Also write a page with the kept parts marked."),
    ] = None,
    highlight: Annotated[
        bool, typer.Option("--highlight", help="Print the whole text, the kept parts bright.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Skim a text: print the sentences or words that matter, as many as you ask for.

    With --json, one document: the kept text, its parts with offsets in characters, and figures.
    """
    from streamdyn.errors import ConfigError
    from streamdyn.pipelines.skim_text import as_record, read_text, write_page
    from streamdyn.text.skim import skim as skim_text

    if as_json and highlight:
        raise ConfigError("--json and --highlight both say what to print; give one of them")
    reading = skim_text(
        read_text(file, encoding),
        rate=rate,
        target_tokens=target_tokens,
        query=query,
        unit=unit.value,
        keep=keep,
        vectors=vectors.value,
    )
    if html is not None:
        write_page(reading, html, file, query=query, unit=unit.value)
    if as_json:
        print_json(as_record(reading, file, unit=unit.value, query=query))
    elif highlight:
        typer.echo(reading.highlight(), color=True)
    else:
        print_lines(re.sub("\r\n?|\f", "\n", reading.text))
        share = percent(reading.read_rate)
        remark(f"kept {reading.tokens_read:,} of {reading.tokens_total:,} tokens ({share})")
    if html is not None:
        remark(f"page: {html}")
