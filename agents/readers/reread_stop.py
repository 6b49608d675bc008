"""Skim, re-read, stop: after each chunk the reader answers, goes back over it, or goes on.

Paper: Yu et al. 2018, Fast and Accurate Text Classification: Skimming, Rereading and Early
Stopping, ICLR workshop, openreview.net/forum?id=r1wlAd1vM.
Differs: the cell reads the words themselves, not a convolution over them; one hidden layer serves
both decisions, not three each; a chunk is read again at most `max_rereads` times, since agents that
may do so for ever read their first chunk for ever; the baseline is one guess a document, after its
first chunk; an incomplete last chunk is read and no decision follows it; the knob is added to
stopping and, once per chunk left out, to skipping.
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
from streamdyn.nn.kernels import (
    FULL,
    LOOKS,
    POSITION,
    SKIP_UNTIL,
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

_SKIP, _PROCESS = int(Action.SKIP), int(Action.PROCESS)
_NEVER = -1e4
"""Logit of what is not allowed; finite, so that the entropy stays a number."""


@reader("reread_stop")
class RereadStop(ReaderNetwork):
    """Reads chunk by chunk; after each it stops, reads it again, goes on or skips some.

    Args:
        spec: Sizes.
        chunk_size: Tokens read between two decisions.
        max_skip: Chunks that one decision can leave out, at most.
        max_rereads: Times that a chunk can be read again, at most.
        policy_size: Hidden units of the policy.
    """

    name = "reread_stop"
    estimators = ("reinforce",)

    def __init__(
        self,
        spec: NetworkSpec,
        *,
        chunk_size: int = 20,
        max_skip: int = 2,
        max_rereads: int = 1,
        policy_size: int = 128,
    ) -> None:
        super().__init__(spec)
        if chunk_size < 1 or max_skip < 0 or max_rereads < 0 or policy_size < 1:
            raise ConfigError(
                f"reread_stop needs chunk_size and policy_size >= 1, max_skip and max_rereads >= 0,"
                f" not {chunk_size}, {policy_size}, {max_skip} and {max_rereads}"
            )
        self.chunk_size, self.max_skip = chunk_size, max_skip
        self.max_rereads, self.policy_size = max_rereads, policy_size
        self.policy = nn.Linear(spec.hidden_size, policy_size)
        self.stop = nn.Linear(policy_size, 1)
        self.offset = nn.Linear(policy_size, 2 + max_skip)  # 0: again, 1: next, more: skip
        self.value = nn.Linear(spec.hidden_size, 1)
        # At first it mostly goes on.
        nn.init.constant_(self.stop.bias, -2.0)

    def options(self) -> dict[str, Any]:
        """See `ReaderNetwork.options`."""
        return {
            "chunk_size": self.chunk_size,
            "max_skip": self.max_skip,
            "max_rereads": self.max_rereads,
            "policy_size": self.policy_size,
        }

    def masked(self, inputs: Tensor, lengths: Tensor, sampling: Sampling) -> Masked:
        """Round by round: every row reads the chunk it stands at, then decides."""
        vectors = self.vectors(inputs)  # (B, T, E)
        rows, steps, width = vectors.shape
        h = vectors.new_zeros(rows, self.spec.hidden_size)
        c, pools = h, Pools(h)
        visits = vectors.new_zeros(rows, steps)
        log_prob, entropy, decisions = h.new_zeros(rows), h.new_zeros(rows), h.new_zeros(rows)
        at = torch.zeros_like(lengths)  # where the chunk begins
        again = torch.zeros_like(lengths)
        going = lengths > 0
        span = torch.arange(self.chunk_size, device=lengths.device)
        baseline = None
        while going.any():
            index = at[:, None] + span  # (B, chunk_size)
            inside = (going[:, None] & (index < lengths[:, None])).to(h.dtype)
            index = index.clamp(max=steps - 1)
            visits.scatter_add_(1, index, inside)
            chunk = vectors.gather(1, index[:, :, None].expand(-1, -1, width))
            projected = self.cell.project(chunk).unbind(1)
            for t in range(self.chunk_size):
                read = inside[:, t : t + 1]
                h, c = self.cell.step_where(projected[t], h, c, read)
                pools.add(h, read)
            if baseline is None:
                baseline = self.value(h.detach())[:, 0]
            going = going & (at + self.chunk_size <= lengths)
            stops, moves = self._decide(h, again, sampling)
            goes_on = going & (stops.index == 0)
            for choice, taken in ((stops, going), (moves, goes_on)):
                log_prob = log_prob + choice.log_prob * taken
                entropy = entropy + choice.entropy * taken
                decisions = decisions + taken
            again = torch.where(moves.index == 0, again + 1, 0)
            at = at + moves.index * self.chunk_size
            going = goes_on & (at < lengths)
        read = visits.sum(1)
        drawn = sampling.estimator == "reinforce"
        return Masked(
            logits=self.classify(pools.features(h)),
            actions=torch.where(visits > 0, _PROCESS, _SKIP).to(torch.uint8),
            cost=read / lengths,
            log_prob=log_prob if drawn else None,
            entropy=entropy / decisions.clamp(min=1) if drawn else None,
            baseline=baseline if drawn else None,
            revisits=float((visits - 1).clamp(min=0).sum() / read.sum().clamp(min=1)),
        )

    def _decide(self, h: Tensor, again: Tensor, sampling: Sampling) -> tuple[Choice, Choice]:
        """Whether each row stops, and where it goes unless it does."""
        seen = self.policy(h).relu()
        stop = self.stop(seen) + sampling.knob
        offset = self.offset(seen)
        skipped = torch.arange(-1, 1 + self.max_skip, device=h.device)
        offset = offset + sampling.knob * skipped
        spent = (again >= self.max_rereads)[:, None] & (skipped < 0)
        offset = offset.masked_fill(spent, _NEVER)
        return choose(torch.cat([torch.zeros_like(stop), stop], 1), sampling), choose(
            offset, sampling
        )

    def executor(self) -> Executor:
        """The compiled reader."""
        return RereadStopExecutor(self)


class RereadStopExecutor(Executor):
    """Keeps the chunk at which it stands, to read it again."""

    def __init__(self, network: RereadStop) -> None:
        super().__init__(network)
        self._policy = tuple(
            self.weights[f"{layer}.{kind}"]
            for layer in ("policy", "stop", "offset")
            for kind in ("weight", "bias")
        )
        self._sizes = network.chunk_size, network.max_rereads

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
        held = len(state.past)
        ids, table = self.after_past(state, ids, table)
        first, stop = _read(ids, held, table, self.kind, self.cell, self._policy, self._sizes,
                            state.hidden, state.counts, knob, max_reads, actions)  # fmt: skip
        self.keep(state, ids[first:stop], table)

    def look_flops(self) -> float:
        """Of one decision."""
        return 2.0 * sum(weight.size for weight in self._policy[::2])


@compiled
def _read(ids: Any, held: int, table: Any, kind: int, cell: Any, policy: Any, sizes: Any,
          hidden: Any, counts: Any, knob: Any, max_reads: int, actions: Any) -> Any:  # fmt: skip
    """Returns from where to where `ids` hold the part of a chunk that was read."""
    chunk_size, max_rereads = sizes
    # Index in `ids` of the next token to read, and of the first one of its chunk.
    t = held + max(counts[SKIP_UNTIL] - counts[POSITION], 0)
    first = t - held
    counts[POSITION] += len(ids) - held
    actions[:] = _SKIP
    while t < len(ids) and counts[FULL] < max_reads and counts[STOPPED] == 0:
        kernels.step(kind, table[ids[t]], hidden, counts, cell)
        actions[t - held] = _PROCESS
        t += 1
        if t - first < chunk_size:
            continue
        offset, rereads = 0, 0
        while offset == 0 and counts[STOPPED] == 0:
            offset = _decide(hidden[kernels.H], policy, knob, rereads < max_rereads)
            counts[LOOKS] += 1
            if offset < 0:
                counts[STOPPED] = 1
                counts[STOP_INDEX] = counts[POSITION] - len(ids) + t
            elif offset == 0:
                rereads += 1
                for again in range(first, t):
                    if counts[FULL] < max_reads:
                        kernels.step(kind, table[ids[again]], hidden, counts, cell)
        t += max(offset - 1, 0) * chunk_size
        first = t
        counts[SKIP_UNTIL] = counts[POSITION] - len(ids) + t
    return min(first, len(ids)), min(t, len(ids))


@compiled
def _decide(h: Any, policy: Any, knob: Any, may_reread: bool) -> int:
    """Chunks from the start of this one to the next to read; -1 stops."""
    inner, inner_bias, stop, stop_bias, move, move_bias = policy
    seen = inner_bias.copy()
    for j in range(len(seen)):
        seen[j] = max(seen[j] + kernels.dot(inner[j], h), np.float32(0.0))
    if kernels.dot(stop[0], seen) + stop_bias[0] + knob > 0:
        return -1
    best = -1
    top = np.float32(0.0)
    for j in range(0 if may_reread else 1, len(move_bias)):
        logit = kernels.dot(move[j], seen) + move_bias[j] + np.float32(j - 1) * knob
        if best < 0 or logit > top:
            best, top = j, logit
    return best
