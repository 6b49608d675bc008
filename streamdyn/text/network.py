"""What a reader is made of: a network that trains under a mask and an executor that really skips.

The two must agree: `masked` computes every step and throws away what was not read, `Executor`
computes only what is read. A contract test holds every reader to a difference below 1e-5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from streamdyn.errors import ConfigError, UnknownName
from streamdyn.nn import kernels
from streamdyn.nn.cells import EMPTY_MAXIMUM, Cell, CellKind
from streamdyn.nn.gates import Sampling
from streamdyn.registry import parts
from streamdyn.text.budget_knob import UNLIMITED

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]
Actions = npt.NDArray[np.uint8]
Pooling = Literal["last", "all"]


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """Sizes that all recurrent readers share."""

    input_size: int
    """Values a token."""
    hidden_size: int
    num_outputs: int
    """Labels, or targets of a regression."""
    num_words: int = 0
    """Rows of the embedding; 0: inputs are vectors, not ids."""
    cell: CellKind = "lstm"
    pooling: Pooling = "all"
    """`last`: the label is read off the last state. `all`: last, mean and maximum."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (("cell", get_args(CellKind)), ("pooling", get_args(Pooling))):
            if getattr(self, name) not in known:
                raise UnknownName(name, getattr(self, name), known)

    @property
    def num_features(self) -> int:
        """Inputs of the head."""
        return self.hidden_size * (1 if self.pooling == "last" else 3)


@dataclass(frozen=True, slots=True)
class Masked:
    """What a training pass over a padded batch gives."""

    logits: Tensor
    """`(B, num_outputs)`."""
    actions: Tensor
    """`(B, T)` uint8 of `Action`: SKIP, PARTIAL or PROCESS; padding is SKIP."""
    cost: Tensor
    """`(B,)` share of the tokens read, with a gradient where the method has one; a partial update
    costs its share of a full one."""
    log_prob: Tensor | None = None
    """`(B,)` sum over the drawn decisions; `None` unless drawn."""
    entropy: Tensor | None = None
    """`(B,)` mean over the drawn decisions."""
    baseline: Tensor | None = None
    """`(B,)` learned guess of the reward, where a network has one."""
    extra_loss: Tensor | None = None
    """Scalar, what the method adds of its own."""
    revisits: float = 0.0
    """Share of the reads that read a token again; for the alarm."""


class ReaderNetwork(nn.Module):
    """Embedding, cell and head; a reader adds its gates and says how it reads.

    Args:
        spec: Sizes.
    """

    name: ClassVar[str]
    estimators: ClassVar[tuple[str, ...]] = ("straight_through", "gumbel")
    """Estimators it can learn by, its paper's first."""
    marks: Tensor
    """`(num_words,)` uint8 of `words.Mark`: what each id does to a sentence; zeros where unknown,
    empty where inputs are vectors."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embed = (
            nn.Embedding(spec.num_words, spec.input_size, padding_idx=0) if spec.num_words else None
        )
        self.register_buffer("marks", torch.zeros(spec.num_words, dtype=torch.uint8))
        self.cell = Cell(spec.cell, spec.input_size, spec.hidden_size)
        self.head = nn.Linear(spec.num_features, spec.num_outputs)
        self.dropout = nn.Dropout(spec.dropout)

    def options(self) -> dict[str, Any]:
        """Keyword arguments besides `spec` that build this network again; plain data."""
        return {}

    def config(self) -> dict[str, Any]:
        """All that builds this network again, as plain data."""
        return {"spec": asdict(self.spec), **self.options()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The network of a `config()`, with fresh weights."""
        rest = {key: value for key, value in config.items() if key != "spec"}
        return cls(NetworkSpec(**config["spec"]), **rest)

    def start_from(self, other: nn.Module) -> None:
        """Take over the weights and buffers of the same name and shape; the rest stays.

        Gates have none in a full read, and the large layer of hm_rnn has other inputs.
        """
        own = self.state_dict()
        known = {k: v for k, v in other.state_dict().items() if k in own}
        self.load_state_dict(
            {k: v for k, v in known.items() if v.shape == own[k].shape}, strict=False
        )

    def vectors(self, inputs: Tensor) -> Tensor:
        """`(B, T)` ids or `(B, T, E)` vectors as `(B, T, E)`."""
        out: Tensor = self.dropout(inputs if self.embed is None else self.embed(inputs))
        return out

    def classify(self, features: Tensor) -> Tensor:
        """`(B, 3H)` of `Pools.features` as `(B, num_outputs)`."""
        if self.spec.pooling == "last":
            features = features[:, : self.spec.hidden_size]
        out: Tensor = self.head(self.dropout(features))
        return out

    def masked(self, inputs: Tensor, lengths: Tensor, sampling: Sampling) -> Masked:
        """Read a padded batch: `(B, T)` int64 ids or `(B, T, E)` vectors, `(B,)` lengths."""
        raise NotImplementedError

    def executor(self) -> Executor:
        """The compiled reader with the weights as they are now."""
        raise NotImplementedError


