"""Readers that learn nothing about where to look; every result is printed beside theirs.

They share the network of the others and read a share `rate` of the tokens in full: all, the first,
the last, random ones, evenly spaced ones, or the rarest. The knob halves the share each time it
rises by one. All but `full` need to know how long a text is: they wait for its end.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamdyn.errors import ConfigError
from streamdyn.nn import kernels
from streamdyn.nn.cells import pooled
from streamdyn.nn.gates import Sampling
from streamdyn.nn.kernels import POSITION, compiled
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
Positions = npt.NDArray[np.int64]
Picker = Callable[[Ids | Floats, int], Positions]
"""Tokens of a whole text, `(n,)` ids or `(n, E)` vectors, and how many to read, at most n → which,
ascending."""


class TrivialReader(ReaderNetwork):
    """Reads `rate * 2 ** -knob` of the tokens, at least one.

    Args:
        spec: Sizes.
        rate: Share of the tokens, in (0, 1].
    """

    estimators = ("greedy",)
    waits: ClassVar[bool] = True
    """Decides when the text has ended."""

    def __init__(self, spec: NetworkSpec, *, rate: float = 0.2) -> None:
        super().__init__(spec)
        if not 0 < rate <= 1:
            raise ConfigError(f"rate must be in (0, 1], got {rate = }")
        self.rate = rate

    def options(self) -> dict[str, Any]:
        """See `ReaderNetwork.options`."""
        return {"rate": self.rate}

    def picker(self) -> Picker:
        """The rule, with all it needs to know."""
        raise NotImplementedError

    def masked(self, inputs: Tensor, lengths: Tensor, sampling: Sampling) -> Masked:
        """What is read is known beforehand: it is gathered and read by torch's fused cell."""
        picker, knob, device = self.picker(), np.float32(sampling.knob), inputs.device
        kind = np.int32 if self.spec.num_words else np.float32
        picked = [
            picker(tokens[:n], num_kept(self.rate, knob, n))
            for tokens, n in zip(inputs.cpu().numpy().astype(kind), lengths.tolist(), strict=True)
        ]
        counts = torch.tensor([len(positions) for positions in picked], device=device)
        inside = torch.arange(max(1, *map(len, picked)), device=device) < counts[:, None]  # (B, K)
        index = torch.zeros(inside.shape, dtype=torch.int64, device=device)
        index[inside] = torch.from_numpy(np.concatenate(picked)).to(device)
        rows = torch.arange(len(inputs), device=device)[:, None]
        actions = torch.full(inputs.shape[:2], _SKIP, dtype=torch.uint8, device=device)
        actions[rows.expand_as(index)[inside], index[inside]] = _PROCESS
        states, _ = self.cell.fused(self.vectors(inputs[rows, index]))  # (B, K, H)
        return Masked(
            logits=self.classify(pooled(states, inside)),
            actions=actions,
            cost=counts / lengths.clamp(min=1),
        )

    def executor(self) -> Executor:
        """The compiled reader."""
        return TrivialExecutor(self)


@reader("full")
class Full(TrivialReader):
    """Everything, at any knob."""

    name = "full"
    waits = False

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec, rate=1.0)
        # No knob halves it.
        self.rate = math.inf

    def options(self) -> dict[str, Any]:
        """None."""
        return {}

    def picker(self) -> Picker:
        """The rule."""
        return _first


@reader("first_k")
class FirstK(TrivialReader):
    """The first tokens."""

    name = "first_k"

    def picker(self) -> Picker:
        """The rule."""
        return _first


@reader("last_k")
class LastK(TrivialReader):
    """The last tokens."""

    name = "last_k"

    def picker(self) -> Picker:
        """The rule."""
        return _last


@reader("uniform")
class Uniform(TrivialReader):
    """Evenly spaced tokens, each in the middle of its stretch."""

    name = "uniform"

    def picker(self) -> Picker:
        """The rule."""
        return _uniform


