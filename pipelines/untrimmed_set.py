"""Untrimmed streams to train and to judge on: clips between pieces of idle footage.

```
OUT/train/0000.mp4     of clips of the other folds, idle footage of half of the videos
OUT/test/0000.mp4      of clips of the fold, idle footage of the other half
OUT/test/0000.events.json
```
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    num_test: int | None = None,
    clips_per_stream: int = 1,
    folds: int = 5,
    fold: int | None = 0,
    seed: int = 0,
    on_stream: Callable[[Path], None] = lambda path: None,
) -> UntrimmedSet:
    """Join the streams that are not in the folder yet.

    Args:
        clips: Labelled.
        idle: Videos in which none of the actions happens, two at least where the share is below 1.
        out: Folder, made when missing.
        share: Of the pictures of a stream, those of its clips.
        num_train: Streams to train on, of clips drawn from the other folds.
        num_test: Streams to test on, of clips drawn from the fold; `None`: one for every clip.
        clips_per_stream: Different ones; a clip may be in several streams where this is above 1.
        folds: See `ClipSet.folds`.
        fold: The one to test on; which footage is in which part changes with it too. `None`: all
            clips and all footage are to train on.
        seed: Of the folds, the clips drawn, and the footage.
        on_stream: Told of each stream, made or found.

    Raises:
        ConfigError: Fewer than two idle videos, no such fold, or too few clips in a part.
        SourceError: A clip or a video cannot be read.
        StoreError: The folder cannot be written.
    """
    if fold is not None and ((share < 1 and len(idle) < 2) or not 0 <= fold < folds):
        raise ConfigError(
            "streams take two idle videos at least, to have other footage in the test part, and a "
            f"fold in 0..{folds - 1}; got {len(idle)} videos and {fold = }"
        )
    with write_explained(out):
        for part in ("train", "test"):
            (out / part).mkdir(parents=True, exist_ok=True)
    wanted: list[tuple[str, Any, int | None, list[Path]]]
    if fold is None:
        wanted = [("train", np.arange(len(clips)), num_train, sorted(idle))]
    else:
        is_test = clips.folds(folds, seed) == fold
        # Another fold, other footage to learn from and to be judged on.
        dealt = [sorted(idle)[k] for k in np.random.default_rng(fold).permutation(len(idle))]
        wanted = [
            ("train", np.flatnonzero(~is_test), num_train, dealt[::2]),
            ("test", np.flatnonzero(is_test), num_test, dealt[1::2]),
        ]
    parts: dict[str, tuple[Untrimmed, ...]] = {"train": (), "test": ()}
    for name, members, count, footage in wanted:
        made = []
        for number, places in enumerate(_drawn(members, count, clips_per_stream, seed)):
            target = out / name / f"{number:04}.mp4"
            # The truth is written last: a stream without it was cut short.
            if truth_file(target).exists():
                made.append(load_untrimmed(target))
            else:
                chosen = [clips.clips[place] for place in places]
                own_seed = seed + (places[0] if clips_per_stream == 1 else number)
                made.append(join_stream(chosen, footage, target, share=share, seed=own_seed))
            on_stream(target)
        parts[name] = tuple(made)
    return UntrimmedSet(**parts)


def _drawn(members: Any, count: int | None, size: int, seed: int) -> list[list[int]]:
    """The clips of each stream."""
    if len(members) < size:
        raise ConfigError(
            f"a stream of {size} clips takes as many in a part; one has {len(members)}"
        )
    if size > 1:
        count = len(members) if count is None else count
        dice = [np.random.default_rng((seed, number)) for number in range(count)]
        return [one.choice(members, size, replace=False).tolist() for one in dice]
    if count is None:
        return [[place] for place in members.tolist()]
    return [[place] for place in np.random.default_rng(seed).permutation(members)[:count].tolist()]
