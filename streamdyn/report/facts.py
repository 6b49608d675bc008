"""What a report shows, read from an index: figures, drawings and thumbnails, as plain values."""

from __future__ import annotations

import base64
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from streamdyn.clock import format_time
from streamdyn.errors import ConfigError, SourceError
from streamdyn.index.overview import Overview, overview
from streamdyn.index.pictures import Picture, jpeg, pictures_at
from streamdyn.index.reading import IndexReader
from streamdyn.index.records import MediaRow, Segment
from streamdyn.items import ItemError
from streamdyn.report.timeline import Drawing, Timeline
from streamdyn.timeline import Audit

logger = logging.getLogger(__name__)

PALETTE_SIZE = 10
THUMBNAIL_WIDTH = 224
"""Pixels."""
MAX_COLUMNS, MIN_COLUMNS = 1000, 120
MAX_COLUMNS_TOGETHER = 100_000
"""Over all files, so that the page of a large index can still be opened."""
MAX_ERRORS_SHOWN = 20
"""Of each file."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """The best picture of a segment."""

    data_uri: str
    label: str
    text: str
    score: float
    at: str
    """When it was taken, `h:mm:ss.mmm`."""
    span: str
    """From when to when the segment lasts."""
    colour: int


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file of the report."""

    media: MediaRow
    over: Overview
    drawing: Drawing | None
    """`None` where nothing was read of it."""
    thumbnails: tuple[Thumbnail, ...]
    note: str
    """What went wrong with the thumbnails, if anything did."""
    errors: tuple[ItemError, ...]
    disagreements: tuple[Audit, ...]
    num_segments: int

    @property
    def anchor(self) -> str:
        """Its place in the page."""
        return f"file-{self.media.id}"


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """All that the template needs."""

    title: str
    over: Overview
    files: tuple[FileFacts, ...]
    failed: tuple[MediaRow, ...]
    num_columns: int
    num_thumbnails_left_out: int


