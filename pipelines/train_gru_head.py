"""Train the recognizer `actions_gru`: looks at a stream, some of them partial, then its action."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from streamdyn.learning.rounds import NOTHING_KEPT, Best, Rounds, TorchDice
from streamdyn.nn.cells import Cell
from streamdyn.pipelines.train_actions import LOOKS, answer_losses, directions, gru_arrays
from streamdyn.pipelines.train_looks import split
from streamdyn.pipelines.unseen_heads import Lesson
from streamdyn.recognizers.actions import Evidence
from streamdyn.recognizers.actions_gru import PARTLY, state_input

Array = npt.NDArray[Any]
SIZE, HIDDEN = 8, 24
BATCH = 32
EPOCHS = 12
DRAWS = 2
"""Ways to look at a stream, an epoch, at each density of `LOOKS`."""
PARTIAL_SHARE = 0.3
"""Of the looks, in every second stream."""


class GruHead(nn.Module):
    """State and gate of `actions_gru`."""

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.cell = Cell("gru", num_inputs, HIDDEN)
        self.read = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor, whole: Tensor) -> Tensor:
        """`(B, T, I)` inputs, `(B, T)` where all of the state is updated → `(B, T)` gates."""
        h = x.new_zeros(len(x), HIDDEN)
        partly = torch.arange(HIDDEN) < HIDDEN // PARTLY
        states = []
        for step, is_whole in zip(self.cell.project(x).unbind(1), whole.unbind(1), strict=True):
            new, _ = self.cell.step(step, h, h)
            h = torch.where(is_whole[:, None] | partly, new, h)
            states.append(h)
        gates: Tensor = self.read(torch.stack(states, 1))[..., 0].sigmoid()
        return gates

    def arrays(self) -> dict[str, Array]:
        """As the recognizer runs them."""
        weight, bias = (value.detach().numpy().copy() for value in self.read.parameters())
        return {**gru_arrays(self), "read": weight[0], "read_bias": bias}


def fit_gru_head(
    taught: Sequence[Lesson],
    head: Mapping[str, Array],
    seed: int = 0,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
    kept: Rounds = NOTHING_KEPT,
) -> dict[str, Array]:
    """Arrays of `actions_gru`, by the answer after the last look.

    The best epoch is kept, by streams that were held out.

    Args:
        taught: Untrimmed streams.
        head: `weight` and `bias` of the linear head that it will run behind.
        seed: Of weights, looks and order.
        on_epoch: Told the number of the epoch and its mean loss on streams that were held out.
        kept: What was done before.
    """
    dice = np.random.default_rng(seed)
    mean, basis = directions(taught, SIZE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GruHead(len(basis) + 5)
        optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.05)
        learn, held = split(taught)
        looks = [(one, count) for one in learn for count in LOOKS for _ in range(DRAWS)]
        fixed = np.random.default_rng(seed)
        judged = [looked(one, count, mean, basis, fixed) for one in held for count in LOOKS]
        best = Best()
        parts = {
            "network": network, "optimizer": optimizer, "noise": TorchDice(), "dice": dice,
            "best": best,
        }  # fmt: skip
        for epoch in kept.over("looks", EPOCHS, **parts):
            network.train()
            order = dice.permutation(len(looks))
            for batch in np.array_split(order, -(-len(order) // BATCH)):
                loss = _loss(
                    network, [looked(looks[k][0], looks[k][1], mean, basis, dice) for k in batch]
                )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
            network.eval()
            with torch.inference_mode():
                worth = -float(_loss(network, judged))
            best.offer(network.arrays(), worth)
            on_epoch(epoch, -worth)
    return {**head, "mean": mean, "basis": basis, **best.arrays}


Looked = tuple[Tensor, Tensor, Tensor]


def looked(
    lesson: Lesson, count: int, mean: Array, basis: Array, dice: np.random.Generator
) -> Looked:
    """Looks that are evenly spaced from a place that is drawn.

    Returns:
        `(T, I)` inputs; `(T,)` which are whole; `(T,)` how sure the head is of the right action.
    """
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
    sure = torch.from_numpy(lesson.said[places, lesson.target])
    return torch.from_numpy(np.stack(rows)), torch.from_numpy(whole), sure


def _loss(network: GruHead, streams: Sequence[Looked]) -> Tensor:
    """Of the answer after the last look."""
    x, whole, sure = (
        nn.utils.rnn.pad_sequence([one[k] for one in streams], batch_first=True) for k in range(3)
    )
    counts = network(x, whole) * whole + 1e-6
    inside = nn.utils.rnn.pad_sequence([torch.ones(len(one[0])) for one in streams], True)
    loss: Tensor = answer_losses(counts * inside, sure).mean()
    return loss
