"""Train `skip_rnn` on kept features: every step is computed, masked where the gate skips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from streamdyn.learning.rounds import NOTHING_KEPT, Best, Rounds
from streamdyn.nn.cells import Cell
from streamdyn.nn.gates import round_straight_through
from streamdyn.pipelines.rehearsal import Rehearsal
from streamdyn.pipelines.train_actions import answer_losses, counted, directions, gru_arrays
from streamdyn.previews.hops import LONGEST_WAIT

Array = npt.NDArray[Any]
EVERY = 3
"""Items of a step."""
SIZE, HIDDEN = 16, 24
BATCH = 40
LOOK_COST = 0.06
"""Of a look, in nats of the answer's loss."""


class SkipGate(nn.Module):
    """The GRU and its gate; the features it takes in are fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = Cell("gru", SIZE, HIDDEN)
        self.increment = nn.Linear(HIDDEN, 1)
        nn.init.constant_(self.increment.bias, -1.0)

    def masked(self, x: Tensor) -> Tensor:
        """`(B, T, SIZE)` → `(B, T)` 0 or 1, where it looks; with the straight-through gradient."""
        projected = self.cell.project(x).unbind(1)
        h = x.new_zeros(len(x), HIDDEN)
        gate = h.new_ones(len(x), 1)
        increment, waited = gate, torch.zeros_like(gate)
        updates = []
        for step in projected:
            update = round_straight_through(gate)
            update = torch.where(waited >= LONGEST_WAIT, torch.ones_like(update), update)
            h, _ = self.cell.step_where(step, h, h, update)
            increment = update * torch.sigmoid(self.increment(h)) + (1 - update) * increment
            gate = update * increment + (1 - update) * (gate + torch.minimum(increment, 1 - gate))
            waited = torch.where(update > 0.5, torch.ones_like(waited), waited + 1)
            updates.append(update)
        return torch.cat(updates, 1)


def fit_skip_rnn(
    taught: Sequence[Rehearsal],
    seed: int,
    on_round: Callable[[int, float], None],
    *,
    rounds: int = 40,
    kept: Rounds = NOTHING_KEPT,
) -> dict[str, Array]:
    """Arrays of `skip_rnn`, by straight-through gradients.

    Args:
        taught: Streams.
        seed: Of weights and order.
        on_round: Told the number of the round and the mean loss.
        rounds: Times that all streams are gone through.
        kept: What was done before.
    """
    mean, basis = directions([one.lesson for one in taught], SIZE, EVERY)
    streams = [_tensors(one, mean, basis) for one in taught]
    noise = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SkipGate()
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3, weight_decay=1e-3)
    best = Best()
    parts = {"network": network, "optimizer": optimizer, "noise": noise, "best": best}
    for number in kept.over("skips", rounds, **parts):
        order = torch.split(torch.randperm(len(streams), generator=noise), BATCH)
        total = 0.0
        for batch in order:
            loss = _loss(network, [streams[k] for k in batch.tolist()])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            total += float(loss.detach()) * len(batch) / len(streams)
        on_round(number, total)
        best.offer(arrays_of(network), -total)
    return {"mean": mean, "basis": basis, **best.arrays}


def arrays_of(network: SkipGate) -> dict[str, Array]:
    """As the agent runs them."""
    weight, bias = (value.detach().numpy().copy() for value in network.increment.parameters())
    return {**gru_arrays(network), "increment": weight[0], "increment_bias": bias}


def _tensors(one: Rehearsal, mean: Array, basis: Array) -> tuple[Tensor, Tensor, Tensor]:
    """A step each: what goes in, what the answer would count it, and how sure of the right one."""
    places = np.arange(0, len(one), EVERY)
    counts, sure = counted(one.lesson, one.attention, places)
    x = (one.lesson.embeddings[places] - mean) @ basis.T
    return tuple(torch.from_numpy(a.astype(np.float32)) for a in (x, counts, sure))  # type: ignore[return-value]


def _loss(network: SkipGate, streams: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Of the answer by the frames looked at, and the cost of the looks."""
    x, counts, sure = (
        nn.utils.rnn.pad_sequence([stream[k] for stream in streams], batch_first=True)
        for k in range(3)
    )
    steps = torch.tensor([len(stream[0]) for stream in streams])
    inside = (torch.arange(x.shape[1]) < steps[:, None]).to(x.dtype)
    looks = network.masked(x) * inside
    losses = answer_losses(looks * counts + 1e-4 * inside, sure)
    loss: Tensor = (losses + LOOK_COST * looks.sum(1)).mean()
    return loss
