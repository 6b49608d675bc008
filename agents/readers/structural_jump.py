"""Structural-Jump-LSTM: skips single tokens, and jumps to the next clause, sentence or the end.

Paper: Hansen et al. 2019, Neural Speed Reading with Structural-Jump-LSTM, arXiv:1904.00761,
section 3; what the agents see, and the costs, as in the authors' code.
Differs: a punctuation mark is a token like others, where theirs are taken out of the text; the last
actions are no inputs of the cell; one baseline a document, from the first look, in place of a
critic at each action; straight-through and Gumbel gates beside REINFORCE; the knob adds to logits.

```
#   token   the plot is thin , but the cast is great . see
#   agent 1  P   P   s   P     P                       P
#   agent 2  -   -       clause    sentence                      what is under no action is not seen
```
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
from streamdyn.nn.kernels import FULL, LOOKS, POSITION, SKIP_UNTIL, STOP_INDEX, STOPPED, compiled
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

from .lstm_jump import PROCESS, SKIP, Draws

_READ = 1
"""Choice of agent 1; 0 is to skip."""
_TO_CLAUSE, _TO_SENTENCE, _TO_END = 1, 2, 3
"""Choices of agent 2, the first two equal to the `words.Mark` they wait for; 0 is not to jump."""
_AWAITED = STOP_INDEX + 1
"""Own entry of `counts`: the `Mark` after which the reader looks again, 0 while it looks."""


@reader("structural_jump")
class StructuralJump(ReaderNetwork):
    """Agent 1 skips or reads a token it sees; agent 2 may jump after one that was read.

    A structural jump lands after the next mark: a sentence end also ends a clause. Without marks
    (inputs are vectors, or `marks` is all zeros) a clause is `fallback_span` tokens and a sentence
    twice as many.

    Args:
        spec: Sizes.
        agent_size: Hidden values of each agent.
        look_cost: What a token that is seen and skipped costs, as a share of one that is read; one
            that is jumped over costs nothing.
        fallback_span: Tokens passed over in jumping a clause where there are no marks.
    """

    name = "structural_jump"
    estimators = ("reinforce", "straight_through", "gumbel")
    skip_bonus: Tensor
    jump_bonus: Tensor

    def __init__(
        self,
        spec: NetworkSpec,
        *,
        agent_size: int = 25,
        look_cost: float = 0.5,
        fallback_span: int = 8,
    ) -> None:
        super().__init__(spec)
        if min(agent_size, fallback_span) < 1 or not 0 <= look_cost <= 1:
            raise ConfigError(
                "agent_size and fallback_span must be at least 1 and look_cost in [0, 1], got "
                f"{agent_size}, {fallback_span} and {look_cost}"
            )
        self.agent_size, self.look_cost, self.fallback_span = agent_size, look_cost, fallback_span
        self.skip_token = nn.Linear(spec.input_size, agent_size)
        self.skip_state = nn.Linear(spec.hidden_size, agent_size, bias=False)
        self.skip = nn.Linear(agent_size, 2)
        self.jump_state = nn.Linear(spec.hidden_size, agent_size)
        self.jump = nn.Linear(agent_size, 4)
        self.baseline = nn.Linear(agent_size, 1)
        # Reads everything at first; a jump to the end drawn early would leave little to learn from.
        with torch.no_grad():
            self.skip.bias.copy_(torch.tensor([0.0, 2.0]))
            self.jump.bias.copy_(torch.tensor([3.0, 0.0, 0.0, -3.0]))
        # What a knob of 1 adds.
        self.register_buffer("skip_bonus", torch.tensor([1.0, 0.0]), persistent=False)
        self.register_buffer("jump_bonus", torch.arange(4) / 3, persistent=False)

    def options(self) -> dict[str, Any]:
        """See `ReaderNetwork.options`."""
        return {
            "agent_size": self.agent_size,
            "look_cost": self.look_cost,
            "fallback_span": self.fallback_span,
        }

    def masked(self, inputs: Tensor, lengths: Tensor, sampling: Sampling) -> Masked:
        """Every step is computed; a token is seen with the chance that the last jump has landed."""
        vectors = self.vectors(inputs)
        projected, seen = self.cell.project(vectors).unbind(1), self.skip_token(vectors).unbind(1)
        rows, steps = inputs.shape[:2]
        h = projected[0].new_zeros(rows, self.spec.hidden_size)
        c, pools, draws = h, Pools(h), Draws(sampling, h[:, 0])
        ends = torch.arange(1, 3, device=h.device)  # clause, sentence
        marks = self.marks[inputs] if self.marks.any() else None  # (B, T)
        jump = nn.functional.one_hot(torch.zeros_like(lengths), 4).to(h.dtype)  # (B, 4)
        passed = torch.zeros(rows, 2, dtype=torch.bool, device=h.device)
        last = torch.full_like(lengths, -1)
        looks, updates = [], []
        for t in range(steps):
            inside = (t < lengths)[:, None]
            if marks is None:
                passed = (t - last)[:, None] > self.fallback_span * ends
            landed = jump[:, :1] + (jump[:, 1:3] * passed).sum(1, keepdim=True)
            look = landed * inside  # (B, 1)
            agent = torch.relu(seen[t] + self.skip_state(h))
            choice = choose(self.skip(agent) + sampling.knob * self.skip_bonus, sampling)
            looking = look.detach()[:, 0] > 0.5
            expected = self.baseline(agent.detach())[:, 0]
            draws.add(choice, expected, looking)
            update = look * choice.one_hot[:, _READ:]
            h, c = self.cell.step_where(projected[t], h, c, update)
            pools.add(h, update)
            read = update.detach()[:, 0] > 0.5
            logits = self.jump(torch.relu(self.jump_state(h)))
            choice = choose(logits + sampling.knob * self.jump_bonus, sampling)
            draws.add(choice, expected, read & (t + 1 < lengths))
            jump = torch.where(read[:, None], choice.one_hot, jump)
            last = torch.where(read, t, last)
            if marks is not None:
                passed = (passed | (marks[:, t : t + 1] >= ends)) & ~read[:, None]
            looks.append(look)
            updates.append(update)
        share, sight = torch.cat(updates, 1), torch.cat(looks, 1)  # (B, T)
        return Masked(
            logits=self.classify(pools.features(h)),
            actions=torch.where(share > 0.5, PROCESS, SKIP).to(torch.uint8),
            cost=(share + self.look_cost * (sight - share)).sum(1) / lengths,
            log_prob=draws.log_prob,
            entropy=draws.entropy,
            baseline=draws.baseline,
        )

    def executor(self) -> Executor:
        """The compiled reader."""
        return StructuralExecutor(self)


class StructuralExecutor(Executor):
    """Sees the tokens outside jumps; within one it only looks their mark up."""

    def __init__(self, network: StructuralJump) -> None:
        super().__init__(network)
        get = self.weights
        self._skip = (
            np.ascontiguousarray(get["skip_token.weight"].T),
            np.ascontiguousarray(get["skip_state.weight"].T),
            get["skip_token.bias"],
            get["skip.weight"],
            get["skip.bias"],
        )
        self._jump = (
            np.ascontiguousarray(get["jump_state.weight"].T),
            get["jump_state.bias"],
            np.ascontiguousarray(get["jump.weight"].T),
            get["jump.bias"],
            network.jump_bonus.to("cpu").numpy().copy(),
        )
        self._span = 0 if self.marks.any() else network.fallback_span

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
        _read(ids, table, self.marks, self._span, self.kind, self.cell, self._skip, self._jump,
              state.hidden, state.counts, knob, max_reads, actions)  # fmt: skip

    def look_flops(self) -> float:
        """Of one decision to read or skip."""
        return 2.0 * (self._skip[0].size + self._skip[3].size)

    def step_flops(self) -> float:
        """Of one full update, the jump and what the next looks take from the state included."""
        agents = self._skip[1].size + self._jump[0].size + self._jump[2].size
        return super().step_flops() + 2.0 * agents


@compiled
def _read(ids: Any, table: Any, marks: Any, span: int, kind: int, cell: Any, skip: Any, jump: Any,
          hidden: Any, counts: Any, knob: Any, max_reads: int, actions: Any) -> None:  # fmt: skip
    from_token, from_state, skip_bias, skip_weight, skip_out = skip
    start = counts[POSITION]
    stop = start + len(ids)
    actions[:] = SKIP
    t = max(start, counts[SKIP_UNTIL])
    # What the state adds to agent 1, computed once for all looks between two reads.
    state = np.empty(0, np.float32)
    while t < stop and counts[STOPPED] == 0:
        token = ids[t - start]
        t += 1
        if counts[_AWAITED] > 0 and marks[token] < counts[_AWAITED]:
            continue
        if counts[_AWAITED] > 0 or counts[FULL] >= max_reads:
            counts[_AWAITED] = 0
            continue
        if len(state) == 0:
            state = skip_bias.copy()
            kernels.add_product(state, hidden[kernels.H], from_state)
        agent = state.copy()
        kernels.add_product(agent, table[token], from_token)
        for j in range(len(agent)):
            agent[j] = max(agent[j], np.float32(0.0))
        counts[LOOKS] += 1
        to_skip = kernels.dot(skip_weight[0], agent) + skip_out[0] + knob
        if to_skip >= kernels.dot(skip_weight[1], agent) + skip_out[1]:
            continue
        kernels.step(kind, table[token], hidden, counts, cell)
        actions[t - 1 - start] = PROCESS
        state = np.empty(0, np.float32)
        choice = _jump(hidden[kernels.H], jump, knob)
        if choice == _TO_END:
            counts[STOPPED] = 1
            counts[STOP_INDEX] = t
        elif span > 0:
            t += choice * span
        else:
            counts[_AWAITED] = choice
    counts[SKIP_UNTIL] = t
    counts[POSITION] = stop


@compiled
def _jump(h: Any, jump: Any, knob: Any) -> Any:
    from_state, state_bias, weight, bias, bonus = jump
    agent = state_bias.copy()
    kernels.add_product(agent, h, from_state)
    for j in range(len(agent)):
        agent[j] = max(agent[j], np.float32(0.0))
    logits = bias + knob * bonus
    kernels.add_product(logits, agent, weight)
    return np.argmax(logits)
