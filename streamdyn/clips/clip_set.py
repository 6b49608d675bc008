"""Labelled clips in a folder: a table of them, or a folder for each class.

```
jhmdb/labels.csv     path,label,group        clips of one group come from one recording
actions/run/7.avi    no table: the label is the folder's name, every clip its own group
```
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError, SourceError
from streamdyn.sources.suffixes import VIDEO_SUFFIXES

TABLE = "labels.csv"


@dataclass(frozen=True, slots=True)
class Clip:
    """One file of one action."""

    path: Path
    label: str
    group: str
    """Recording that it was cut from: clips of one group are never in two parts of a split."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipSet:
    """Clips in a fixed order."""

    clips: tuple[Clip, ...]
    labels: tuple[str, ...]
    """Sorted."""

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """`(N,)` int64, index in `labels` of each clip."""
        place = {label: number for number, label in enumerate(self.labels)}
        return np.array([place[clip.label] for clip in self.clips], np.int64)

    def folds(self, count: int, seed: int = 0) -> npt.NDArray[np.int64]:
        """`(N,)` int64 in `[0, count)`: groups stay whole, classes are spread as evenly as can be.

        The largest groups are dealt first, in an order drawn from the seed among those of one size,
        each to the fold that has fewest clips of its class.

        Raises:
            ConfigError: A class comes from fewer than `count` groups, so that a fold would have
                nothing of it to learn from or to be tested on.
        """
        members: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, clip in enumerate(self.clips):
            members[clip.label, clip.group].append(number)
        for label in self.labels:
            num_groups = sum(key[0] == label for key in members)
            if count < 2 or num_groups < count:
                raise ConfigError(
                    f"class {label!r} comes from {num_groups} recordings; {count} folds need at "
                    "least as many, and two folds at least"
                )
        dice = np.random.default_rng(seed)
        order = sorted(members)
        order = [order[i] for i in dice.permutation(len(order))]
        order.sort(key=lambda key: -len(members[key]))
        of_clip = np.zeros(len(self), np.int64)
        of_group: dict[str, int] = {}
        filled: dict[str, npt.NDArray[np.int64]] = {
            label: np.zeros(count, np.int64) for label in self.labels
        }
        total = np.zeros(count, np.int64)
        for label, group in order:
            # A recording may hold clips of several classes.
            emptiest = int(np.lexsort((total, filled[label]))[0])
            fold = of_group.setdefault(group, emptiest)
            of_clip[members[label, group]] = fold
            filled[label][fold] += len(members[label, group])
            total[fold] += len(members[label, group])
        return of_clip

    def take(self, chosen: npt.NDArray[np.bool_]) -> ClipSet:
        """Those for which `chosen (N,)` is true, under the same labels."""
        return ClipSet(tuple(self.clips[i] for i in np.flatnonzero(chosen)), self.labels)


def read_clips(folder: Path | str) -> ClipSet:
    """The clips of a folder, see the module.

    Raises:
        SourceError: There is no such folder, no clip in it, or a file of the table is missing.
        ConfigError: The table lacks a column, names a file twice, or all clips are of one class.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SourceError(f"cannot read clips from {folder}: there is no such folder")
    table = folder / TABLE
    clips = _listed(table) if table.exists() else _by_folder(folder)
    if not clips:
        raise SourceError(
            f"no clips in {folder}: it needs a {TABLE} with the columns path and label, or a "
            f"folder for each class with video files in it"
        )
    labels = tuple(sorted({clip.label for clip in clips}))
    if len(labels) < 2:
        raise ConfigError(f"all {len(clips)} clips in {folder} are of one class, {labels[0]!r}")
    return ClipSet(tuple(clips), labels)


def _listed(table: Path) -> list[Clip]:
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows: Sequence[dict[str, str | None]] = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise SourceError(f"cannot read {table}: {exc}") from exc
    clips, seen = [], set()
    for number, row in enumerate(rows, 2):
        name, label = row.get("path"), row.get("label")
        if not name or not label:
            raise ConfigError(f"{table}, line {number}: needs a path and a label, got {row}")
        path = table.parent / name
        if name in seen:
            raise ConfigError(f"{table}, line {number}: {name} is listed twice")
        if not path.is_file():
            raise SourceError(f"{table}, line {number}: there is no file {path}")
        seen.add(name)
        clips.append(Clip(path, label, row.get("group") or name))
    return clips


def _by_folder(folder: Path) -> list[Clip]:
    return [
        Clip(path, path.parent.name, f"{path.parent.name}/{path.name}")
        for path in sorted(folder.glob("*/*"))
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
    ]