def gather(index: IndexReader, names: Sequence[str] = (), max_thumbnails: int = 120) -> ReportFacts:
    """Read an index.

    Args:
        index: What to report on.
        names: Paths as in the index, or their last parts; all files where there are none.
        max_thumbnails: In the whole page; shared out evenly, the longest segments first.

    Raises:
        ConfigError: No file of that name.
    """
    media = _choose(index, names)
    segments = {row.id: index.segments(row.id) for row in media}
    colours = _colours(list(segments.values()))
    num_columns = max(MIN_COLUMNS, min(MAX_COLUMNS, MAX_COLUMNS_TOGETHER // max(1, len(media))))
    shares = _share_out(max_thumbnails, [len(segments[row.id]) for row in media])
    files = [
        _file(index, row, segments[row.id], colours, num_columns, num_pictures)
        for row, num_pictures in zip(media, shares, strict=True)
    ]
    return ReportFacts(
        title=index.path.name,
        over=overview(index, media),
        files=tuple(file for file in files if file.drawing is not None),
        failed=tuple(row for row in media if row.status == "failed"),
        num_columns=num_columns,
        num_thumbnails_left_out=sum(map(len, segments.values())) - sum(shares),
    )


def _choose(index: IndexReader, names: Sequence[str]) -> list[MediaRow]:
    media = index.media()
    if not names:
        return media
    chosen: dict[str, MediaRow] = {}
    for name in names:
        found = [row for row in media if f"/{row.path}".endswith(f"/{name.removeprefix('./')}")]
        if not found:
            known = ", ".join(row.path for row in media[:10])
            raise ConfigError(
                f"cannot report on {name!r}: {index.path} has no such file; it has {known}"
                f"{', ...' if len(media) > 10 else ''} (see: streamdyn list)"
            )
        chosen.update((row.path, row) for row in found)
    return [chosen[path] for path in sorted(chosen)]


def _colours(runs: Sequence[Sequence[Segment]]) -> dict[str, int]:
    """Label → place in the palette: never that of a neighbour where that can be helped.

    Args:
        runs: Segments of each file, in order.
    """
    items: Counter[str] = Counter()
    neighbours: dict[str, set[str]] = defaultdict(set)
    for segments in runs:
        for segment in segments:
            items[segment.label] += segment.num_observed + segment.num_propagated
        for left, right in pairwise(segment.label for segment in segments):
            neighbours[left].add(right)
            neighbours[right].add(left)
    colours: dict[str, int] = {}
    used: Counter[int] = Counter()
    for label in sorted(filter(None, items), key=lambda label: (-items[label], label)):
        taken = {colours.get(other) for other in neighbours[label]}
        free = [c for c in range(PALETTE_SIZE) if c not in taken] or range(PALETTE_SIZE)
        colours[label] = min(free, key=lambda colour: (used[colour], colour))
        used[colours[label]] += 1
    return colours


def _share_out(total: int, wanted: Sequence[int]) -> list[int]:
    """At most `total` in all, at most what each wants, as evenly as that allows."""
    given, left = [0] * len(wanted), total
    for position, place in enumerate(sorted(range(len(wanted)), key=lambda i: wanted[i])):
        given[place] = min(wanted[place], left // (len(wanted) - position))
        left -= given[place]
    return given


def _file(
    index: IndexReader,
    media: MediaRow,
    segments: Sequence[Segment],
    colours: dict[str, int],
    num_columns: int,
    num_thumbnails: int,
) -> FileFacts:
    windows = list(index.windows(media.id)) if media.time_base is not None else []
    audits = index.audits(media.id)
    drawing = None
    if windows:
        drawing = Timeline(media, windows, num_columns).draw(segments, audits, colours)
    thumbnails, note = _thumbnails(index, media, segments, colours, num_thumbnails)
    return FileFacts(
        media=media,
        over=overview(index, [media]),
        drawing=drawing,
        thumbnails=thumbnails,
        note=note,
        errors=tuple(index.errors(media.id)) if media.time_base is not None else (),
        disagreements=tuple(audit for audit in audits if audit.agreement < 0.5),
        num_segments=len(segments),
    )


def _thumbnails(
    index: IndexReader,
    media: MediaRow,
    segments: Sequence[Segment],
    colours: dict[str, int],
    count: int,
) -> tuple[tuple[Thumbnail, ...], str]:
    """Pictures of the longest segments in order of time, and why there are none."""
    longest = sorted(segments, key=lambda s: (s.start_ticks - s.stop_ticks, s.start_ticks))[:count]
    chosen = sorted(longest, key=lambda s: s.start_ticks)
    if not chosen:
        return (), ""
    rows = index.fetch("SELECT id, ticks FROM outcomes WHERE media_id = ?", media.id)
    ticks: dict[str, int] = dict(rows)
    wanted = [ticks[segment.best_outcome_id] for segment in chosen]
    try:
        pictures = pictures_at(index.locate(media), wanted, width=THUMBNAIL_WIDTH)
    except SourceError as exc:
        logger.warning("no thumbnails of %s: %s", media.path, exc)
        return (), f"no thumbnails: {exc}"
    made = [
        Thumbnail(
            data_uri=_data_uri(pictures[tick]),
            label=segment.label or "nothing found",
            text=segment.text if segment.text != segment.label else "",
            score=segment.score,
            at=format_time(media.pts(tick).seconds),
            span=f"{format_time(media.pts(segment.start_ticks).seconds)} - "
            f"{format_time(media.pts(segment.stop_ticks).seconds)}",
            colour=colours.get(segment.label, 0) if segment.label else -1,
        )
        for segment, tick in zip(chosen, wanted, strict=True)
        if tick in pictures
    ]
    lost = len(chosen) - len(made)
    return tuple(made), f"{lost} thumbnails could not be decoded" if lost else ""


def _data_uri(picture: Picture) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(picture, 70)).decode()}"
