"""Untrimmed streams to train and to judge on: a clip each, between pieces of idle footage.

```
OUT/train/0000.mp4     of clips of the other folds, idle footage of every other video
OUT/test/0000.mp4      of clips of the fold, idle footage of the rest of the videos
OUT/test/0000.events.json
```
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamdyn.clips.clip_set import ClipSet
from streamdyn.clips.untrimmed import Untrimmed, join_stream, load_untrimmed, truth_file
from streamdyn.errors import ConfigError
from streamdyn.index.placing import write_explained


@dataclass(frozen=True, slots=True)
class UntrimmedSet:
    """Streams of one split; neither a recording nor idle footage is in both parts."""

    train: tuple[Untrimmed, ...]
    test: tuple[Untrimmed, ...]


def make_streams(
    clips: ClipSet,
    idle: Sequence[Path],
    out: Path,
    *,
    share: float,
    num_train: int,
    folds: int = 5,
    fold: int = 0,
    seed: int = 0,
    on_stream: Callable[[Path], None] = lambda path: None,
) -> UntrimmedSet:
    """Join the streams that are not in the folder yet.

    Args:
        clips: Labelled.
        idle: Videos in which none of the actions happens, two at least.
        out: Folder, made when missing.
        share: Of the pictures of a stream, those of its clip.
        num_train: Streams to train on, of as many clips drawn from the other folds; every clip of
            the fold makes a test stream.
        folds: See `ClipSet.folds`.
        fold: The one to test on.
        seed: Of the folds, the clips drawn, and the footage.
        on_stream: Told of each stream, made or found.

    Raises:
        ConfigError: Fewer than two idle videos, or no such fold.
        SourceError: A clip or a video cannot be read.
        StoreError: The folder cannot be written.
    """
    if len(idle) < 2 or not 0 <= fold < folds:
        raise ConfigError(
            "streams take two idle videos at least, to have other footage in the test part, and a "
            f"fold in 0..{folds - 1}; got {len(idle)} videos and {fold = }"
        )
    with write_explained(out):
        for part in ("train", "test"):
            (out / part).mkdir(parents=True, exist_ok=True)
    is_test = clips.folds(folds, seed) == fold
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~is_test))[:num_train]
    ordered = sorted(idle)
    parts = []
    for name, chosen, footage in (
        ("train", order, ordered[::2]),
        ("test", np.flatnonzero(is_test), ordered[1::2]),
    ):
        made = []
        for number, place in enumerate(chosen.tolist()):
            target = out / name / f"{number:04}.mp4"
            # The truth is written last: a stream without it was cut short.
            if truth_file(target).exists():
                made.append(load_untrimmed(target))
            else:
                clip = clips.clips[place]
                made.append(join_stream([clip], footage, target, share=share, seed=seed + place))
            on_stream(target)
        parts.append(tuple(made))
    return UntrimmedSet(*parts)
