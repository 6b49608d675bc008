"""Skim-RNN: reads a token with the whole cell, or skims it with a small one.

Paper: Seo et al. 2018, Neural Speed Reading via Skim-RNN, arXiv:1711.02085, section 3.
Differs: the Gumbel-softmax is hard in the forward pass, so that training sees the states that will
be executed; a GRU skims too, its reset gate acting on the first `small_size` dimensions only; the
knob moves the logit of reading instead of the threshold on p(skim).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from streamdyn.errors import ConfigError
from streamdyn.nn import kernels
from streamdyn.nn.cells import Cell, Pools, num_weights
from streamdyn.nn.gates import Sampling, choose, look_at
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


@reader("skim_rnn")
class SkimRnn(ReaderNetwork):
    """Chooses between reading and skimming from the token and the state before it.

    Args:
        spec: Sizes.
        small_size: Dimensions of the state that skimming updates; the others are kept.
        skim_bonus: Weight of mean(-log p(skim)) in the loss, gamma in the paper.
    """

    name = "skim_rnn"
    estimators = ("gumbel", "straight_through", "reinforce")

    def __init__(self, spec: NetworkSpec, *, small_size: int = 10, skim_bonus: float = 0.0) -> None:
        super().__init__(spec)
        if not 0 < small_size < spec.hidden_size:
            raise ConfigError(
                f"small_size must be in 1..{spec.hidden_size - 1}, below the hidden size, "
                f"got {small_size}"
            )
        self.small_size, self.skim_bonus = small_size, skim_bonus
        # What skimming does not update is an input to it like the token.
        kept = spec.hidden_size - small_size
        self.small = Cell(spec.cell, spec.input_size + kept, small_size)
        self.gate = nn.Linear(spec.input_size + spec.hidden_size, 2)  # read, skim

    def options(self) -> dict[str, Any]:
        """See `ReaderNetwork.options`."""
        return {"small_size": self.small_size, "skim_bonus": self.skim_bonus}

    def prime(self, column: int) -> None:
        """Start with a gate that reads where this value of the token is large."""
        look_at(self.gate, column)

    def masked(self, inputs: Tensor, lengths: Tensor, sampling: Sampling) -> Masked:
        """Both cells run at every step; the choice picks one of the states."""
        vectors, size = self.vectors(inputs), self.small_size
        projected, by_token = self.cell.project(vectors).unbind(1), vectors.unbind(1)
        rows, steps = inputs.shape[:2]
        h = projected[0].new_zeros(rows, self.spec.hidden_size)
        c, pools = h, Pools(h)
        against = h.new_tensor([sampling.knob, 0.0])
        chosen, drawn, bonus = [], [], h.new_zeros(rows)
        for t in range(steps):
            inside = (t < lengths)[:, None]
            x = by_token[t]
            logits = self.gate(torch.cat([x, h], 1)) - against  # (B, 2)
            choice = choose(logits, sampling)
            read, skim = (choice.one_hot * inside).chunk(2, 1)  # (B, 1) each
            keep = 1 - read - skim
            full_h, full_c = self.cell.step(projected[t], h, c)
            small_x = self.small.project(torch.cat([x, h[:, size:]], 1))
            small_h, small_c = self.small.step(small_x, h[:, :size], c[:, :size])
            small_h = torch.cat([small_h, h[:, size:]], 1)
            small_c = torch.cat([small_c, c[:, size:]], 1)
            h = read * full_h + skim * small_h + keep * h
            c = read * full_c + skim * small_c + keep * c
            pools.add(h, read)
            chosen.append(torch.cat([read, skim], 1))
            drawn.append(torch.stack([choice.log_prob, choice.entropy], 1) * inside)
            bonus = bonus - logits.log_softmax(1)[:, 1] * inside[:, 0]
        ways = torch.stack(chosen, 1)  # (B, T, 2)
        read, skim = ways[..., 0], ways[..., 1]
        actions = torch.where(read > 0.5, _PROCESS, torch.where(skim > 0.5, _PARTIAL, _SKIP))
        share = num_weights(self.small) / num_weights(self.cell)
        log_prob, entropy = torch.stack(drawn, 1).sum(1).unbind(1)
        is_drawn = sampling.estimator == "reinforce"
        return Masked(
            logits=self.classify(pools.features(h)),
            actions=actions.to(torch.uint8),
            cost=(read + share * skim).sum(1) / lengths,
            log_prob=log_prob if is_drawn else None,
            entropy=entropy / lengths if is_drawn else None,
            extra_loss=self.skim_bonus * (bonus / lengths).mean() if self.skim_bonus else None,
        )

    def executor(self) -> Executor:
        """The compiled reader."""
        return SkimRnnExecutor(self)


class SkimRnnExecutor(Executor):
    """Runs one of the two cells; the small one has its own small matrices."""

    def __init__(self, network: ReaderNetwork) -> None:
        super().__init__(network)
        self._small = cell_arrays(self.weights, "small")
        read, skim = self.weights["gate.weight"]
        bias = self.weights["gate.bias"]
        # Only the difference of the logits counts.
        self._gate = read - skim, bias[:1] - bias[1:]

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
        _read(ids, table, self.kind, self.cell, self._small, self._gate, state.hidden,
              state.counts, knob, max_reads, actions)  # fmt: skip

    def look_flops(self) -> float:
        """Of one decision."""
        return 2.0 * (self.spec.input_size + self.spec.hidden_size)

    def partial_flops(self) -> float:
        """Of skimming one token."""
        return 2.0 * (self._small[0].size + self._small[1].size)


@compiled
def _read(ids: Any, table: Any, kind: int, cell: Any, small: Any, gate: Any, hidden: Any,
          counts: Any, knob: Any, max_reads: int, actions: Any) -> None:  # fmt: skip
    width = table.shape[1]
    wx, wh, bx, bh = small
    size = wh.shape[0]
    seen = np.empty(wx.shape[0], np.float32)
    h, c = hidden[kernels.H], hidden[kernels.C]
    actions[:] = _SKIP
    for t in range(len(ids)):
        if counts[FULL] >= max_reads:
            break
        x = table[ids[t]]
        logit = kernels.dot(gate[0][:width], x) + kernels.dot(gate[0][width:], h)
        counts[LOOKS] += 1
        if logit + gate[1][0] >= knob:
            kernels.step(kind, x, hidden, counts, cell)
            actions[t] = _PROCESS
            continue
        seen[:width] = x
        seen[width:] = h[size:]
        if kind == LSTM:
            kernels.lstm_step(seen, h[:size], c[:size], wx, wh, bx, bh)
        else:
            kernels.gru_step(seen, h[:size], wx, wh, bx, bh)
        counts[PARTIAL] += 1
        actions[t] = _PARTIAL
    counts[POSITION] += len(ids)
