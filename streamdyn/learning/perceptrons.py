"""Teach small perceptrons a share in [0, 1]: what video agents decide by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from streamdyn.learning.rounds import NOTHING_KEPT, Rounds, TorchDice

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class PerceptronRecipe:
    """Numbers of a training."""

    hidden: int = 24
    members: int = 4
    epochs: int = 30
    batch_size: int = 512
    learning_rate: float = 1e-2
    weight_decay: float = 1e-3
    seed: int = 0


class Ensemble(nn.Module):
    """`streamdyn.nn.perceptrons.Perceptrons`, to be trained.

    The members differ by where they start and by what they drop.
    """

    def __init__(self, num_features: int, hidden: int, members: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(members, hidden, num_features))
        self.first_bias = nn.Parameter(torch.zeros(members, hidden))
        self.second = nn.Parameter(torch.empty(members, hidden, hidden))
        self.second_bias = nn.Parameter(torch.zeros(members, hidden))
        self.last = nn.Parameter(torch.empty(members, hidden))
        self.last_bias = nn.Parameter(torch.zeros(members))
        for weights, fan_in in ((self.first, num_features), (self.second, hidden)):
            nn.init.uniform_(weights, -(fan_in**-0.5), fan_in**-0.5)
        nn.init.uniform_(self.last, -(hidden**-0.5), hidden**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, F)` → `(E, N)` logits."""
        h = torch.einsum("nf,ehf->enh", x, self.first) + self.first_bias[:, None]
        h = nn.functional.dropout(nn.functional.silu(h), 0.1, self.training)
        h = nn.functional.silu(h @ self.second.mT + self.second_bias[:, None])
        return (h @ self.last[:, :, None])[..., 0] + self.last_bias[:, None]

    def arrays(self, mean: Array, scale: Array) -> dict[str, Array]:
        """Of `Perceptrons`, as they are now; `mean` and `scale` are `(F,)`, of its rows."""
        found = {name: value.detach().numpy().copy() for name, value in self.named_parameters()}
        return {"mean": mean, "scale": scale, **found}


def scaled(rows: Array, mean: Array, scale: Array) -> Tensor:
    """`(..., F)` float32, as `Perceptrons` scale their rows."""
    return torch.from_numpy(np.clip((rows - mean) / scale, -5, 5).astype(np.float32))


def fit_perceptrons(
    rows: Array,
    shares: Array,
    worth: Array,
    recipe: PerceptronRecipe,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
    kept: Rounds = NOTHING_KEPT,
) -> dict[str, Array]:
    """Arrays of `Perceptrons`, by cross entropy.

    Args:
        rows: `(N, F)` finite.
        shares: `(N,)` what to say, in [0, 1].
        worth: `(N,)` what an error there counts.
        recipe: How.
        on_epoch: Told the number of the epoch and its mean loss.
        kept: What was done before.
    """
    mean, scale = rows.mean(0), rows.std(0) + 1e-6
    x = scaled(rows, mean, scale)
    y = torch.from_numpy(shares.astype(np.float32))
    weights = torch.from_numpy((worth / worth.mean()).astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = Ensemble(rows.shape[1], recipe.hidden, recipe.members)
        optimizer = torch.optim.AdamW(
            network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        steps = recipe.epochs * math.ceil(len(x) / recipe.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.learning_rate, total_steps=steps + 1
        )

        def losses(batch: Tensor) -> Tensor:
            logits = network(x[batch])
            return nn.functional.binary_cross_entropy_with_logits(
                logits, y[batch].expand_as(logits), reduction="none"
            )

        descend(
            optimizer, schedule, losses, weights,
            epochs=recipe.epochs, batch_size=recipe.batch_size, on_epoch=on_epoch,
            kept=kept, network=network,
        )  # fmt: skip
    return network.arrays(mean, scale)


def descend(
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    losses: Callable[[Tensor], Tensor],
    weights: Tensor,
    *,
    epochs: int,
    batch_size: int,
    on_epoch: Callable[[int, float], None],
    kept: Rounds = NOTHING_KEPT,
    **parts: Any,
) -> None:
    """Follow the gradient of a weighted mean loss, in an order drawn from torch's dice.

    Args:
        optimizer: Of the parameters.
        schedule: Of its learning rate, a step a batch.
        losses: `(B,)` row numbers → `(..., B)` losses of these rows.
        weights: `(N,)`, what each row counts.
        epochs: Times that all rows are gone through.
        batch_size: Rows at once.
        on_epoch: Told the number of the epoch and its mean loss.
        kept: What was done before.
        **parts: What learns, for `kept`.
    """
    parts |= {"optimizer": optimizer, "schedule": schedule, "dice": TorchDice()}
    for epoch in kept.over("epochs", epochs, **parts):
        total = 0.0
        for batch in torch.split(torch.randperm(len(weights)), batch_size):
            loss = (losses(batch) * weights[batch]).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(batch)
        on_epoch(epoch, total / len(weights))
