"""Variable computation: a scheduler says how much of the state each token updates.

Paper: Jernite et al. 2017, Variable Computation in Recurrent Neural Networks, arXiv:1611.06188,
section 3.
Differs: the scheduled share is rounded to a few levels, whose corners of the weights lie packed;
the mask is hard in the forward pass and has the gradient of the soft one; an LSTM beside the GRU;
the mean and the maximum are taken over the tokens that updated anything; the penalty is on the
computation spent instead of the distance to a target share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from streamdyn.errors import ConfigError
from streamdyn.nn import kernels
from streamdyn.nn.cells import Pools
from streamdyn.nn.gates import Sampling, look_at
from streamdyn.nn.kernels import FULL, LOOKS, LSTM, MAX, PARTIAL, POSITION, SUM, compiled
from streamdyn.plan import Action
from streamdyn.registry import reader
from streamdyn.text.network import (
    Actions,
    Executor,
    Floats,
    Ids,
    Masked,
    NetworkSpec,
    ReaderNetwork,
    ReadState,
)

_SKIP, _PARTIAL, _PROCESS = int(Action.SKIP), int(Action.PARTIAL), int(Action.PROCESS)
_AT_LEVEL = kernels.STOP_INDEX
"""`counts[_AT_LEVEL + level]`: tokens at each level between the first and the last."""
_MAX_LEVELS = kernels.NUM_COUNTS - _AT_LEVEL + 1


@reader("vcrnn")
class Vcrnn(ReaderNetwork):
    """Updates the first dimensions of the state from the first of the token, and keeps the rest.

    Args:
        spec: Sizes.
        levels: Shares of the dimensions that can be updated, rising from 0 (skip) to 1 (read).
        sharpness: Slope of the soft mask over the dimensions, lambda in the paper.
    """

    name = "vcrnn"
    estimators = ("straight_through",)
    edges: Tensor
    dims: Tensor
    spent: Tensor
    actions: Tensor

    def __init__(
        self,
        spec: NetworkSpec,
        *,
        levels: Sequence[float] = (0.0, 0.125, 0.5, 1.0),
        sharpness: float = 0.1,
    ) -> None:
        super().__init__(spec)
        rising = all(low < high for low, high in pairwise(levels))
        if not (2 <= len(levels) <= _MAX_LEVELS and (levels[0], levels[-1]) == (0, 1) and rising):
            raise ConfigError(
                f"levels must be 2 to {_MAX_LEVELS} shares rising from 0 to 1, got {levels}"
            )
        self.levels, self.sharpness = tuple(levels), sharpness
        self.scheduler = nn.Linear(spec.input_size + spec.hidden_size, 1)
        # Reads everything at first.
        nn.init.constant_(self.scheduler.bias, 2.0)
        shares = torch.tensor(self.levels)
        sizes = torch.tensor([spec.input_size, spec.hidden_size])
        dims = (shares[:, None] * sizes).ceil().long()  # (L, 2): of the token, of the state
        spent = dims.sum(1) * dims[:, 1] / (sizes.sum() * sizes[1])  # (L,)
        actions = torch.full((len(levels),), _PARTIAL, dtype=torch.uint8)
        actions[0], actions[-1] = _SKIP, _PROCESS
        edges = (shares[1:] + shares[:-1]) / 2  # rounds to the nearest level
        for name, value in {
            "edges": edges,
            "dims": dims,
            "spent": spent,
            "actions": actions,
        }.items():
            self.register_buffer(name, value, persistent=False)

    def options(self) -> dict[str, Any]:
        """See `ReaderNetwork.options`."""
        return {"levels": list(self.levels), "sharpness": self.sharpness}

    def prime(self, column: int) -> None:
        """Start with a gate that reads where this value of the token is large."""
        look_at(self.scheduler, column)

    def masked(self, inputs: Tensor, lengths: Tensor, sampling: Sampling) -> Masked:
        """Every step is computed whole, from masked inputs, and its update masked again."""
        vectors = self.vectors(inputs)
        by_token = vectors.unbind(1)
        rows, steps = vectors.shape[:2]
        h = vectors.new_zeros(rows, self.spec.hidden_size)
        c, pools = h, Pools(h)
        taken, cost = [], h.new_zeros(rows)
        for t in range(steps):
            inside, x = t < lengths, by_token[t]
            share = torch.sigmoid(self.scheduler(torch.cat([x, h], 1)) - sampling.knob)  # (B, 1)
            level = (share >= self.edges).sum(1) * inside  # (B,)
            on_x = self._mask(share, self.dims[level, 0], x.shape[1])
            on_h = self._mask(share, self.dims[level, 1], h.shape[1]) * inside[:, None]
            new_h, new_c = self.cell.step(self.cell.project(on_x * x), on_h * h, c)
            h, c = on_h * new_h + (1 - on_h) * h, on_h * new_c + (1 - on_h) * c
            pools.add(h, (level > 0)[:, None].float())
            # The computation grows with the square of the share.
            square = share[:, 0] ** 2
            cost = cost + self.spent[level] + inside * (square - square.detach())
            taken.append(level)
        return Masked(
            logits=self.classify(pools.features(h)),
            actions=self.actions[torch.stack(taken, 1)],
            cost=cost / lengths,
        )

    def _mask(self, share: Tensor, dims: Tensor, size: int) -> Tensor:
        """`(B, size)`: 1 for the first `dims` `(B,)`, with the gradient of the soft mask."""
        index = torch.arange(size, device=share.device)
        soft = torch.sigmoid(self.sharpness * (share * size - index - 1))
        return (index < dims[:, None]).float() + (soft - soft.detach())

    def executor(self) -> Executor:
        """The compiled reader."""
        return VcrnnExecutor(self)


class VcrnnExecutor(Executor):
    """Computes with the corner of the weights that belongs to the level."""

    def __init__(self, network: Vcrnn) -> None:
        super().__init__(network)
        corners = [_corner(self.cell, int(x), int(h)) for x, h in network.dims[1:-1]]
        self._cells = (*corners, self.cell)
        self._edges = network.edges.to("cpu").numpy().copy()
        self._scheduler = self.weights["scheduler.weight"][0], self.weights["scheduler.bias"]

    def run(
        self,
        state: ReadState,
        ids: Ids,
        table: Floats,
        knob: np.float32,
        max_reads: int,
        ended: bool,
        mode: str,
        actions: Actions,
    ) -> None:
        """See `Executor.run`."""
        _read(ids, table, self.kind, self._cells, self._edges, self._scheduler, state.hidden,
              state.counts, knob, max_reads, actions)  # fmt: skip

    def features(self, state: ReadState) -> Floats:
        """See `Executor.features`; the pools hold every token that updated anything."""
        counts = state.counts.copy()
        counts[FULL] += counts[PARTIAL]
        return super().features(replace(state, counts=counts))

    def flops(self, state: ReadState) -> float:
        """See `Executor.flops`; a partial update costs what its corner costs."""
        corners = enumerate(self._cells[:-1], 1)
        return super().flops(state) + sum(
            2.0 * (wx.size + wh.size) * int(state.counts[_AT_LEVEL + level])
            for level, (wx, wh, _, _) in corners
        )

    def look_flops(self) -> float:
        """Of one decision."""
        return 2.0 * (self.spec.input_size + self.spec.hidden_size)


def _corner(cell: tuple[Floats, ...], x_dims: int, h_dims: int) -> tuple[Floats, ...]:
    """The weights from the first dimensions to the first dimensions of each gate, packed."""
    wx, wh, bx, bh = cell
    size = wh.shape[0]

    def first(weights: Floats, rows: int) -> Floats:
        gates = weights.reshape(len(weights), -1, size)[:rows, :, :h_dims]
        return np.ascontiguousarray(gates.reshape(rows, -1))

    return first(wx, x_dims), first(wh, h_dims), first(bx[None], 1)[0], first(bh[None], 1)[0]


@compiled
def _read(ids: Any, table: Any, kind: int, cells: Any, edges: Any, scheduler: Any, hidden: Any,
          counts: Any, knob: Any, max_reads: int, actions: Any) -> None:  # fmt: skip
    width = table.shape[1]
    h, c = hidden[kernels.H], hidden[kernels.C]
    actions[:] = _SKIP
    for t in range(len(ids)):
        if counts[FULL] >= max_reads:
            break
        x = table[ids[t]]
        logit = kernels.dot(scheduler[0][:width], x) + kernels.dot(scheduler[0][width:], h)
        logit += scheduler[1][0] - knob
        share = np.float32(1.0 / (1.0 + np.exp(-np.float64(logit))))
        counts[LOOKS] += 1
        level = 0
        for edge in edges:
            level += share >= edge
        if level == 0:
            continue
        wx, wh, bx, bh = cells[level - 1]
        if level == len(edges):
            kernels.step(kind, x, hidden, counts, (wx, wh, bx, bh))
            actions[t] = _PROCESS
            continue
        size = wh.shape[0]
        if kind == LSTM:
            kernels.lstm_step(x[: wx.shape[0]], h[:size], c[:size], wx, wh, bx, bh)
        else:
            kernels.gru_step(x[: wx.shape[0]], h[:size], wx, wh, bx, bh)
        for j in range(len(h)):
            hidden[SUM, j] += h[j]
            hidden[MAX, j] = max(hidden[MAX, j], h[j])
        counts[PARTIAL] += 1
        counts[_AT_LEVEL + level] += 1
        actions[t] = _PARTIAL
    counts[POSITION] += len(ids)
