"""Leap-LSTM: each token is read or left out, by what stands around it and what was read before.

Paper: Huang et al. 2019, Leap-LSTM: Enhancing Long Short-Term Memory for Text Categorization,
arXiv:1905.11558; the gate as in `leap_lstm` of the authors' code, github.com/ht1221/leap-lstm.
Differs: one small convolution sees `window` tokens on both sides, in place of three convolutions
and a reversed LSTM over the rest of the text, so that a stream is read `window` tokens late; the
state is shown to the gate as it was at the start of a block; the knob is subtracted from the logit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from streamdyn.errors import ConfigError
from streamdyn.nn import kernels
from streamdyn.nn.cells import Pools
from streamdyn.nn.gates import Sampling, choose
from streamdyn.nn.kernels import FULL, LOOKS, POSITION, compiled
from streamdyn.plan import Action
from streamdyn.registry import reader
from streamdyn.text.budget_knob import UNLIMITED
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
_TOGETHER = 32
"""Inputs projected in one product; bounds the memory of a long document."""


@reader("leap_lstm")
class LeapLstm(ReaderNetwork):
    """Reads a token when a gate over its neighbourhood and the state says so.

    Args:
        spec: Sizes.
        window: Tokens that the gate sees on either side.
        gate_size: Hidden units of the gate.
        block_size: Tokens decided on with the same state; 1 is the paper's feedback at each token.
        use_state: Show the state to the gate; without it the tokens alone decide.
    """

    name = "leap_lstm"
    estimators = ("gumbel", "straight_through")

    def __init__(
        self,
        spec: NetworkSpec,
        *,
        window: int = 2,
        gate_size: int = 16,
        block_size: int = 32,
        use_state: bool = True,
    ) -> None:
        super().__init__(spec)
        if window < 0 or gate_size < 1 or block_size < 1:
            raise ConfigError(
                f"leap_lstm needs window >= 0, gate_size >= 1 and block_size >= 1, "
                f"not {window}, {gate_size} and {block_size}"
            )
        self.window, self.gate_size, self.block_size = window, gate_size, block_size
        self.look = nn.Conv1d(spec.input_size, gate_size, 2 * window + 1, padding=window)
        self.feedback = nn.Linear(spec.hidden_size, gate_size, bias=False) if use_state else None
        self.gate = nn.Linear(gate_size, 1)
        # Reads most of the text at first.
        nn.init.constant_(self.gate.bias, 1.0)

    def options(self) -> dict[str, Any]:
        """See `ReaderNetwork.options`."""
        return {
            "window": self.window,
            "gate_size": self.gate_size,
            "block_size": self.block_size,
            "use_state": self.feedback is not None,
        }

    def prime(self, column: int, sharpness: float = 4.0) -> None:
        """Start with a gate that looks at one value of its token.

        Args:
            column: Which value; where it is large the token is read.
            sharpness: Of the gate, in logits by unit of that value.
        """
        shift = 4.0  # Keeps the unit above zero, where it is linear.
        assert self.look.bias is not None
        with torch.no_grad():
            self.look.weight[0] = 0
            self.look.weight[0, column, self.window] = 1
            self.look.bias[0] = shift
            self.gate.weight.mul_(0.1)
            self.gate.weight[0, 0] = sharpness
            self.gate.bias.sub_(sharpness * shift)

    def masked(self, inputs: Tensor, lengths: Tensor, sampling: Sampling) -> Masked:
        """Block by block: its decisions at once, then its steps; skipped ones keep the state."""
        vectors = self.vectors(inputs)
        projected = self.cell.project(vectors).unbind(1)  # T times (B, G*H)
        rows, steps = inputs.shape[:2]
        inside = torch.arange(steps, device=lengths.device) < lengths[:, None]  # (B, T)
        looks = self.look((vectors * inside[:, :, None]).transpose(1, 2)).transpose(1, 2)
        h = projected[0].new_zeros(rows, self.spec.hidden_size)
        c, pools = h, Pools(h)
        blocks = []
        for start in range(0, steps, self.block_size):
            seen = looks[:, start : start + self.block_size]  # (B, n, gate_size)
            if self.feedback is not None:
                seen = seen + self.feedback(h)[:, None]
            logits = (self.gate(seen.relu()) - sampling.knob).reshape(-1, 1)
            picked = choose(torch.cat([torch.zeros_like(logits), logits], 1), sampling)
            update = (
                picked.one_hot[:, 1].reshape(rows, -1) * inside[:, start : start + len(seen[0])]
            )
            for t in range(update.shape[1]):
                read = update[:, t : t + 1]
                h, c = self.cell.step_where(projected[start + t], h, c, read)
                pools.add(h, read)
            blocks.append(update)
        updates = torch.cat(blocks, 1)  # (B, T)
        return Masked(
            logits=self.classify(pools.features(h)),
            actions=torch.where(updates > 0.5, _PROCESS, _SKIP).to(torch.uint8),
            cost=updates.sum(1) / lengths,
        )

    def executor(self) -> LeapLstmExecutor:
        """The compiled reader."""
        return LeapLstmExecutor(self)


class LeapLstmExecutor(Executor):
    """Decides `window` tokens late, and steps over what it reads only.

    In `block` mode the inputs of all tokens read in a block are projected together.
    """

    modes = ("exact", "block")

    def __init__(self, network: LeapLstm) -> None:
        super().__init__(network)
        self.window = network.window
        # Without the state nothing divides a document.
        self.block_size = UNLIMITED if network.feedback is None else network.block_size
        kernel = self.weights["look.weight"]  # (gate_size, E, 2 * window + 1)
        self._kernel = np.ascontiguousarray(kernel.transpose(1, 2, 0)).reshape(kernel.shape[1], -1)
        none = np.empty((0, network.gate_size), np.float32)
        feedback = self.weights.get("feedback.weight", none.T)
        self._gate = (
            self.weights["look.bias"],
            np.ascontiguousarray(feedback.T),
            self.weights["gate.weight"][0],
            self.weights["gate.bias"],
        )
        if self.spec.num_words:
            self._taps = self._convolved(self.table)

    def start(self) -> ReadState:
        """Before the first token; `aux` is what the state adds to the gate in this block."""
        state = super().start()
        state.aux = np.zeros_like(self._gate[0])
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
        state.counts[POSITION] += len(ids)
        ids, table = self.after_past(state, ids, table)
        first = len(ids) - len(actions)  # of the tokens to decide on
        stop = len(ids) if ended else max(len(ids) - self.window, first)
        looks = self._looks(ids, table, first, stop)
        before = state.position - len(actions)
        read = _read if mode == "exact" else _read_blocks
        read(ids[first:stop], table, looks, self._gate, self.kind, self.cell, state.hidden,
             state.aux, state.counts, before, self.block_size, knob, max_reads,
             actions)  # fmt: skip
        state.waiting = len(ids) - stop
        self.keep(state, ids[max(stop - self.window, 0) :], table)

    def scores(self, tokens: Ids | Floats) -> Floats:
        """`(T,)` read logits of a whole document.

        Raises:
            ConfigError: The logits depend on what was read before.
        """
        if self.block_size != UNLIMITED:
            raise ConfigError("only a leap_lstm with use_state=False knows its logits beforehand")
        ids, table = self.rows(tokens)
        looks = self._looks(ids, table, 0, len(ids))
        out: Floats = _scores(looks, self.start().aux, self._gate)
        return out

    def choose(self, state: ReadState, tokens: Ids | Floats, k: int) -> Actions:
        """Read exactly the `k` best tokens of a whole document, all where there are fewer.

        Raises:
            ConfigError: `k` is negative, or the logits depend on what was read before.
        """
        if k < 0:
            raise ConfigError(f"cannot choose {k = } tokens; it must be 0 or more")
        ids, table = self.rows(tokens)
        best = np.argsort(-self.scores(tokens), kind="stable")[:k]
        best.sort()
        _step_over(ids[best], table, self.kind, self.cell, state.hidden, state.counts)
        state.counts[POSITION] += len(ids)
        state.counts[LOOKS] += len(ids)
        actions = np.full(len(ids), _SKIP, np.uint8)
        actions[best] = _PROCESS
        return actions

    def look_flops(self) -> float:
        """Of one decision; over ids the convolution is a sum of stored products."""
        bias, feedback = self._gate[:2]
        seen = self._kernel.size if self.spec.num_words == 0 else self._kernel.shape[1] / 2
        return 2.0 * (seen + len(bias) + feedback.size / self.block_size)

    def _looks(self, ids: Ids, table: Floats, first: int, stop: int) -> Floats:
        """`(stop - first, gate_size)`, what the gate sees of the tokens."""
        taps = self._taps if self.spec.num_words else self._convolved(table)
        out: Floats = _seen(ids, taps, self._gate[0], self.window, first, stop)
        return out

    def _convolved(self, table: Floats) -> Floats:
        """`(N, 2 * window + 1, gate_size)`, each row by each matrix of the convolution."""
        taps = 2 * self.window + 1, len(self._gate[0])
        out: Floats = (table @ self._kernel).reshape(-1, *taps)
        return out


@compiled
def _seen(ids: Any, taps: Any, bias: Any, window: int, first: int, stop: int) -> Any:
    size = len(bias)
    out = np.empty((stop - first, size), np.float32)
    for i in range(stop - first):
        for j in range(size):
            out[i, j] = bias[j]
        low = first + i - window
        for t in range(max(low, 0), min(low + 2 * window + 1, len(ids))):
            tap = taps[ids[t], t - low]
            for j in range(size):
                out[i, j] += tap[j]
    return out


@compiled
def _logit(look: Any, feedback: Any, gate: Any) -> Any:
    weight = gate[2]
    total = gate[3][0]
    for j in range(len(weight)):
        total += weight[j] * max(look[j] + feedback[j], np.float32(0.0))
    return total


@compiled
def _scores(looks: Any, feedback: Any, gate: Any) -> Any:
    out = np.empty(len(looks), np.float32)
    for i in range(len(looks)):
        out[i] = _logit(looks[i], feedback, gate)
    return out


@compiled
def _feed_back(feedback: Any, h: Any, gate: Any) -> None:
    feedback[:] = 0
    # No rows where the state is not shown.
    kernels.add_product(feedback, h[: len(gate[1])], gate[1])


@compiled
def _read(ids: Any, table: Any, looks: Any, gate: Any, kind: int, cell: Any, hidden: Any,
          feedback: Any, counts: Any, before: int, block_size: int, knob: Any, max_reads: int,
          actions: Any) -> None:  # fmt: skip
    stale = True
    for i in range(len(ids)):
        if stale and (before + i) % block_size == 0:
            _feed_back(feedback, hidden[kernels.H], gate)
            stale = False
        actions[i] = _SKIP
        if counts[FULL] < max_reads:
            counts[LOOKS] += 1
            if _logit(looks[i], feedback, gate) > knob:
                kernels.step(kind, table[ids[i]], hidden, counts, cell)
                actions[i] = _PROCESS
                stale = True


@compiled
def _read_blocks(ids: Any, table: Any, looks: Any, gate: Any, kind: int, cell: Any, hidden: Any,
                 feedback: Any, counts: Any, before: int, block_size: int, knob: Any,
                 max_reads: int, actions: Any) -> None:  # fmt: skip
    i = 0
    while i < len(ids):
        phase = (before + i) % block_size
        if phase == 0:
            _feed_back(feedback, hidden[kernels.H], gate)
        stop = min(i + block_size - phase, len(ids))
        chosen = np.empty(stop - i, ids.dtype)
        n = 0
        for t in range(i, stop):
            actions[t] = _SKIP
            if counts[FULL] + n < max_reads:
                counts[LOOKS] += 1
                if _logit(looks[t], feedback, gate) > knob:
                    actions[t] = _PROCESS
                    chosen[n] = ids[t]
                    n += 1
        _step_over(chosen[:n], table, kind, cell, hidden, counts)
        i = stop


@compiled
def _step_over(ids: Any, table: Any, kind: int, cell: Any, hidden: Any, counts: Any) -> None:
    """Read all of `ids`: inputs projected some at a time, then step by step."""
    wx, wh, bx, bh = cell
    projected = np.empty((min(_TOGETHER, len(ids)), len(bx)), np.float32)
    for start in range(0, len(ids), _TOGETHER):
        some = ids[start : start + _TOGETHER]
        _project(projected, some, table, wx, bx)
        for i in range(len(some)):
            # What is left of the input are no values and no weights.
            rest = wx[:0], wh, projected[i], bh
            kernels.step(kind, table[some[i], :0], hidden, counts, rest)


@compiled
def _project(out: Any, ids: Any, table: Any, wx: Any, bx: Any) -> None:
    """`out[: len(ids)] = table[ids] @ wx + bx`, two rows and four columns of `ids` at a time."""
    size = wx.shape[0]
    for i in range(len(ids)):
        out[i] = bx
    for i in range(0, len(ids) - 1, 2):
        a, b, out_a, out_b = table[ids[i]], table[ids[i + 1]], out[i], out[i + 1]
        k = 0
        while k + 4 <= size:
            a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
            b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
            for j in range(len(bx)):
                w0, w1, w2, w3 = wx[k, j], wx[k + 1, j], wx[k + 2, j], wx[k + 3, j]
                out_a[j] += (a0 * w0 + a1 * w1) + (a2 * w2 + a3 * w3)
                out_b[j] += (b0 * w0 + b1 * w1) + (b2 * w2 + b3 * w3)
            k += 4
        kernels.add_product(out_a, a[k:], wx[k:])
        kernels.add_product(out_b, b[k:], wx[k:])
    if len(ids) % 2:
        last = len(ids) - 1
        kernels.add_product(out[last], table[ids[last]], wx)
