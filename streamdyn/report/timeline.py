"""The timeline of one file as drawing: marks, curve and bands, in shares of its length.

A file may have 200,000 items and a screen has 1,000 columns, so that marks are drawn one a column
where there are more items than `MAX_EXACT_ITEMS`. A mark's height then says how many items of its
column it stands for, against the fullest column.

```
items        . . p . . . . | . p . p . . . | . . . . . . .      p: looked at
exact            |               |   |
three columns    1               2               0              heights 1/2, 2/2, none
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamdyn.index.records import MediaRow, Segment, StoredWindow
from streamdyn.index.segments import last_item_stop
from streamdyn.items import Array
from streamdyn.timeline import Audit, Reason

WIDTH = 10_000
"""Horizontal units of a drawing."""
HEIGHT = 100
MAX_EXACT_ITEMS = 2_000
MIN_BAND_SHARE = 0.002
"""Of the width; segments narrower than this are drawn together with their neighbours."""
MIXED_BAND_SHARE = 0.006
"""Of the width; how wide such a band becomes."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One row of marks."""

    key: str
    """Names its colour."""
    name: str
    count: int
    """Items it stands for."""
    path: str
    """SVG path data in `WIDTH` x `HEIGHT`."""


@dataclass(frozen=True, slots=True)
class Band:
    """A run of items with one label, or several short ones drawn as one."""

    left: float
    """Percent of the width."""
    width: float
    label: str
    """Empty: looked, and nothing was found."""
    colour: int
    """Place in the palette; -1 for nothing found."""
    is_mixed: bool
    """Several short runs; label and colour are those of the longest."""
    hint: str

    @property
    def has_room(self) -> bool:
        """The label, or six letters of it, fits on a track of 900 pixels at 7 a letter."""
        return self.width * 9 >= 12 + 7 * min(6, len(self.label))


@dataclass(frozen=True, slots=True)
class Drawing:
    """All that is drawn of one file."""

    lanes: tuple[Lane, ...]
    curve: str
    """SVG path data of the packet sizes, on a square root scale."""
    max_bytes: int
    bands: tuple[Band, ...]
    ticks: tuple[tuple[float, float], ...]
    """Percent of the width and seconds of the labels on the time axis."""
    num_columns: int | None
    """Columns that marks were gathered in; `None`: a mark an item."""
    items_per_column: float
    start_seconds: float
    stop_seconds: float


