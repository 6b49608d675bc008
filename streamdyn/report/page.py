"""One self-contained HTML page on an index: no network, no other file, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from streamdyn import __version__
from streamdyn.clock import format_seconds
from streamdyn.index.placing import put_in_place
from streamdyn.index.reading import IndexReader
from streamdyn.report.facts import MAX_ERRORS_SHOWN, gather
from streamdyn.report.figures import (
    axis_label,
    duration,
    percent,
    receipt_rows,
    remarkable,
    stage_bars,
)
from streamdyn.report.timeline import HEIGHT, MAX_EXACT_ITEMS, WIDTH


def write_report(
    index: IndexReader,
    target: str | Path,
    *,
    names: Sequence[str] = (),
    max_thumbnails: int = 120,
) -> Path:
    """Write a report on an index.

    Args:
        index: What to report on.
        target: The HTML file; an older one is replaced.
        names: Files to report on, as in the index, or their last parts; by default all.
        max_thumbnails: In the whole page.

    Raises:
        ConfigError: No file of that name in the index.
        StoreError: The page cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("streamdyn.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=lambda value: f"{value:,}",
        percent=percent,
        duration=duration,
        time=format_seconds,
        clock=axis_label,
        share=lambda share: f"{share:.3f}",
        css=lambda value: f"{value:.3f}",
        receipt=receipt_rows,
        bars=stage_bars,
        remarkable=remarkable,
    )
    page = environment.get_template("page.html.j2").render(
        facts=gather(index, names, max_thumbnails),
        parts=_parts(index),
        version=__version__,
        viewbox=f"0 0 {WIDTH} {HEIGHT}",
        max_errors=MAX_ERRORS_SHOWN,
        max_exact_items=MAX_EXACT_ITEMS,
    )
    path = Path(target)
    with put_in_place(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def _parts(index: IndexReader) -> list[tuple[str, str]]:
    """The latest call's parts with the options that were given."""
    configs = index.run_configs()
    shown = []
    for kind in ("policy", "recognizer", "source"):
        part = dict(configs[0].get(kind, {})) if configs else {}
        name = part.pop("name", "")
        options = ", ".join(f"{key}={value}" for key, value in part.items() if value != {})
        if name:
            shown.append((kind, f"{name} ({options})" if options else str(name)))
    return shown
