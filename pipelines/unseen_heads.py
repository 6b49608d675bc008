"""What a head says of recordings that it has not seen: what agents must be taught by.

A head is always sure of what it was taught. An agent that learns from its words about its own
training clips learns that looking once is enough, wherever; about other clips that is not so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.clips.features import VideoFeatures
from streamdyn.errors import ConfigError
from streamdyn.pipelines.labelled_videos import Labelled
from streamdyn.recognizers.actions import said_by

Array = npt.NDArray[Any]
PARTS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """An untrimmed stream, and what an honest head says of it; `M` items could be decoded."""

    video: Labelled
    features: VideoFeatures
    embeddings: Array
    """`(M, D)` float32."""
    said: Array
    """`(M, C)`, of each picture alone."""
    inside: Array
    """`(M,)` bool, it shows an action."""
    target: int
    """Number of the action; of the first one where there are several."""

    @property
    def seconds(self) -> Array:
        """`(M,)`."""
        block = self.features.block
        return block.pts[self.features.ordinals] * float(block.time_base)


def lessons(
    videos: Sequence[tuple[Labelled, VideoFeatures]],
    fit: Callable[[Sequence[tuple[Labelled, VideoFeatures]]], tuple[dict[str, Array], Any]],
    labels: Sequence[str],
    seed: int = 0,
) -> list[Lesson]:
    """The untrimmed ones, each item judged by a head that has not seen its recording.

    Args:
        videos: Trimmed clips, and streams that were joined of them.
        fit: Makes a head from some of the clips.
        labels: Its actions.
        seed: Of the parts that clips are dealt into, whole recordings.

    Raises:
        ConfigError: There are no streams, or a stream is of clips that are not there or has
            pictures that cannot be decoded.
    """
    clips = [pair for pair in videos if pair[0].trimmed]
    streams = [pair for pair in videos if not pair[0].trimmed]
    if not streams or not clips:
        raise ConfigError(
            f"there are {len(clips)} clips and {len(streams)} untrimmed streams to learn from; it "
            "takes both: join streams with `streamdyn join`, and give the clips' folder too"
        )
    groups = sorted({clip.recordings[0] for clip, _ in clips})
    order = np.random.default_rng(seed).permutation(len(groups))
    part_of = {groups[place]: number % PARTS for number, place in enumerate(order.tolist())}
    of_file = {str(clip.path.resolve()): part_of[clip.recordings[0]] for clip, _ in clips}
    heads = [
        fit([(clip, kept) for clip, kept in clips if part_of[clip.recordings[0]] != part])[0]
        for part in range(PARTS)
    ]
    return [_judged(video, kept, heads, of_file, labels) for video, kept in streams]


def _judged(
    video: Labelled,
    kept: VideoFeatures,
    heads: Sequence[dict[str, Array]],
    of_file: dict[str, int],
    labels: Sequence[str],
) -> Lesson:
    if len(kept.ordinals) != len(kept):
        raise ConfigError(
            f"{len(kept) - len(kept.ordinals)} pictures of {video.path} cannot be decoded; make "
            "the stream again"
        )
    embeddings = kept.embeddings.astype(np.float32)
    parts = np.full(len(embeddings), -1)
    for (_, first, stop), file in zip(video.events, video.recordings, strict=True):
        if file not in of_file:
            raise ConfigError(f"{video.path} shows {file}, which is not among the clips given")
        parts[(kept.ordinals >= first) & (kept.ordinals < stop)] = of_file[file]
    inside = parts >= 0
    parts[~inside] = of_file[video.recordings[0]]
    said = np.zeros((len(embeddings), len(labels)), np.float32)
    for part in np.unique(parts):
        said[parts == part] = said_by(heads[part], embeddings[parts == part])
    return Lesson(video, kept, embeddings, said, inside, labels.index(video.label))
