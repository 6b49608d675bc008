"""Skip RNN: the state itself says how many tokens to skip before it is updated again.

Paper: Campos et al. 2018, Skip RNN: Learning to Skip State Updates in Recurrent Neural Networks,
arXiv:1708.06834, equations 1 to 9.
Differs: the number of tokens to skip is computed ahead (section 3.1) and they are never looked up,
which the authors' code leaves out; the knob subtracts from the increment's logit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from streamdyn.nn import kernels
from streamdyn.nn.cells import Pools
from streamdyn.nn.gates import Sampling, round_straight_through
from streamdyn.nn.kernels import FULL, LOOKS, POSITION, SKIP_UNTIL, compiled
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

_SKIP, _PROCESS = int(Action.SKIP), int(Action.PROCESS)
_NEVER, _FAR = np.float32(1e-7), 1 << 60


@reader("skip_rnn")
class SkipRnn(ReaderNetwork):
    """Updates the state when the accumulated increments reach one half."""

    name = "skip_rnn"
    estimators = ("straight_through",)

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.increment = nn.Linear(spec.hidden_size, 1)
        # Reads everything at first (section 4).
        nn.init.constant_(self.increment.bias, 1.0)

    def masked(self, inputs: Tensor, lengths: Tensor, sampling: Sampling) -> Masked:
        """Every step is computed; where the gate says skip, the old state is kept."""
        projected = self.cell.project(self.vectors(inputs)).unbind(1)  # T times (B, G*H)
        rows, steps = inputs.shape[:2]
        h = projected[0].new_zeros(rows, self.spec.hidden_size)
        c, pools = h, Pools(h)
        gate = h.new_ones(rows, 1)  # u~ in the paper
        increment = gate
        updates = []
        for t in range(steps):
            inside = (t < lengths)[:, None]
            update = round_straight_through(gate) * inside  # (B, 1)
            h, c = self.cell.step_where(projected[t], h, c, update)
            pools.add(h, update)
            # The increment belongs to the state and stays while the state does.
            fresh = torch.sigmoid(self.increment(h) - sampling.knob)
            increment = update * fresh + (1 - update) * increment
            gate = update * increment + (1 - update) * (gate + torch.minimum(increment, 1 - gate))
            updates.append(update)
        read = torch.cat(updates, 1)  # (B, T)
        return Masked(
            logits=self.classify(pools.features(h)),
            actions=torch.where(read > 0.5, _PROCESS, _SKIP).to(torch.uint8),
            cost=read.sum(1) / lengths,
        )

    def executor(self) -> Executor:
        """The compiled reader."""
        return SkipRnnExecutor(self)


class SkipRnnExecutor(Executor):
    """Jumps from update to update; what lies between is not looked up."""

    def __init__(self, network: ReaderNetwork) -> None:
        super().__init__(network)
        self._gate = self.weights["increment.weight"][0], self.weights["increment.bias"]

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
        _read(ids, table, self.kind, self.cell, self._gate, state.hidden, state.counts, knob,
              max_reads, actions)  # fmt: skip

    def look_flops(self) -> float:
        """Of one decision."""
        return 2.0 * self.spec.hidden_size


@compiled
def _read(ids: Any, table: Any, kind: int, cell: Any, gate: Any, hidden: Any, counts: Any,
          knob: Any, max_reads: int, actions: Any) -> None:  # fmt: skip
    start = counts[POSITION]
    stop = start + len(ids)
    actions[:] = _SKIP
    t = max(start, counts[SKIP_UNTIL])
    while t < stop and counts[FULL] < max_reads:
        kernels.step(kind, table[ids[t - start]], hidden, counts, cell)
        actions[t - start] = _PROCESS
        logit = kernels.dot(gate[0], hidden[kernels.H]) + gate[1][0] - knob
        increment = np.float32(1.0 / (1.0 + np.exp(-np.float64(logit))))
        counts[LOOKS] += 1
        # u~ starts at the increment and grows by it at each skipped token until it reaches 0.5;
        # summed as the masked path sums it, so that both round alike.
        accumulated = increment
        t += 1
        while accumulated < np.float32(0.5):
            if increment < _NEVER:
                # So small a float32 would not grow the sum, and no text is that long.
                t = _FAR
                break
            accumulated += min(increment, np.float32(1.0) - accumulated)
            t += 1
    counts[SKIP_UNTIL] = t
    counts[POSITION] = stop
