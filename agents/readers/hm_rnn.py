"""HM-RNN: a small layer reads every token; the large one is updated where it finds a boundary.

Paper: Chung et al. 2017, Hierarchical Multiscale Recurrent Neural Networks, arXiv:1609.01704,
section 3.
Differs: two layers, the first one small, since it is what is computed at every token; the head
reads the large layer alone, not a gated sum of both; a GRU flushes by clearing its state before the
step; the knob subtracts from the boundary's logit.

```
token           a   b   c   d   e
first layer     U   U   U   F   U       update or, after a boundary, flush
boundary        0   0   1   0   1
large layer     -   -   U   -   U       copy or update
```
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from streamdyn.errors import ConfigError
from streamdyn.nn import kernels
from streamdyn.nn.cells import Cell, Pools, num_weights
from streamdyn.nn.gates import Sampling, round_straight_through
from streamdyn.nn.kernels import FULL, LOOKS, LSTM, PARTIAL, POSITION, compiled
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
    cell_arrays,
)

_SKIP, _PARTIAL, _PROCESS = int(Action.SKIP), int(Action.PARTIAL), int(Action.PROCESS)


@reader("hm_rnn")
class HmRnn(ReaderNetwork):
    """Two layers of two time scales; `cell` is the large one.

    Args:
        spec: Sizes; `hidden_size` is the large layer's.
        first_size: State of the layer that reads every token.
    """

    name = "hm_rnn"
    estimators = ("straight_through",)

    def __init__(self, spec: NetworkSpec, *, first_size: int = 32) -> None:
        super().__init__(spec)
        if first_size < 1:
            raise ConfigError(f"first_size must be at least 1, got {first_size}")
        self.first_size = first_size
        self.slope = 1.0
        """Of the hard sigmoid that gives the boundary its gradient."""
        self.first = Cell(spec.cell, spec.input_size, first_size)
        self.cell = Cell(spec.cell, first_size, spec.hidden_size)
        self.boundary = nn.Linear(spec.input_size + first_size, 1)
        # Finds a boundary at most tokens at first, within the linear part of the hard sigmoid.
        nn.init.constant_(self.boundary.bias, 0.5)
        # To the gates of the first layer and to its boundary.
        gates = (4 if spec.cell == "lstm" else 3) * first_size
        self.top_down = nn.Linear(spec.hidden_size, gates + 1, bias=False)

    def options(self) -> dict[str, Any]:
        """See `ReaderNetwork.options`."""
        return {"first_size": self.first_size}

    def set_progress(self, progress: float) -> None:
        """Anneal the slope (section 3.3): from 1 to 5 as training goes from 0 to 1."""
        self.slope = 1.0 + 4.0 * progress

    def masked(self, inputs: Tensor, lengths: Tensor, sampling: Sampling) -> Masked:
        """Both layers run at every step; the boundary says whether the large one changes."""
        vectors = self.vectors(inputs)
        rows, steps = vectors.shape[:2]
        # Unbound, since the gradient of a slice is as large as the whole.
        projected, by_token = self.first.project(vectors).unbind(1), vectors.unbind(1)
        h = vectors.new_zeros(rows, self.spec.hidden_size)
        low_h = vectors.new_zeros(rows, self.first_size)
        c, low_c, pools = h, low_h, Pools(h)
        ends = vectors.new_zeros(rows, 1)  # z in the paper, of the token before
        found = []
        for t in range(steps):
            inside = (t < lengths)[:, None]
            down = ends * self.top_down(h)  # (B, G*F + 1)
            logit = self.boundary(torch.cat([by_token[t], low_h], 1)) + down[:, -1:]
            if self.spec.cell == "lstm":
                low_c = (1 - ends) * low_c
            else:
                low_h = (1 - ends) * low_h
            low_h, low_c = self.first.step(projected[t] + down[:, :-1], low_h, low_c)
            hard = ((self.slope * (logit - sampling.knob) + 1) / 2).clamp(0, 1)
            ends = round_straight_through(hard) * inside  # (B, 1)
            h, c = self.cell.step_where(self.cell.project(low_h), h, c, ends)
            pools.add(h, ends)
            found.append(ends)
        read = torch.cat(found, 1)  # (B, T)
        inside = torch.arange(steps, device=lengths.device) < lengths[:, None]
        actions = torch.where(read > 0.5, _PROCESS, torch.where(inside, _PARTIAL, _SKIP))
        # What a token costs that ends nothing, as a share of one that does.
        low = num_weights(self.first, self.boundary)
        share = low / (low + num_weights(self.cell, self.top_down))
        rate = read.sum(1) / lengths
        return Masked(
            logits=self.classify(pools.features(h)),
            actions=actions.to(torch.uint8),
            cost=rate + (1 - rate) * share,
        )

    def executor(self) -> Executor:
        """The compiled reader."""
        return HmRnnExecutor(self)


class HmRnnExecutor(Executor):
    """Steps the small layer; the large one only at a boundary.

    `aux` holds the state of the small layer, its LSTM cell, and 1 after a boundary.
    """

    def __init__(self, network: ReaderNetwork) -> None:
        super().__init__(network)
        self._first = cell_arrays(self.weights, "first")
        self._boundary = self.weights["boundary.weight"][0], self.weights["boundary.bias"]
        self._top_down = np.ascontiguousarray(self.weights["top_down.weight"].T)

    def start(self) -> ReadState:
        """See `Executor.start`."""
        state = super().start()
        state.aux = np.zeros(2 * len(self._first[1]) + 1, np.float32)
        return state

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
        _read(ids, table, self.kind, self.cell, self._first, self._boundary, self._top_down,
              state.hidden, state.aux, state.counts, knob, max_reads, actions)  # fmt: skip

    def step_flops(self) -> float:
        """Of one step of the large layer, and what it sends down after it."""
        return super().step_flops() + 2.0 * self._top_down.size

    def look_flops(self) -> float:
        """Of one step of the small layer, which decides."""
        boundary = self.weights["boundary.weight"]
        return 2.0 * (self._first[0].size + self._first[1].size + boundary.size)


@compiled
def _read(ids: Any, table: Any, kind: int, cell: Any, first: Any, boundary: Any, top_down: Any,
          hidden: Any, aux: Any, counts: Any, knob: Any, max_reads: int,
          actions: Any) -> None:  # fmt: skip
    width = table.shape[1]
    wx, wh, bx, bh = first
    size = wh.shape[0]
    h, c = aux[:size], aux[size : 2 * size]
    from_x = np.empty_like(bx)
    down = np.empty(len(bx) + 1, np.float32)
    actions[:] = _SKIP
    for t in range(len(ids)):
        if counts[FULL] >= max_reads:
            break
        x = table[ids[t]]
        logit = kernels.dot(boundary[0][:width], x) + kernels.dot(boundary[0][width:], h)
        logit += boundary[1][0]
        from_x[:] = bx
        if aux[2 * size] > 0:
            down[:] = 0
            kernels.add_product(down, hidden[kernels.H], top_down)
            logit += down[-1]
            from_x += down[:-1]
            if kind == LSTM:
                c[:] = 0
            else:
                h[:] = 0
        if kind == LSTM:
            kernels.lstm_step(x, h, c, wx, wh, from_x, bh)
        else:
            kernels.gru_step(x, h, wx, wh, from_x, bh)
        counts[LOOKS] += 1
        if logit >= knob:
            kernels.step(kind, h, hidden, counts, cell)
            aux[2 * size] = 1
            actions[t] = _PROCESS
        else:
            aux[2 * size] = 0
            counts[PARTIAL] += 1
            actions[t] = _PARTIAL
    counts[POSITION] += len(ids)
