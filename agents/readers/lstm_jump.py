"""LSTM-Jump: reads a few tokens, then chooses how far to jump ahead or to stop.

Paper: Yu, Lee and Le 2017, Learning to Skim Text, arXiv:1704.06877, section 2 and figure 1.
Differs: one baseline a document, from the state at the first jump, so that it depends on nothing
that was drawn; straight-through and Gumbel estimates beside REINFORCE; the knob adds to the logits.

```
# read_size R = 2; a jump of k from the last token read lands k tokens later, 1 is the next token.
#   token   0 1 2 3 4 5 6 7 8
#   read    P P - - P P P P -      jump 3, jump 1, stop
```

For p[p[0]]: R = 1, max_jump at least the largest number, max_jumps = 1; two tokens are read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from streamdyn.errors import ConfigError
from streamdyn.nn import kernels
from streamdyn.nn.cells import Pools
from streamdyn.nn.gates import Choice, Sampling, choose
from streamdyn.nn.kernels import FULL, LOOKS, POSITION, SKIP_UNTIL, STOP_INDEX, STOPPED, compiled
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

SKIP, PROCESS = int(Action.SKIP), int(Action.PROCESS)
_NEXT, _RUN, _JUMPS, _FURTHEST = range(STOP_INDEX + 1, STOP_INDEX + 5)
"""Own entries of `counts`: index of the next token to read, tokens read since the last jump, jumps
so far, index after the furthest token read."""


class Draws:
    """Sums over the drawn decisions of each row; all `None` unless the estimator draws."""

    def __init__(self, sampling: Sampling, like: Tensor) -> None:
        self.log_prob: Tensor | None = None  # (B,)
        self.baseline: Tensor | None = None  # (B,)
        self._entropy = self._count = torch.zeros_like(like)
        if sampling.estimator == "reinforce":
            self.log_prob = self.baseline = self._count

    def add(self, choice: Choice, baseline: Tensor, drawn: Tensor) -> None:
        """Count a choice for the rows `drawn` `(B,)`, and `baseline` `(B,)` if it is their first.

        A later baseline would depend on what was drawn before it, and bias the gradient.
        """
        if self.log_prob is None or self.baseline is None:
            return
        self.log_prob = self.log_prob + choice.log_prob * drawn
        self.baseline = torch.where(drawn & (self._count == 0), baseline, self.baseline)
        self._entropy = self._entropy + choice.entropy * drawn
        self._count = self._count + drawn

    @property
    def entropy(self) -> Tensor | None:
        """`(B,)` mean over the decisions."""
        return None if self.log_prob is None else self._entropy / self._count.clamp(min=1)


@reader("lstm_jump")
class LstmJump(ReaderNetwork):
    """Reads `read_size` tokens, jumps 1 to `max_jump` tokens ahead or stops, and so on.

    After the last of `max_jumps` jumps it reads `read_size` tokens more and stops. Of these options
    only `max_jump` is in the weights.

    Args:
        spec: Sizes.
        read_size: Tokens read between two jumps, R in the paper.
        max_jump: Longest jump, K.
        max_jumps: Jumps in a document, N.
    """

    name = "lstm_jump"
    estimators = ("reinforce", "straight_through", "gumbel")
    bonus: Tensor

    def __init__(
        self, spec: NetworkSpec, *, read_size: int = 8, max_jump: int = 40, max_jumps: int = 40
    ) -> None:
        super().__init__(spec)
        if min(read_size, max_jump, max_jumps) < 1:
            raise ConfigError(
                f"read_size, max_jump and max_jumps must be at least 1, got {read_size}, "
                f"{max_jump} and {max_jumps}"
            )
        self.read_size, self.max_jump, self.max_jumps = read_size, max_jump, max_jumps
        hops = self.hops()
        self.jump = nn.Linear(spec.hidden_size, len(hops))
        self.baseline = nn.Linear(spec.hidden_size, 1)
        # Reads on at first: the next token is the likeliest landing.
        nn.init.constant_(self.jump.bias, 0.0)
        nn.init.constant_(self.jump.bias[1:2], 3.0)
        # What a knob of 1 adds: 1 to the stop and to the longest jump, nothing to the next token
        # and to a jump back; logarithmic, since doubling a short jump saves most.
        ahead = torch.tensor(hops).clamp(min=1).log() / np.log(max(max_jump, 2))
        ahead[0] = 1.0
        self.register_buffer("bonus", ahead, persistent=False)

    def hops(self) -> list[int]:
        """Where each choice lands, in tokens from the last one read; choice 0 is to stop."""
        return list(range(self.max_jump + 1))

    def options(self) -> dict[str, Any]:
        """See `ReaderNetwork.options`."""
        return {
            "read_size": self.read_size,
            "max_jump": self.max_jump,
            "max_jumps": self.max_jumps,
        }

    def decide(self, h: Tensor, sampling: Sampling) -> tuple[Choice, Tensor]:
        """A jump for each row of `h` `(B, H)`, and the reward that the baseline expects."""
        choice = choose(self.jump(h) + sampling.knob * self.bonus, sampling)
        return choice, self.baseline(h.detach())[:, 0]

    def masked(self, inputs: Tensor, lengths: Tensor, sampling: Sampling) -> Masked:
        """One step for each token read, every row at its own position; runs start together.

        Relaxed estimators get two gradients: the first tokens of a run are those of the jump taken,
        with the gradient of a mixture over all jumps; and what a jump passes over would have cost
        the row's mean rate of reading.
        """
        vectors = self.vectors(inputs)  # (B, T, E)
        rows, steps = inputs.shape[:2]
        row = torch.arange(rows, device=inputs.device)
        hops = torch.tensor(self.hops(), device=inputs.device)
        goes_back = bool(hops.min() < 0)
        h = vectors.new_zeros(rows, self.spec.hidden_size)
        c, pools, draws = h, Pools(h), Draws(sampling, h[:, 0])
        reads = vectors.new_zeros(rows, steps)
        t = furthest = torch.zeros_like(lengths)
        going = torch.ones_like(lengths, dtype=torch.bool)
        goes_on, saved = torch.ones_like(h[:, :1]), h[:, 0]
        lands, drift = t[:, None], None
        for jumps in range(self.max_jumps + 1):
            start = t
            for offset in range(self.read_size):
                inside = going & (t < lengths)
                at = t.clamp(max=steps - 1)
                x = self.cell.project(vectors[row, at])
                if drift is not None:
                    where = lands + offset
                    others = vectors.detach()[row[:, None], where.clamp(max=steps - 1)]
                    there = drift * (where < lengths[:, None])  # (B, choices)
                    weight = self.cell.fused.weight_ih_l0
                    assert isinstance(weight, Tensor)
                    x = x + (there[:, None] @ others)[:, 0] @ weight.T
                # A row that has just stopped reads on with a gate of 0, for the gate's gradient.
                update = inside[:, None] * goes_on  # (B, 1)
                h, c = self.cell.step_where(x, h, c, update)
                pools.add(h, update)
                read = update.detach()[:, 0] > 0.5
                reads[row, at] += read
                t = t + inside
                furthest = torch.where(read, torch.maximum(furthest, t), furthest)
            going = read & (t - start == self.read_size)
            if jumps == self.max_jumps or not going.any():
                break
            choice, baseline = self.decide(h, sampling)
            draws.add(choice, baseline, going & ((t < lengths) | goes_back))
            floor = (furthest - self.max_jump - self.read_size).clamp(min=0)[:, None]
            back = torch.maximum(start[:, None] + hops, floor)
            lands = torch.where(hops > 0, t[:, None] + hops - 1, back)  # (B, choices)
            lands[:, 0] = t
            passed = torch.minimum(lands, lengths[:, None]) - t[:, None]
            passed[:, 0] = lengths - t
            saved = saved + going * (choice.one_hot * passed).sum(1)
            goes_on = 1 - choice.one_hot[:, :1]
            if sampling.estimator in ("straight_through", "gumbel"):
                drift = choice.one_hot - choice.one_hot.detach()
            t = lands.gather(1, choice.index[:, None])[:, 0]
        each = reads.sum(1)
        total = each.sum()
        return Masked(
            logits=self.classify(pools.features(h)),
            actions=torch.where(reads > 0, PROCESS, SKIP).to(torch.uint8),
            cost=(each - (saved - saved.detach()) * each / furthest) / lengths,
            log_prob=draws.log_prob,
            entropy=draws.entropy,
            baseline=draws.baseline,
            revisits=float((total - (reads > 0).sum()) / total.clamp(min=1)),
        )

    def executor(self) -> Executor:
        """The compiled reader."""
        return JumpExecutor(self)


class JumpExecutor(Executor):
    """Reads runs of tokens; what a jump passes over is not looked up.

    A token that a jump back may still reach is kept, and decided on once none can. `aux` holds the
    actions of these tokens so far.
    """

    aux_size = 0

    def __init__(self, network: LstmJump) -> None:
        super().__init__(network)
        hops = np.array(network.hops())
        self._jump = (
            np.ascontiguousarray(self.weights["jump.weight"].T),
            self.weights["jump.bias"],
            network.bonus.to("cpu").numpy().copy(),
            hops,
        )
        self._limits = network.read_size, network.max_jump, network.max_jumps
        self._goes_back = bool(hops.min() < 0)

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
        held, counts = state.waiting, state.counts
        actions[:held], actions[held:] = state.aux, SKIP
        ids, table = self.after_past(state, ids, table)
        _read(ids, table, held, self.kind, self.cell, self._jump, self._limits, state.hidden,
              counts, knob, max_reads, actions)  # fmt: skip
        _, max_jump, max_jumps = self._limits
        final = ended or state.stopped or counts[_JUMPS] == max_jumps or not self._goes_back
        # No later run can begin before this one's first token, less the longest jump.
        earliest = state.position if final else max(counts[_NEXT] - counts[_RUN] - max_jump, 0)
        counts[SKIP_UNTIL] = counts[_NEXT] if final else state.position
        state.waiting = int(state.position - earliest)
        first = len(ids) - state.waiting
        state.aux = actions[first:].astype(np.float32)
        self.keep(state, ids[first:], table)

    def look_flops(self) -> float:
        """Of one decision."""
        return 2.0 * self._jump[0].size


@compiled
def _read(ids: Any, table: Any, held: int, kind: int, cell: Any, jump: Any, limits: Any,
          hidden: Any, counts: Any, knob: Any, max_reads: int, actions: Any) -> None:  # fmt: skip
    weight, bias, bonus, hops = jump
    read_size, max_jump, max_jumps = limits
    origin = counts[POSITION] - held
    stop = origin + len(ids)
    t = max(counts[POSITION], counts[_NEXT])
    while t < stop and counts[STOPPED] == 0 and counts[FULL] < max_reads:
        kernels.step(kind, table[ids[t - origin]], hidden, counts, cell)
        actions[t - origin] = PROCESS
        t += 1
        counts[_FURTHEST] = max(counts[_FURTHEST], t)
        counts[_RUN] += 1
        if counts[_RUN] < read_size:
            continue
        counts[_RUN] = 0
        hop = 0
        if counts[_JUMPS] < max_jumps:
            logits = bias + knob * bonus
            kernels.add_product(logits, hidden[kernels.H], weight)
            hop = hops[np.argmax(logits)]
            counts[_JUMPS] += 1
            counts[LOOKS] += 1
        if hop > 0:
            t += hop - 1
        elif hop < 0:
            t = max(t - read_size + hop, counts[_FURTHEST] - read_size - max_jump, 0)
        else:
            counts[STOPPED] = 1
            counts[STOP_INDEX] = counts[_FURTHEST]
    # Where the reads were used up, what is left of these tokens was passed over.
    counts[_NEXT] = max(t, stop)
    counts[POSITION] = stop
