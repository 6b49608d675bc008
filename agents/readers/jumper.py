"""Jumper: after each sentence the reader gives its answer for good, or reads on.

Paper: Liu et al. 2018, JUMPER: Learning When to Make Classification Decisions in Reading,
arXiv:1807.02314.
Differs: the cell reads the words of a sentence, in place of a convolution over them with a
recurrent controller above it; stopping and the label are two outputs, not one softmax over labels
and `none`; the reward is the trainer's, at the end and not in between; `oracle` training is added;
the knob is added to the logit of stopping.
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
from streamdyn.nn.kernels import (
    FULL,
    LOOKS,
    POSITION,
    STOP_INDEX,
    STOPPED,
    compiled,
)
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
from streamdyn.text.words import Mark

_SKIP, _PROCESS = int(Action.SKIP), int(Action.PROCESS)
_SENTENCE = int(Mark.SENTENCE)
_IN_SENTENCE = STOP_INDEX + 1
"""`counts[_IN_SENTENCE]`: tokens of the sentence read so far."""


@reader("jumper")
class Jumper(ReaderNetwork):
    """Reads sentence by sentence and stops at the end of one.

    Args:
        spec: Sizes.
        max_sentence: Tokens after which a sentence without an end is cut; where inputs are vectors
            every sentence is.
    """

    name = "jumper"
    estimators = ("reinforce", "oracle")

    def __init__(self, spec: NetworkSpec, *, max_sentence: int = 40) -> None:
        super().__init__(spec)
        if max_sentence < 1:
            raise ConfigError(f"jumper needs max_sentence >= 1, not {max_sentence}")
        self.max_sentence = max_sentence
        self.stop = nn.Linear(spec.hidden_size, 1)
        self.value = nn.Linear(spec.hidden_size, 1)
        # At first it mostly reads on.
        nn.init.constant_(self.stop.bias, -2.0)

    def options(self) -> dict[str, Any]:
        """See `ReaderNetwork.options`."""
        return {"max_sentence": self.max_sentence}

    def masked(self, inputs: Tensor, lengths: Tensor, sampling: Sampling) -> Masked:
        """Token by token until every row has stopped."""
        projected = self.cell.project(self.vectors(inputs)).unbind(1)  # T times (B, G*H)
        rows, steps = inputs.shape[:2]
        ends = self._ends(inputs, lengths)
        h = projected[0].new_zeros(rows, self.spec.hidden_size)
        c, pools = h, Pools(h)
        log_prob, entropy, decisions = h.new_zeros(rows), h.new_zeros(rows), h.new_zeros(rows)
        baseline = h.new_zeros(rows)
        stopped = torch.zeros_like(lengths, dtype=torch.bool)
        stop_at = lengths
        for t in range(steps):
            reads = (t < lengths) & ~stopped
            if not reads.any():
                break
            h, c = self._step(projected[t], h, c, pools, reads)
            asks = reads & ends[:, t]
            if not asks.any():
                continue
            logit = self.stop(h) + sampling.knob
            choice = choose(torch.cat([torch.zeros_like(logit), logit], 1), sampling)
            log_prob = log_prob + choice.log_prob * asks
            entropy = entropy + choice.entropy * asks
            # A guess made before the first decision does not depend on any.
            baseline = torch.where(asks & (decisions == 0), self.value(h.detach())[:, 0], baseline)
            decisions = decisions + asks
            stops = asks & (choice.index == 1)
            stopped, stop_at = stopped | stops, torch.where(stops, t + 1, stop_at)
        read = torch.arange(steps, device=lengths.device) < stop_at[:, None]  # (B, T)
        drawn = sampling.estimator == "reinforce"
        return Masked(
            logits=self.classify(pools.features(h)),
            actions=torch.where(read, _PROCESS, _SKIP).to(torch.uint8),
            cost=stop_at / lengths,
            log_prob=log_prob if drawn else None,
            entropy=entropy / decisions.clamp(min=1) if drawn else None,
            baseline=baseline if drawn else None,
        )

    def oracle_loss(self, inputs: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of the answers at all sentence ends, and of the gate that should stop there.

        Everything is read. The gate's target at an end is whether the answer is right from there
        on until the last one.

        Args:
            inputs: As for `masked`.
            lengths: `(B,)`.
            labels: `(B,)` int64.
        """
        projected = self.cell.project(self.vectors(inputs)).unbind(1)  # T times (B, G*H)
        rows, steps = inputs.shape[:2]
        positions = torch.arange(steps, device=lengths.device)
        answers = self._ends(inputs, lengths) | (positions == lengths[:, None] - 1)  # (B, T)
        h = projected[0].new_zeros(rows, self.spec.hidden_size)
        c, pools = h, Pools(h)
        states, features = [], []
        for t in range(steps):
            h, c = self._step(projected[t], h, c, pools, t < lengths)
            here = answers[:, t]
            states.append(h[here])
            features.append(pools.features(h)[here])
        times, who = answers.T.nonzero(as_tuple=True)  # in the order of what was collected
        logits = self.classify(torch.cat(features))
        right = torch.ones_like(answers)
        right[who, times] = logits.detach().argmax(1) == labels[who]
        stays = right.flip(1).long().cumprod(1).flip(1)[who, times]
        stop = self.stop(torch.cat(states))[:, 0]
        loss = nn.functional.cross_entropy(logits, labels[who], reduction="none")
        loss = loss + nn.functional.binary_cross_entropy_with_logits(
            stop, stays.to(stop.dtype), reduction="none"
        )
        # Every document counts alike, however many sentences it has.
        return (loss / answers.sum(1)[who]).sum() / rows

    def _step(
        self, projected: Tensor, h: Tensor, c: Tensor, pools: Pools, reads: Tensor
    ) -> tuple[Tensor, Tensor]:
        """State after one token in the rows that read it, `(B,)` bool."""
        read = reads[:, None].to(h.dtype)
        h, c = self.cell.step_where(projected, h, c, read)
        pools.add(h, read)
        return h, c

    def _ends(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """`(B, T)` bool: a sentence ends with this token."""
        rows, steps = inputs.shape[:2]
        ends = torch.zeros(rows, steps, dtype=torch.bool, device=lengths.device)
        if self.embed is not None:
            ends = self.marks[inputs] == _SENTENCE
        run = torch.zeros_like(lengths)
        for t in range(steps):
            run = run + 1
            ends[:, t] |= run == self.max_sentence
            run = torch.where(ends[:, t], 0, run)
        return ends & (torch.arange(steps, device=lengths.device) < lengths[:, None])

    def executor(self) -> Executor:
        """The compiled reader."""
        return JumperExecutor(self)


class JumperExecutor(Executor):
    """Reads every token up to the sentence end at which it stops."""

    def __init__(self, network: Jumper) -> None:
        super().__init__(network)
        self._gate = self.weights["stop.weight"][0], self.weights["stop.bias"]
        self._max_sentence = network.max_sentence

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
        _read(ids, table, self.marks, self._max_sentence, self.kind, self.cell, self._gate,
              state.hidden, state.counts, knob, max_reads, actions)  # fmt: skip

    def look_flops(self) -> float:
        """Of one decision."""
        return 2.0 * self.spec.hidden_size


@compiled
def _read(ids: Any, table: Any, marks: Any, max_sentence: int, kind: int, cell: Any, gate: Any,
          hidden: Any, counts: Any, knob: Any, max_reads: int, actions: Any) -> None:  # fmt: skip
    start = counts[POSITION]
    counts[POSITION] += len(ids)
    actions[:] = _SKIP
    for t in range(len(ids)):
        if counts[STOPPED] == 1 or counts[FULL] >= max_reads:
            break
        kernels.step(kind, table[ids[t]], hidden, counts, cell)
        actions[t] = _PROCESS
        counts[_IN_SENTENCE] += 1
        marked = len(marks) > 0 and marks[ids[t]] == _SENTENCE
        if marked or counts[_IN_SENTENCE] == max_sentence:
            counts[_IN_SENTENCE] = 0
            counts[LOOKS] += 1
            if kernels.dot(gate[0], hidden[kernels.H]) + gate[1][0] + knob > 0:
                counts[STOPPED] = 1
                counts[STOP_INDEX] = start + t + 1
