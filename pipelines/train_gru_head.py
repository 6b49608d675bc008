"""Train the recognizer `actions_gru`: looks at a stream, some of them partial, then its action."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from streamdyn.learning.rounds import Rounds, TorchDice
from streamdyn.nn.cells import Cell
from streamdyn.pipelines.train_actions import LOOKS
from streamdyn.pipelines.unseen_heads import Lesson
from streamdyn.recognizers.actions import Evidence
from streamdyn.recognizers.actions_gru import PARTLY, state_input

Array = npt.NDArray[Any]
SIZE, HIDDEN = 24, 64
BATCH = 32
EPOCHS = 12
DRAWS = 2
"""Ways to look at a stream, an epoch, at each density of `LOOKS`."""
PARTIAL_SHARE = 0.3
"""Of the looks, in every second stream."""


class GruHead(nn.Module):
    """State and readout of `actions_gru`."""

    def __init__(self, num_inputs: int, num_labels: int) -> None:
        super().__init__()
        self.cell = Cell("gru", num_inputs, HIDDEN)
        self.read = nn.Linear(HIDDEN, num_labels)

    def forward(self, x: Tensor, whole: Tensor) -> Tensor:
        """`(B, T, I)` inputs, `(B, T)` where all of the state is updated → `(B, T, C)` logits."""
        h = x.new_zeros(len(x), HIDDEN)
        partly = torch.arange(HIDDEN) < HIDDEN // PARTLY
        states = []
        for step, is_whole in zip(self.cell.project(x).unbind(1), whole.unbind(1), strict=True):
            new, _ = self.cell.step(step, h, h)
            h = torch.where(is_whole[:, None] | partly, new, h)
            states.append(h)
        logits: Tensor = self.read(
            nn.functional.dropout(torch.stack(states, 1), 0.3, self.training)
        )
        return logits

    def arrays(self) -> dict[str, Array]:
        """As the recognizer runs them."""
        fused: Any = self.cell.fused
        found = {
            "wx": fused.weight_ih_l0.T,
            "wh": fused.weight_hh_l0.T,
            "bx": fused.bias_ih_l0,
            "bh": fused.bias_hh_l0,
            "read": self.read.weight,
            "read_bias": self.read.bias,
        }
        return {name: value.detach().numpy().copy() for name, value in found.items()}


def fit_gru_head(
    taught: Sequence[Lesson],
    head: Mapping[str, Array],
    seed: int = 0,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
    rounds: Rounds | None = None,
) -> dict[str, Array]:
    """Arrays of `actions_gru`, by cross entropy of the answer after the last look.

    Args:
        taught: Untrimmed streams.
        head: `weight` and `bias` of the linear head that it will run behind.
        seed: Of weights, looks and order.
        on_epoch: Told the number of the epoch and its mean loss.
        rounds: Keeps what was learned after every epoch.
    """
    dice = np.random.default_rng(seed)
    embeddings = np.concatenate([one.embeddings[::3] for one in taught])
    mean = embeddings.mean(0)
    _, values, axes = np.linalg.svd(embeddings - mean, full_matrices=False)
    basis = axes[:SIZE] / (values[:SIZE, None] / np.sqrt(len(embeddings)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        num_labels = len(head["bias"])
        network = GruHead(len(basis) + num_labels + 4, num_labels)
        optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.05)
        looks = [(one, count) for one in taught for count in LOOKS for _ in range(DRAWS)]
        parts = {"network": network, "optimizer": optimizer, "noise": TorchDice(), "dice": dice}
        for epoch in (rounds or Rounds()).over("looks", EPOCHS, **parts):
            total = 0.0
            order = dice.permutation(len(looks))
            for batch in np.array_split(order, -(-len(order) // BATCH)):
                loss = _loss(
                    network, [looked(looks[k][0], looks[k][1], mean, basis, dice) for k in batch]
                )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                total += float(loss.detach()) * len(batch) / len(order)
            on_epoch(epoch, total)
    return {**head, "mean": mean, "basis": basis, **network.arrays()}


Looked = tuple[Tensor, Tensor, int]


def looked(
    lesson: Lesson, count: int, mean: Array, basis: Array, dice: np.random.Generator
) -> Looked:
    """Looks that are evenly spaced from a place that is drawn: inputs, which are whole, action."""
    n = len(lesson.said)
    places = np.unique(((np.arange(count) + dice.random()) * n / count).astype(int))
    whole = np.ones(len(places), bool)
    if dice.random() < 0.5:
        whole = dice.random(len(places)) >= PARTIAL_SHARE
    found = Evidence.none(lesson.embeddings.shape[1], lesson.said.shape[1])
    rows = []
    for place, is_whole in zip(places, whole, strict=True):
        found = found.after(
            float(lesson.seconds[place]), lesson.embeddings[place], lesson.said[place] * is_whole
        )
        rows.append(state_input(found, mean, basis))
    return torch.from_numpy(np.stack(rows)), torch.from_numpy(whole), lesson.target


def _loss(network: GruHead, streams: Sequence[Looked]) -> Tensor:
    """Of the answer after the last look."""
    x = nn.utils.rnn.pad_sequence([one[0] for one in streams], batch_first=True)
    whole = nn.utils.rnn.pad_sequence([one[1] for one in streams], batch_first=True)
    last = torch.tensor([len(one[0]) - 1 for one in streams])
    targets = torch.tensor([one[2] for one in streams])
    logits = network(x, whole)[torch.arange(len(x)), last]
    return nn.functional.cross_entropy(logits, targets)
