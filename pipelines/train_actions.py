"""Train the head of the recognizer `actions`, and the saliency of `scsampler`, on kept features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from streamdyn.clips.features import VideoFeatures
from streamdyn.errors import ConfigError
from streamdyn.learning.perceptrons import PerceptronRecipe, descend, fit_perceptrons
from streamdyn.pipelines.labelled_videos import Labelled
from streamdyn.previews.surroundings import packet_surroundings

Array = npt.NDArray[Any]
Pairs = Sequence[tuple[Labelled, VideoFeatures]]
OnEpoch = Callable[[int, float], None]
HEAD_EPOCHS = 20


def fit_head(
    videos: Pairs, seed: int = 0, on_epoch: OnEpoch = lambda epoch, loss: None
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Weights of a linear head, and its labels; pictures of actions teach it, each video alike.

    Raises:
        ConfigError: Fewer than two actions.
    """
    labels = tuple(sorted({label for video, _ in videos for label, *_ in video.events}))
    if len(labels) < 2:
        raise ConfigError(f"a head takes two actions to tell apart, got {list(labels)}")
    parts, targets, worths = [], [], []
    for video, features in videos:
        found = video.targets(features, labels)
        shown = found < len(labels)
        parts.append(features.embeddings[shown].astype(np.float32))
        targets.append(found[shown])
        worths.append(np.full(shown.sum(), 1 / max(1, shown.sum())))
    x, worth = np.concatenate(parts), np.concatenate(worths)
    mean, scale = x.mean(0), x.std(0).mean() * 3
    rows = torch.from_numpy((x - mean) / scale)
    wanted = torch.from_numpy(np.concatenate(targets))
    weights = torch.from_numpy((worth / worth.mean()).astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Linear(x.shape[1], len(labels))
        nn.init.zeros_(head.weight)
        optimizer = torch.optim.AdamW(head.parameters(), 3e-3, weight_decay=0.3)
        size = 512
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, HEAD_EPOCHS * -(-len(rows) // size)
        )

        def losses(batch: Tensor) -> Tensor:
            return nn.functional.cross_entropy(head(rows[batch]), wanted[batch], reduction="none")

        descend(
            optimizer, schedule, losses, weights,
            epochs=HEAD_EPOCHS, batch_size=size, on_epoch=on_epoch,
        )  # fmt: skip
    weight = head.weight.detach().numpy() / scale
    return {"weight": weight, "bias": head.bias.detach().numpy() - weight @ mean}, labels


def fit_saliency(
    videos: Pairs,
    probabilities: Callable[[Array], Array],
    labels: Sequence[str],
    seed: int = 0,
    on_epoch: OnEpoch = lambda epoch, loss: None,
) -> dict[str, Array]:
    """Perceptrons that know from packet sizes how sure the head will be of the right answer.

    Args:
        videos: Untrimmed ones; trimmed clips hold nothing to leave out.
        probabilities: The head: `(N, D)` embeddings → `(N, C)`.
        labels: Its C actions.
        seed: Of weights and order.
        on_epoch: Told the number of the epoch and its mean loss.

    Raises:
        ConfigError: There are none.
    """
    untrimmed = [(video, features) for video, features in videos if not video.trimmed]
    if not untrimmed:
        raise ConfigError(
            "there are no untrimmed streams to learn from; join some with `streamdyn join`"
        )
    rows, shares, worth = [], [], []
    for video, features in untrimmed:
        said = probabilities(features.embeddings.astype(np.float32))
        sure = said[:, labels.index(video.label)]
        inside = video.targets(features, labels) < len(labels)
        rows.append(packet_surroundings(features.block)[features.ordinals])
        shares.append(np.where(inside, sure, 0.0))
        worth.append(np.full(len(sure), 1 / len(sure)))
    recipe = PerceptronRecipe(seed=seed, epochs=12)
    return fit_perceptrons(
        np.concatenate(rows), np.concatenate(shares), np.concatenate(worth), recipe, on_epoch
    )