class Timeline:
    """The items of one file on a common time axis.

    Args:
        media: The file.
        windows: Its windows, at least one.
        max_columns: Columns to gather marks in, where there are too many.
    """

    def __init__(
        self, media: MediaRow, windows: Sequence[StoredWindow], max_columns: int = 1000
    ) -> None:
        self._media = media
        self.pts: Array = _join([w.block.pts for w in windows])
        self._ordinals = _join([w.block.first + np.arange(len(w.block)) for w in windows])
        self._keyframe = _join([w.block.keyframe for w in windows])
        self._num_bytes = _join([w.block.num_bytes for w in windows])
        self.reasons: Array = _join([w.reasons for w in windows])
        base = media.pts(0).time_base
        self._start = int(self.pts[0])
        self._stop = media.stop_ticks or last_item_stop(self.pts, base, media.rate)
        self._columns = None if len(self.pts) <= MAX_EXACT_ITEMS else max_columns

    def draw(
        self, segments: Sequence[Segment], audits: Sequence[Audit], colours: dict[str, int]
    ) -> Drawing:
        """The drawing.

        Args:
            segments: Of the file, in order.
            audits: Of the file.
            colours: Label → place in the palette.
        """
        base = self._media.pts(0).time_base
        agree = np.array([a.ticks for a in audits if a.agreement >= 0.5], np.int64)
        disagree = np.array([a.ticks for a in audits if a.agreement < 0.5], np.int64)
        lanes = [
            self._lane("processed", "looked at", self._of(Reason.PROCESSED)),
            self._lane("partial", "looked at in part", self._of(Reason.PARTIAL)),
            self._lane("failed", "not decodable", self._of(Reason.FAILED)),
            self._lane("budget", "over budget", self._of(Reason.OVER_BUDGET)),
            self._lane("hopped", "hopped over", self._of(Reason.HOPPED)),
            self._lane("agree", "audit agrees", agree),
            self._lane("disagree", "audit disagrees", disagree),
            self._lane("keyframe", "keyframes", self.pts[self._keyframe]),
        ]
        num_columns = self._columns or 0
        return Drawing(
            lanes=tuple(lane for lane in lanes if lane.count or lane.key == "processed"),
            curve=self._curve(),
            max_bytes=int(self._num_bytes.max()),
            bands=tuple(self._bands(segments, colours)),
            ticks=tuple(self._ticks()),
            num_columns=self._columns,
            items_per_column=len(self.pts) / num_columns if num_columns else 1.0,
            start_seconds=float(self._start * base),
            stop_seconds=float(self._stop * base),
        )

    def share(self, ticks: int) -> float:
        """Where a time lies, in [0, 1]."""
        return (ticks - self._start) / max(1, self._stop - self._start)

    def _of(self, reason: Reason) -> Array:
        found: Array = self.pts[self.reasons == reason]
        return found

    def _lane(self, key: str, name: str, ticks: Array) -> Lane:
        if not len(ticks):
            return Lane(key, name, 0, "")
        places = (ticks - self._start) / max(1, self._stop - self._start)
        if self._columns is None:
            path = "".join(f"M{x} 0V{HEIGHT}" for x in (places * WIDTH).astype(int).tolist())
            return Lane(key, name, len(ticks), path)
        column = np.minimum((places * self._columns).astype(int), self._columns - 1)
        counts = np.bincount(column, minlength=self._columns)
        filled = np.flatnonzero(counts)
        heights = np.maximum(0.2, counts[filled] / counts.max()) * HEIGHT
        centres = ((filled + 0.5) / self._columns * WIDTH).astype(int)
        pairs = zip(centres.tolist(), (HEIGHT - heights).astype(int).tolist(), strict=True)
        return Lane(key, name, len(ticks), "".join(f"M{x} {y}V{HEIGHT}" for x, y in pairs))

    def _curve(self) -> str:
        """An area of steps: a step an item or, gathered, the largest packet of each column."""
        if self._columns is None:
            sizes = self._num_bytes
            places = (np.append(self.pts, self._stop) - self._start) * WIDTH
            rights = places[1:] // max(1, self._stop - self._start)
        else:
            shares = (self.pts - self._start) / max(1, self._stop - self._start)
            column = np.minimum((shares * self._columns).astype(int), self._columns - 1)
            sizes = np.zeros(self._columns)
            np.maximum.at(sizes, column, self._num_bytes)
            rights = np.arange(1, self._columns + 1) * WIDTH // self._columns
        tops = (HEIGHT * (1 - np.sqrt(sizes / max(1.0, sizes.max())))).astype(int)
        steps = zip(tops.tolist(), rights.astype(int).tolist(), strict=True)
        return f"M0 {HEIGHT}{''.join(f'V{y}H{x}' for y, x in steps)}V{HEIGHT}Z"

    def _bands(self, segments: Sequence[Segment], colours: dict[str, int]) -> list[Band]:
        bands: list[Band] = []
        short: list[Segment] = []
        for segment in segments:
            if self._width([segment]) < MIN_BAND_SHARE:
                short.append(segment)
                if self._width(short) >= MIXED_BAND_SHARE:
                    bands.append(self._band(short, colours))
                    short = []
                continue
            if short:
                bands.append(self._band(short, colours))
                short = []
            bands.append(self._band([segment], colours))
        return [*bands, self._band(short, colours)] if short else bands

    def _width(self, run: Sequence[Segment]) -> float:
        return self.share(run[-1].stop_ticks) - self.share(run[0].start_ticks)

    def _band(self, run: Sequence[Segment], colours: dict[str, int]) -> Band:
        """One segment, or consecutive ones as one band."""
        longest = max(run, key=lambda s: (s.stop_ticks - s.start_ticks, -s.start_ticks))
        seen = f"{sum(s.num_observed for s in run):,} looked at"
        carried = f"{sum(s.num_propagated for s in run):,} propagated"
        name = longest.label or "nothing found"
        if len(run) > 1:
            name = f"{len(run):,} short segments, longest: {name}"
        elif longest.score:
            name = f"{name} {longest.score:.2f}"
        return Band(
            left=100 * self.share(run[0].start_ticks),
            width=100 * self._width(run),
            label=longest.label,
            colour=colours.get(longest.label, 0) if longest.label else -1,
            is_mixed=len(run) > 1,
            hint=f"{name} ({seen}, {carried})",
        )

    def _ticks(self) -> list[tuple[float, float]]:
        base = self._media.pts(0).time_base
        start, stop = float(self._start * base), float(self._stop * base)
        step = nice_step((stop - start) / 6)
        first = int(np.ceil(start / step - 1e-9))
        times = [n * step for n in range(first, int(stop / step + 1e-9) + 1)]
        return [(100 * (t - start) / max(1e-9, stop - start), t) for t in times]


def nice_step(seconds: float) -> float:
    """The next larger step that people count time in."""
    steps = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)
    hours = (3600, 7200, 10_800, 21_600, 43_200, 86_400)
    return next((float(s) for s in (*steps, *hours) if s >= seconds), 86_400.0)


def _join(arrays: Sequence[npt.NDArray[np.generic]]) -> Array:
    return np.concatenate(arrays)
