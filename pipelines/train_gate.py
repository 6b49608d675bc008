"""Train the gate of `liteeval` as its paper does: by Gumbel-softmax, for the answer and for thrift.

`streamdyn train video liteeval` teaches it by the truth instead, which is right more often
(docs/agents.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamdyn.learning.perceptrons import Ensemble, scaled
from streamdyn.learning.rounds import NOTHING_KEPT, Best, Rounds
from streamdyn.nn.gates import Sampling, choose
from streamdyn.nn.perceptrons import Perceptrons
from streamdyn.pipelines.rehearsal import Rehearsal
from streamdyn.pipelines.train_actions import answer_losses, counted
from streamdyn.pipelines.train_looks import BATCH, PARTS, split

Array = npt.NDArray[Any]
LOOK_COST = 0.03
"""Of a look, in nats of the answer's loss."""
TEMPERATURES = (2.0, 0.5)
"""Of the Gumbel-softmax, at the start and at the end."""


def fit_gate(
    taught: Sequence[Rehearsal],
    seed: int,
    on_round: Callable[[int, float], None],
    *,
    rounds: int = 40,
    k: int = 4,
    kept: Rounds = NOTHING_KEPT,
) -> dict[str, Array]:
    """Perceptrons of `liteeval`, by straight-through gradients of gates drawn with Gumbel noise.

    Paper: Jang et al. 2017, Categorical Reparameterization with Gumbel-Softmax, arXiv:1611.01144,
    section 2.2; loss: Wu et al. 2019, LiteEval, arXiv:1912.01601, section 3.2.

    Args:
        taught: Streams.
        seed: Of weights, noise and order.
        on_round: Told the number of the round and the mean loss.
        rounds: Times that all streams are gone through; the best is kept, by streams held out.
        kept: What was done before.
        k: Looks by which rounds are compared.
    """
    learn, held = split(taught)
    noise = torch.Generator().manual_seed(seed)
    streams = [_tensors(one) for one in learn]
    rows = np.concatenate([x for x, _, _ in streams])
    mean, scale = rows.mean(0), rows.std(0) + 1e-6
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Ensemble(rows.shape[1], 24, 4)
    network.eval()
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3, weight_decay=1e-3)
    best = Best()
    parts = {"network": network, "optimizer": optimizer, "noise": noise, "best": best}
    for number in kept.over("gates", rounds, **parts):
        first, last = TEMPERATURES
        temperature = first + (last - first) * number / rounds
        sampling = Sampling("gumbel", temperature, generator=noise)
        total = 0.0
        for batch in torch.split(torch.randperm(len(streams), generator=noise), BATCH):
            losses = []
            for place in batch.tolist():
                x, counts, sure = streams[place]
                gates = opened(network, scaled(x, mean, scale), sampling)
                weights = gates * torch.from_numpy(counts) + 1e-4
                loss = answer_losses(weights, torch.from_numpy(sure))
                losses.append(loss + LOOK_COST * gates.sum())
            loss = torch.stack(losses).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach()) * len(batch) / len(streams)
        on_round(number, total)
        arrays = network.arrays(mean, scale)
        likely = Perceptrons(**arrays)
        best.offer(arrays, float(np.mean([_worth(one, likely, k) for one in held])))
    return best.arrays


def opened(network: Ensemble, x: Tensor, sampling: Sampling) -> Tensor:
    """`(G,)` 0 or 1, where the gate is open; the likelihood is the one that is executed."""
    likely = network(x).sigmoid().mean(0)
    logits = torch.logit(likely, 1e-6)
    return choose(torch.stack([logits, torch.zeros_like(logits)], 1), sampling).one_hot[:, 0]


def _tensors(one: Rehearsal) -> tuple[Array, Array, Array]:
    """A place each: what the gate sees, what the answer would count it, how sure of the right."""
    places = one.places(PARTS)
    return one.coarse(places), *counted(one.lesson, one.attention, places)


def _worth(one: Rehearsal, likely: Perceptrons, k: int) -> float:
    places = one.places(PARTS)
    best = np.argsort(-likely(one.coarse(places)), kind="stable")[:k]
    worth: float = one.share_right(places[best].tolist())
    return worth