@reader("random")
class Random(TrivialReader):
    """Random tokens, the same ones each time a text is read.

    Args:
        spec: Sizes.
        rate: Share of the tokens, in (0, 1].
        seed: Another seed draws others.
    """

    name = "random"

    def __init__(self, spec: NetworkSpec, *, rate: float = 0.2, seed: int = 0) -> None:
        super().__init__(spec, rate=rate)
        self.seed = seed

    def options(self) -> dict[str, Any]:
        """See `ReaderNetwork.options`."""
        return {"rate": self.rate, "seed": self.seed}

    def picker(self) -> Picker:
        """The rule."""
        return partial(_random, seed=self.seed)


@reader("idf")
class Idf(TrivialReader):
    """The tokens of greatest importance, of two equal ones the earlier."""

    name = "idf"
    importance: Tensor
    """`(num_words,)` float32, a value for each id; whoever trains the reader fills it, with the
    inverse document frequency for what the name says."""

    def __init__(self, spec: NetworkSpec, *, rate: float = 0.2) -> None:
        super().__init__(spec, rate=rate)
        if not spec.num_words:
            raise ConfigError("idf needs ids to look up, but num_words = 0: inputs are vectors")
        self.register_buffer("importance", torch.zeros(spec.num_words))

    def picker(self) -> Picker:
        """The rule."""
        return partial(_greatest, importance=self.importance.detach().cpu().numpy().copy())


def num_kept(rate: float, knob: np.float32, length: int) -> int:
    """Tokens to read of `length`: the share rounded, at least one."""
    share = min(rate * 2.0 ** -min(max(float(knob), -60.0), 60.0), 1.0)
    return min(max(int(share * length + 0.5), 1), length)


class TrivialExecutor(Executor):
    """Reads the chosen tokens, one after the other."""

    modes = ("exact", "block")

    def __init__(self, network: TrivialReader) -> None:
        super().__init__(network)
        self._picker, self._rate, self._waits = network.picker(), network.rate, network.waits

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
        """See `Executor.run`; both modes are the same, as no decision depends on a state."""
        state.counts[POSITION] += len(ids)
        if self._waits and not ended:
            _put_by(state, ids if self.spec.num_words else table)
            return
        if state.waiting:
            state.past = state.past[: state.waiting]
            ids, table = self.after_past(state, ids, table)
            state.past, state.waiting = state.past[:0], 0
        count = min(num_kept(self._rate, knob, len(ids)), max_reads - state.num_full)
        positions = self._picker(ids if self.spec.num_words else table, max(count, 0))
        actions[:] = _SKIP
        actions[positions] = _PROCESS
        _read(ids[positions], table, self.kind, self.cell, state.hidden, state.counts)


def _first(tokens: Ids | Floats, count: int) -> Positions:
    return np.arange(count)


def _last(tokens: Ids | Floats, count: int) -> Positions:
    return np.arange(len(tokens) - count, len(tokens))


def _uniform(tokens: Ids | Floats, count: int) -> Positions:
    return (2 * np.arange(count) + 1) * len(tokens) // max(2 * count, 1)


def _random(tokens: Ids | Floats, count: int, *, seed: int) -> Positions:
    generator = np.random.default_rng((seed, zlib.crc32(tokens.tobytes())))
    return np.sort(generator.choice(len(tokens), count, replace=False, shuffle=False))


def _greatest(tokens: Ids | Floats, count: int, *, importance: Floats) -> Positions:
    return np.sort(np.argsort(-importance[tokens], kind="stable")[:count])


def _put_by(state: ReadState, tokens: Ids | Floats) -> None:
    """Put tokens after the waiting ones; the space for them doubles, so a token costs the same."""
    stop = state.waiting + len(tokens)
    if stop > len(state.past):
        past = np.zeros((max(stop, 2 * len(state.past)), *tokens.shape[1:]), tokens.dtype)
        if state.waiting:
            past[: state.waiting] = state.past[: state.waiting]
        state.past = past
    state.past[state.waiting : stop] = tokens
    state.waiting = stop


@compiled
def _read(ids: Any, table: Any, kind: int, cell: Any, hidden: Any, counts: Any) -> None:
    for i in range(len(ids)):
        kernels.step(kind, table[ids[i]], hidden, counts, cell)
