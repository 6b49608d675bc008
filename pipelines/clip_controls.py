"""What clips give away without a look, and what the luckiest look would say: two controls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from streamdyn.clips.features import VideoFeatures
from streamdyn.nn.weights import AgentWeights
from streamdyn.pipelines.train_actions import Pairs, minimized
from streamdyn.recognizers.actions import said_by


@dataclass(frozen=True, slots=True)
class ClipControls:
    """Right or not, one entry a clip."""

    paths: list[str]
    metadata: list[bool]
    """By length, rate, size of the pictures and of the packets, with no picture decoded."""
    any_look: list[bool]
    """Some picture, alone, says the right action: hindsight."""


def clip_controls(taught: Pairs, asked: Pairs, head: AgentWeights) -> ClipControls:
    """Judge both on `asked`.

    Args:
        taught: Clips that metadata are learned from.
        asked: Other clips.
        head: Of the recognizer `actions`, taught on the same clips.
    """
    labels = list(head.facts["labels"])
    x, y = _table(taught), np.array([labels.index(video.label) for video, _ in taught])
    mean, scale = x.mean(0), x.std(0) + 1e-6
    rows, wanted = torch.from_numpy((x - mean) / scale).float(), torch.from_numpy(y)
    weight = torch.zeros(len(labels), x.shape[1] + 1, requires_grad=True)

    def loss() -> torch.Tensor:
        logits = rows @ weight[:, :-1].T + weight[:, -1]
        return nn.functional.cross_entropy(logits, wanted) + 1e-3 * weight.square().sum()

    found = minimized(loss, weight)
    said = ((_table(asked) - mean) / scale) @ found[:, :-1].T + found[:, -1]
    targets = np.array([labels.index(video.label) for video, _ in asked])
    looks = [
        bool((said_by(head.arrays, kept.embeddings.astype(np.float32)).argmax(1) == target).any())
        for (_, kept), target in zip(asked, targets, strict=True)
    ]
    return ClipControls(
        [str(video.path) for video, _ in asked], (said.argmax(1) == targets).tolist(), looks
    )


def _table(videos: Pairs) -> npt.NDArray[np.float64]:
    return np.array([_metadata(kept) for _, kept in videos])


def _metadata(kept: VideoFeatures) -> list[float]:
    sizes = np.log(np.maximum(kept.block.num_bytes, 1))
    width, height = kept.size
    seconds = float((kept.block.pts[-1] - kept.block.pts[0]) * kept.block.time_base)
    return [
        len(kept), len(kept) / max(seconds, 1e-3), width, height, sizes.mean(), sizes.std(),
        kept.block.keyframe.mean(),
    ]  # fmt: skip