def fresh_network(
    name: str, spec: NetworkSpec, seed: int = 0, options: Mapping[str, Any] | None = None
) -> ReaderNetwork:
    """The network of a registered reader with weights drawn by `seed`; no other draws change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: ReaderNetwork = parts("reader")[name](spec, **(options or {}))
    return network


@dataclass(slots=True)
class ReadState:
    """Where a reading stands: plain arrays, so that a half-read document can be stored."""

    hidden: Floats
    """`(4, H)` or more rows, see `kernels`; further rows belong to the reader."""
    aux: Floats
    """Values of the reader's own."""
    counts: npt.NDArray[np.int64]
    """`(NUM_COUNTS,)`, see `kernels`."""
    past: npt.NDArray[Any] = field(default_factory=lambda: np.empty(0, np.int32))
    """Last tokens fed that the reader still needs: `(n,)` int32 ids or `(n, E)` float32 vectors."""
    waiting: int = 0
    """Tokens fed and not decided on yet; 0 unless the reader looks ahead."""

    @property
    def position(self) -> int:
        """Index of the next token."""
        return int(self.counts[kernels.POSITION])

    @property
    def decided(self) -> int:
        """Tokens decided on so far; later ones wait for what follows them."""
        return self.position - self.waiting

    @property
    def skip_until(self) -> int:
        """Index of the next token that will be looked at; later than `position` while skipping."""
        return max(int(self.counts[kernels.SKIP_UNTIL]), self.position)

    @property
    def stopped(self) -> bool:
        """No later token will be looked at."""
        return bool(self.counts[kernels.STOPPED])

    @property
    def stop_index(self) -> int | None:
        """Tokens before the stop; `None` while the reader has not stopped."""
        return int(self.counts[kernels.STOP_INDEX]) if self.stopped else None

    @property
    def num_full(self) -> int:
        """Full updates so far."""
        return int(self.counts[kernels.FULL])

    @property
    def num_partial(self) -> int:
        """Partial updates so far."""
        return int(self.counts[kernels.PARTIAL])

    @property
    def num_looks(self) -> int:
        """Decisions so far."""
        return int(self.counts[kernels.LOOKS])


