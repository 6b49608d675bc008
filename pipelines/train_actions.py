"""Train the recognizer `actions`, and the saliency of `scsampler`, on kept features."""

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
from streamdyn.learning.rounds import NOTHING_KEPT, Rounds
from streamdyn.pipelines.labelled_videos import Labelled
from streamdyn.pipelines.unseen_heads import Lesson
from streamdyn.previews.surroundings import packet_surroundings
from streamdyn.recognizers.actions import Evidence, attended
from streamdyn.text.network import cell_arrays

Array = npt.NDArray[Any]
Pairs = Sequence[tuple[Labelled, VideoFeatures]]
OnEpoch = Callable[[int, float], None]
HEAD_EPOCHS = 20
LOOKS = (6, 12, 24, 40)
"""In a stream, where the attention is taught."""


def fit_head(
    videos: Pairs,
    seed: int = 0,
    on_epoch: OnEpoch = lambda epoch, loss: None,
    kept: Rounds = NOTHING_KEPT,
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
            epochs=HEAD_EPOCHS, batch_size=size, on_epoch=on_epoch, kept=kept, head=head,
        )  # fmt: skip
    weight = head.weight.detach().numpy() / scale
    return {"weight": weight, "bias": head.bias.detach().numpy() - weight @ mean}, labels


def fit_attention(taught: Sequence[Lesson], seed: int = 0) -> Array:
    """`(5,)`, weights and bias of the attention: which looks show an action?

    Learns from looks that are evenly spaced, at four densities, from a place that is drawn.
    """
    dice = np.random.default_rng(seed)
    rows, inside = [], []
    for lesson in taught:
        for count in LOOKS:
            n = len(lesson.said)
            places = ((np.arange(count) + dice.random()) * n / count).astype(int)
            rows.append(evidence(lesson, np.unique(places)).features())
            inside.append(lesson.inside[np.unique(places)])
    x = np.concatenate(rows)
    mean, scale = x.mean(0), x.std(0) + 1e-6
    weight, bias = _logistic((x - mean) / scale, np.concatenate(inside))
    return np.append(weight / scale, bias - float(weight @ (mean / scale))).astype(np.float32)


def evidence(lesson: Lesson, places: Sequence[int] | Array) -> Evidence:
    """What `actions` holds after looking at these rows of a lesson."""
    seconds = lesson.seconds
    found = Evidence.none(lesson.embeddings.shape[1], lesson.said.shape[1])
    for place in places:
        found = found.after(float(seconds[place]), lesson.embeddings[place], lesson.said[place])
    return found


def counted(lesson: Lesson, attention: Array, places: Array) -> tuple[Array, Array]:
    """`(n,)` float32 each: what the answer counts looks there, and how sure of the right one."""
    counts = attended(evidence(lesson, places).features(), attention)
    return counts.astype(np.float32), lesson.said[places, lesson.target].astype(np.float32)


def answer_losses(weights: Tensor, sure: Tensor) -> Tensor:
    """`(...)` nats, of answers that rest on looks.

    Args:
        weights: `(..., T)`, what each look counts.
        sure: `(..., T)`, how sure it is of the right action.
    """
    losses: Tensor = -torch.log((weights * sure).sum(-1) / weights.sum(-1) + 0.02)
    return losses


def gru_arrays(network: nn.Module) -> dict[str, Array]:
    """`wx`, `wh`, `bx` and `bh` of its `cell`, as agents and heads with a GRU keep them."""
    weights = {name: value.detach().numpy().copy() for name, value in network.named_parameters()}
    return dict(zip(("wx", "wh", "bx", "bh"), cell_arrays(weights, "cell"), strict=True))


def directions(taught: Sequence[Lesson], size: int, every: int = 3) -> tuple[Array, Array]:
    """`(D,)` mean and `(size, D)` basis of embeddings, of those that differ most.

    What is seen in them is of like size, so that more tells than what differs most.

    Args:
        taught: Streams.
        size: Directions at most.
        every: Pictures between those that count.
    """
    embeddings = np.concatenate([one.embeddings[::every] for one in taught])
    mean = embeddings.mean(0)
    _, values, axes = np.linalg.svd(embeddings - mean, full_matrices=False)
    return mean, axes[:size] / (values[:size, None] / np.sqrt(len(embeddings)))


def _logistic(x: Array, y: Array) -> tuple[Array, float]:
    rows, wanted = torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y.astype(np.float32))
    parameters = torch.zeros(x.shape[1] + 1, requires_grad=True)

    def loss() -> Tensor:
        logits = rows @ parameters[:-1] + parameters[-1]
        error = nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        return error + 1e-3 * parameters[:-1].square().sum()

    found = minimized(loss, parameters)
    return found[:-1], float(found[-1])


def minimized(loss: Callable[[], Tensor], parameters: Tensor) -> Array:
    """The parameters where a smooth loss of few of them is least; they are changed on the way."""
    optimizer = torch.optim.LBFGS([parameters], max_iter=200)

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = loss()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found: Array = parameters.detach().numpy()
    return found


def fit_saliency(
    taught: Sequence[Lesson],
    seed: int = 0,
    on_epoch: OnEpoch = lambda epoch, loss: None,
    kept: Rounds = NOTHING_KEPT,
) -> dict[str, Array]:
    """Perceptrons that know from packet sizes how sure a head will be of the right answer.

    Args:
        taught: Untrimmed streams.
        seed: Of weights and order.
        on_epoch: Told the number of the epoch and its mean loss.
        kept: What was done before.
    """
    rows, shares, worth = [], [], []
    for lesson in taught:
        rows.append(packet_surroundings(lesson.features.block)[lesson.features.ordinals])
        shares.append(np.where(lesson.inside, lesson.said[:, lesson.target], 0.0))
        worth.append(np.full(len(lesson.said), 1 / len(lesson.said)))
    recipe = PerceptronRecipe(seed=seed, epochs=12)
    x, y, counts = (np.concatenate(parts) for parts in (rows, shares, worth))
    return fit_perceptrons(x, y, counts, recipe, on_epoch, kept)
