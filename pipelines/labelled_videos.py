"""Videos with what happens in them: labelled clips, and untrimmed streams with their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamdyn.clips.clip_set import read_clips
from streamdyn.clips.features import VideoFeatures
from streamdyn.clips.untrimmed import load_untrimmed, truth_file
from streamdyn.errors import ConfigError
from streamdyn.sources.suffixes import VIDEO_SUFFIXES


@dataclass(frozen=True, slots=True)
class Labelled:
    """A video and the actions in it."""

    path: Path
    events: tuple[tuple[str, int, int], ...]
    """Label, ordinal of the first item, ordinal after the last; `-1`: to the end."""
    trimmed: bool
    """The whole of it is one action."""
    recordings: tuple[str, ...] = ()
    """What each action was cut from: of a clip its group, of a stream the file of the clip."""

    @property
    def label(self) -> str:
        """Of the first action."""
        return self.events[0][0]

    def targets(self, features: VideoFeatures, labels: Sequence[str]) -> npt.NDArray[np.int64]:
        """`(M,)` index in `labels` of what each recognized item shows; `len(labels)`: nothing."""
        out = np.full(len(features.ordinals), len(labels), np.int64)
        for label, first, stop in self.events:
            inside = features.ordinals >= first
            if stop >= 0:
                inside &= features.ordinals < stop
            out[inside] = labels.index(label)
        return out


def labelled_videos(
    folders: Sequence[str | Path],
    *,
    folds: int = 5,
    without_fold: int | None = None,
    only_fold: int | None = None,
    seed: int = 0,
) -> list[Labelled]:
    """Everything labelled in the folders.

    Args:
        folders: Of labelled clips (see `read_clips`), or of streams with their truth beside.
        folds: That clips are split into, see `ClipSet.folds`.
        without_fold: Leave out the clips of this one.
        only_fold: Take the clips of this one alone.
        seed: Of the folds.

    Raises:
        ConfigError: A folder holds nothing of the kind.
        SourceError: A file is missing or damaged.
    """
    found: list[Labelled] = []
    for folder in map(Path, folders):
        streams = [
            path
            for path in sorted(folder.glob("*"))
            if path.suffix.lower() in VIDEO_SUFFIXES and truth_file(path).exists()
        ]
        if streams:
            found += [_stream(path) for path in streams]
            continue
        clips = read_clips(folder)
        if without_fold is not None:
            clips = clips.take(clips.folds(folds, seed) != without_fold)
        if only_fold is not None:
            clips = clips.take(clips.folds(folds, seed) == only_fold)
        found += [
            Labelled(clip.path, ((clip.label, 0, -1),), True, (clip.group,)) for clip in clips.clips
        ]
    if not found:
        raise ConfigError("no labelled videos were given")
    return found


def _stream(path: Path) -> Labelled:
    truth = load_untrimmed(path)
    events = tuple((e.label, e.first, e.stop) for e in truth.events)
    return Labelled(path, events, False, tuple(str(Path(e.clip).resolve()) for e in truth.events))