class Executor:
    """Reads tokens one after the other and computes nothing for those it skips.

    A subclass calls its compiled loop in `advance`. Feeding a document whole, in pieces or token
    by token gives the same reading.
    """

    aux_size: ClassVar[int] = 1
    extra_rows: ClassVar[int] = 0
    modes: ClassVar[tuple[str, ...]] = ("exact",)
    options: ClassVar[tuple[str, ...]] = ()
    """Keyword arguments of `advance` besides the budget."""

    def __init__(self, network: ReaderNetwork) -> None:
        self.spec = network.spec
        weights = {name: _array(value) for name, value in network.state_dict().items()}
        self.marks = network.marks.to("cpu").numpy().copy()
        self.table: Floats = weights.get("embed.weight", np.empty((0, 0), np.float32))
        self.cell = cell_arrays(weights, "cell")
        self.kind = kernels.LSTM if self.spec.cell == "lstm" else kernels.GRU
        self.head_weight, self.head_bias = weights["head.weight"], weights["head.bias"]
        self.weights = weights

    def start(self) -> ReadState:
        """Before the first token."""
        hidden = np.zeros((4 + self.extra_rows, self.spec.hidden_size), np.float32)
        hidden[kernels.MAX] = EMPTY_MAXIMUM
        counts = np.zeros(kernels.NUM_COUNTS, np.int64)
        return ReadState(hidden, np.zeros(self.aux_size, np.float32), counts)

    def advance(
        self,
        state: ReadState,
        tokens: Ids | Floats,
        *,
        knob: float = 0.0,
        max_reads: int = UNLIMITED,
        ended: bool = True,
        mode: str = "exact",
    ) -> Actions:
        """Go on with the next tokens; `state` is updated in place.

        Args:
            state: Where the reading stands.
            tokens: `(n,)` int32 ids, or `(n, E)` float32 vectors where there is no embedding.
            knob: Larger reads less; 0 is the network as trained.
            max_reads: Full updates allowed in the whole reading; later tokens are skipped.
            ended: No token follows these.
            mode: `exact` or, where the reader has it, `block`.

        Returns:
            uint8 of `Action` for the tokens that this call decided on, in order. They are the `n`
            fed ones, unless the reader looks ahead: then it decides later than it is fed, and on
            all that wait once `ended` is True.

        Raises:
            ConfigError: The reader does not have this mode.
        """
        if mode not in self.modes:
            raise ConfigError(f"this reader reads in {' or '.join(self.modes)} mode, not {mode!r}")
        ids, table = self.rows(tokens)
        actions = np.zeros(state.waiting + len(ids), np.uint8)
        if len(actions):
            self.run(state, ids, table, np.float32(knob), max_reads, ended, mode, actions)
        return actions[: len(actions) - state.waiting]

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
        """Advance over `ids`, rows of `table`, and fill in `actions` (all 0, OPEN, before).

        `actions` begins with those of the `state.waiting` tokens fed before.
        """
        raise NotImplementedError

    def rows(self, tokens: Ids | Floats) -> tuple[Ids, Floats]:
        """Which rows of which table the tokens are."""
        if self.spec.num_words:
            return np.ascontiguousarray(tokens, np.int32), self.table
        table = np.ascontiguousarray(tokens, np.float32).reshape(-1, self.spec.input_size)
        return np.arange(len(table), dtype=np.int32), table

    def after_past(self, state: ReadState, ids: Ids, table: Floats) -> tuple[Ids, Floats]:
        """`ids` and `table` of `run`, with the tokens of `state.past` put before them."""
        if not len(state.past):
            return ids, table
        return self.rows(np.concatenate([state.past, ids if self.spec.num_words else table]))

    def keep(self, state: ReadState, ids: Ids, table: Floats) -> None:
        """Keep these rows of `table` as `state.past`."""
        state.past = ids.copy() if self.spec.num_words else table[ids]

    def features(self, state: ReadState) -> Floats:
        """Inputs of the head, from what was read so far."""
        h: Floats = state.hidden[kernels.H]
        if self.spec.pooling == "last":
            return h
        reads = max(state.num_full, 1)
        peak = state.hidden[kernels.MAX] if state.num_full else np.zeros_like(h)
        return np.concatenate([h, state.hidden[kernels.SUM] / np.float32(reads), peak])

    def logits(self, state: ReadState) -> Floats:
        """`(num_outputs,)`, what the reader would answer now."""
        out: Floats = self.head_weight @ self.features(state) + self.head_bias
        return out

    def read(self, state: ReadState, ids: Ids) -> Floats:
        """`(n, num_outputs)`, the answers after each of `n` tokens that are read in full.

        The reader's gates are not asked.
        """
        answers = np.empty((len(ids), len(self.head_bias)), np.float32)
        kernels.read(
            self.kind, self.table, ids, state.hidden, state.counts, self.cell,
            self.head_weight, self.head_bias, self.spec.pooling != "last", answers,
        )  # fmt: skip
        return answers

    def flops(self, state: ReadState) -> float:
        """Multiply-adds times two spent so far; gates and head included."""
        looks = state.num_looks * self.look_flops() + state.num_partial * self.partial_flops()
        return state.num_full * self.step_flops() + looks + 2.0 * self.head_weight.size

    def step_flops(self) -> float:
        """Of one full update."""
        return 2.0 * (self.cell[0].size + self.cell[1].size)

    def look_flops(self) -> float:
        """Of one decision."""
        return 0.0

    def partial_flops(self) -> float:
        """Of one partial update."""
        return 0.0


def cell_arrays(weights: Mapping[str, Floats], name: str) -> tuple[Floats, Floats, Floats, Floats]:
    """`(wx, wh, bx, bh)` of the `Cell` called `name`, as `kernels` wants them."""
    fused = f"{name}.fused."
    return (
        np.ascontiguousarray(weights[f"{fused}weight_ih_l0"].T),
        np.ascontiguousarray(weights[f"{fused}weight_hh_l0"].T),
        weights[f"{fused}bias_ih_l0"],
        weights[f"{fused}bias_hh_l0"],
    )


def _array(value: Tensor) -> Floats:
    array: Floats = np.ascontiguousarray(value.detach().to("cpu", torch.float32).numpy())
    return array.copy()
