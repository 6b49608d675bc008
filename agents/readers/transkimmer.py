"""Transkimmer: a transformer that drops tokens between its layers and may stop before the last.

Paper: Guan et al. 2022, Transkimmer: Transformer Learns to Layer-wise Skim, arXiv:2205.07324,
sections 3.2 and 3.3; Kim et al. 2021, Learned Token Pruning for Transformers, arXiv:2107.00910,
section 3.2 (a learned threshold a gate); Zhou et al. 2020, BERT Loses Patience, arXiv:2006.04152,
section 3.2 (`patience`).
Differs: the score of a token is a table entry of its id, primed with log-odds of the training
texts, plus a small network on its state; before the first layer that state is the word embedding
without its position, so that one look-up decides. A training batch keeps a share of its tokens that
is drawn anew each time, by which one network serves every rate. Gradients reach the gates through
kept tokens only, since dropped ones are not computed. Positions count kept tokens: a review of
2,000 tokens is read by its best 510. Class weights an id are added to the answer (Cheng et al.
2016, Wide & Deep Learning, arXiv:1606.07792). Earlier heads learn the last one's answer (Zhang et
al. 2019, Be Your Own Teacher, arXiv:1905.08094).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from streamdyn.errors import ConfigError
from streamdyn.nn.gates import Sampling, choose
from streamdyn.nn.minilm import (
    CLS_ID,
    HIDDEN_SIZE,
    MAX_POSITIONS,
    NUM_LAYERS,
    NUM_WORDS,
    SEP_ID,
    Layer,
    Linear,
    MiniLm,
)
from streamdyn.nn.minilm_onnx import Floats, Scorer, layer_session
from streamdyn.plan import Action
from streamdyn.registry import reader
from streamdyn.text.budget_knob import READ_ALL
from streamdyn.text.network import Ids, Masked
from streamdyn.text.vectors import label_importance, log_count_ratio

from .transkimmer_batch import Weights
from .transkimmer_executor import TranskimmerExecutor

CAPACITY = MAX_POSITIONS - 2
"""Tokens that the encoder takes; the best by score where more pass the first gate."""
_GATE_SIZE = 48
_CENTER_MOMENTUM = 0.95
_RARE = 50
"""Texts that must hold a token for half of its log-odds to be believed."""
_DROPPED = -1e9


@reader("transkimmer")
class TranskimmerReader(nn.Module):
    """MiniLM-L6 that reads the tokens which pass its gates.

    Args:
        num_outputs: Labels.
        rank: Of the adaptation of the encoder, whose own weights are frozen.
        gates: Layers, counted from 0, before which tokens are dropped; the first must be 0.
        exits: Layers, counted from 1, after which there is a head; the last must be 6.
        rate: Share of the tokens that passes the first gate at knob 0.
        narrow: Share of those that passes each later gate at knob 0.
        train_rates: Shares to draw from for each training batch; empty: the gates decide by
            themselves, and the cost makes them drop.
        pool_dropped: Tokens dropped after the first gate count for the answer as they were then.
        wide: Add class weights of the kept ids to the answer.
        packed: Leave dropped tokens out of the training pass too; else they are only masked.
        low_precision: Train in bfloat16.
        dropout: Of the features of the heads.
    """

    name = "transkimmer"
    estimators = ("straight_through", "gumbel")
    centers: Tensor
    """`(len(gates),)` scores that count as 0 at each gate."""

    def __init__(
        self,
        num_outputs: int = 2,
        *,
        rank: int = 8,
        gates: Sequence[int] = (0, 2, 4),
        exits: Sequence[int] = (2, 4, 6),
        rate: float = 0.2,
        narrow: float = 0.75,
        train_rates: Sequence[float] = (),
        pool_dropped: bool = True,
        wide: bool = True,
        packed: bool = True,
        low_precision: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        _check(gates, exits, (rate, narrow, *train_rates))
        self.num_outputs, self.rank, self.rate, self.narrow = num_outputs, rank, rate, narrow
        self.gates, self.exits, self.train_rates = tuple(gates), tuple(exits), tuple(train_rates)
        self.pool_dropped, self.wide, self.packed = pool_dropped, wide, packed
        self.low_precision = low_precision
        self.encoder = MiniLm(rank)
        self.importance = nn.Parameter(torch.zeros(NUM_WORDS))
        self.word_votes = nn.Parameter(torch.zeros(NUM_WORDS if wide else 0, num_outputs))
        self.scorers = nn.ModuleList(_Scorer() for _ in gates)
        self.heads = nn.ModuleList(nn.Linear(HIDDEN_SIZE, num_outputs) for _ in exits)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("centers", torch.zeros(len(gates)))

    def options(self) -> dict[str, Any]:
        """Keyword arguments that build this network again; plain data."""
        names = ("rank", "rate", "narrow", "pool_dropped", "wide", "packed", "low_precision")
        lists = {name: list(getattr(self, name)) for name in ("gates", "exits", "train_rates")}
        return {name: getattr(self, name) for name in names} | lists | {"dropout": self.dropout.p}

    def config(self) -> dict[str, Any]:
        """All that builds this network again, as plain data."""
        return {"num_outputs": self.num_outputs, **self.options()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The network of a `config()`, with fresh weights."""
        return cls(**config)

    def prime(self, documents: Iterable[Ids], labels: Iterable[int]) -> None:
        """Start from what single tokens tell about the label of training texts.

        `importance` is that of `label_importance`; the class weights are log ratios of counts.
        """
        documents, known = list(documents), np.array(list(labels), np.int64)
        importance = label_importance(documents, known, NUM_WORDS)
        with torch.no_grad():
            self.importance.copy_(torch.from_numpy(importance))
            if self.wide:
                texts = np.zeros((NUM_WORDS, 1))
                for row in documents:
                    texts[np.unique(row)] += 1
                votes = log_count_ratio(documents, known, NUM_WORDS) * texts / (texts + _RARE)
                self.word_votes.copy_(torch.from_numpy(votes))

    def scores(self, ids: Tensor) -> Tensor:
        """What the first gate thinks of ids of any shape: larger is kept sooner."""
        words = functional.layer_norm(self.encoder.words[ids], (HIDDEN_SIZE,))
        score: Tensor = self.importance[ids] + self.scorers[0](words)
        return score

    def masked(self, inputs: Tensor, lengths: Tensor, sampling: Sampling) -> Masked:
        """Read a padded batch: `(B, T)` int64 ids, `(B,)` lengths."""
        with torch.autocast(
            inputs.device.type, torch.bfloat16, enabled=self.low_precision and self.training
        ):
            return self._masked(inputs, lengths, sampling)

    def _masked(self, inputs: Tensor, lengths: Tensor, sampling: Sampling) -> Masked:
        inside = torch.arange(inputs.shape[1], device=inputs.device) < lengths[:, None]
        scores = self.scores(inputs)  # (B, T)
        self._follow(0, scores, inside)
        if self.training and self.train_rates:
            sampling = replace(sampling, knob=self._drawn_knob(scores[inside], sampling))
        first = _best(self._gate(0, scores, inside, sampling), scores)  # (B, T)
        keep = _alive(_behind(torch.ones_like(first[:, :2]), first))
        ids, places = _with_specials(inputs, first)
        score = self.importance[ids]
        if self.packed:
            ids, places, score, keep = _packed(keep, ids, places, score, keep)
        hidden = self.encoder.embed(ids, places)  # (B, N, 384)
        frozen = torch.zeros_like(hidden[:, 0])  # (B, 384), sum of the states left behind
        total = keep.sum(1, keepdim=True)
        spent, logits = [], []
        for number, layer in enumerate(self.encoder.layers):
            if number in self.gates[1:]:
                chosen = self._later_gate(self.gates.index(number), score, hidden, keep, sampling)
                if self.pool_dropped:
                    frozen = frozen + (hidden * (keep * (1 - chosen))[..., None]).sum(1)
                keep = _alive(keep * chosen)
                if self.packed:
                    hidden, score, keep = _packed(keep, hidden, score, keep)
            # The value is 0 for kept tokens, the gradient that of a factor before the softmax.
            hidden = layer(hidden, (keep - 1).masked_fill(keep < 0.5, _DROPPED))
            spent.append(keep[:, 2:].sum(1))
            if number + 1 in self.exits:
                count = total if self.pool_dropped else keep.sum(1, keepdim=True)
                pooled = (frozen + (hidden * keep[..., None]).sum(1)) / count
                head = self.heads[self.exits.index(number + 1)]
                logits.append(head(self.dropout(pooled)).float() + self._votes(inputs, first))
        return Masked(
            logits=logits[-1],
            actions=torch.where(first > 0.5, int(Action.PROCESS), int(Action.SKIP)).to(torch.uint8),
            cost=torch.stack(spent).mean(0) / lengths.clamp(min=1),
            extra_loss=_taught(logits) if len(logits) > 1 else None,
        )

    def _gate(self, index: int, scores: Tensor, inside: Tensor, sampling: Sampling) -> Tensor:
        """`(B, N)` 1 where a token is kept, else 0; carries the gradient of the estimator."""
        logits = scores.float() - self.centers[index] - sampling.knob
        pairs = torch.stack([logits, torch.zeros_like(logits)], 2)
        chosen = choose(pairs.view(-1, 2), sampling).one_hot[:, 0].view_as(logits)
        return chosen * inside

    def _follow(self, index: int, scores: Tensor, inside: Tensor) -> None:
        """In training, move the center of a gate to where it keeps the share it should."""
        if self.training and inside.any():
            share = self.narrow if index else self.rate
            center = scores.detach()[inside].float().quantile(1 - share)
            self.centers[index].lerp_(center, 1 - _CENTER_MOMENTUM)

    def _later_gate(
        self, index: int, score: Tensor, hidden: Tensor, keep: Tensor, sampling: Sampling
    ) -> Tensor:
        scores = score + self.scorers[index](hidden)
        inside = keep[:, 2:] > 0.5
        self._follow(index, scores[:, 2:], inside)
        # What little is read at a large knob is not narrowed more for it.
        at_most_zero = replace(sampling, knob=min(sampling.knob, 0.0))
        chosen = self._gate(index, scores[:, 2:], inside, at_most_zero)
        return _behind(torch.ones_like(keep[:, :2]), chosen)

    def _drawn_knob(self, scores: Tensor, sampling: Sampling) -> float:
        """The knob at which a drawn share of the `(N,)` scores passes the first gate."""
        if sampling.generator is None:
            raise ConfigError("train_rates are drawn, and so sampling needs a generator")
        drawn = int(torch.randint(len(self.train_rates), (), generator=sampling.generator))
        rate = self.train_rates[drawn]
        if rate == 1:
            return READ_ALL
        return float(scores.detach().float().quantile(1 - rate) - self.centers[0])

    def _votes(self, ids: Tensor, first: Tensor) -> Tensor:
        """`(B, num_outputs)` from the class weights of what passed the first gate."""
        if not self.wide:
            return first.new_zeros(len(ids), self.num_outputs)
        votes = (self.word_votes[ids] * first[..., None]).sum(1)
        return votes / (1 + first.sum(1, keepdim=True)).sqrt()

    @torch.no_grad()
    def executor(self) -> TranskimmerExecutor:
        """The executed reader, with the weights as they are now; it runs on the CPU."""
        encoder = self.encoder
        scorers = {
            gate: cast("_Scorer", scorer).weights()
            for gate, scorer in zip(self.gates, self.scorers, strict=True)
        }
        heads = {
            layer: (_array(cast("nn.Linear", head).weight), _array(cast("nn.Linear", head).bias))
            for layer, head in zip(self.exits, self.heads, strict=True)
        }
        weights = Weights(
            scores=_array(self.scores(torch.arange(NUM_WORDS, device=self.importance.device))),
            importance=_array(self.importance),
            centers=_array(self.centers),
            votes=_array(self.word_votes),
            words=_array(encoder.words),
            positions=_array(encoder.positions),
            norm=(_array(encoder.norm.weight), _array(encoder.norm.bias)),
            layers=[
                layer_session(cast("Layer", layer).merged(), scorers.get(number))
                for number, layer in enumerate(encoder.layers, 1)
            ],
            gates=self.gates,
            heads=heads,
            pool_dropped=self.pool_dropped,
            gate_size=_GATE_SIZE,
        )
        return TranskimmerExecutor(weights, CAPACITY)


def _array(value: Tensor) -> Floats:
    array: Floats = value.detach().to("cpu", torch.float32).numpy().copy()
    return array


class _Scorer(nn.Module):
    """A small network on the state of a token that says nothing at first."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(HIDDEN_SIZE, _GATE_SIZE)
        self.outer = nn.Linear(_GATE_SIZE, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, states: Tensor) -> Tensor:
        """`(..., 384)` as `(...)` scores."""
        score: Tensor = self.outer(functional.relu(self.inner(states)))[..., 0]
        return score

    def weights(self) -> Scorer:
        inner, outer = self.inner, self.outer
        return Scorer(Linear(inner.weight, inner.bias), Linear(outer.weight, outer.bias))


def _check(gates: Sequence[int], exits: Sequence[int], shares: Iterable[float]) -> None:
    if list(gates) != sorted({0, *gates}) or gates[-1] >= NUM_LAYERS:
        raise ConfigError(f"gates must be 0 and rising layers below {NUM_LAYERS}, got {gates}")
    if not exits or list(exits) != sorted({NUM_LAYERS, *exits}) or exits[0] < 1:
        raise ConfigError(f"exits must be rising layers from 1 to {NUM_LAYERS}, got {exits}")
    if not all(0 < share <= 1 for share in shares):
        raise ConfigError(f"rate, narrow and train_rates must be in (0, 1], got {list(shares)}")


def _behind(front: Tensor, back: Tensor) -> Tensor:
    return torch.cat([front, back], 1)


def _with_specials(ids: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Ids and positions of `[CLS] [SEP] tokens`; [SEP] stands in front but says it comes last."""
    rank = (first > 0.5).long().cumsum(1)
    ends = rank[:, -1:] if rank.shape[1] else ids.new_zeros(len(ids), 1)
    special = torch.tensor([CLS_ID, SEP_ID], device=ids.device).expand(len(ids), -1)
    places = torch.cat([torch.zeros_like(ends), ends + 1, rank], 1)
    return _behind(special, ids), places


def _best(keep: Tensor, scores: Tensor) -> Tensor:
    """`keep` without those beyond the CAPACITY best of a row; earlier tokens win a tie."""
    if keep.shape[1] <= CAPACITY:
        return keep
    order = (
        scores.detach()
        .masked_fill(keep < 0.5, -torch.inf)
        .argsort(dim=1, descending=True, stable=True)
    )
    over = torch.zeros_like(keep).scatter_(1, order[:, CAPACITY:], 1.0)
    return keep * (1 - over)


def _alive(keep: Tensor) -> Tensor:
    """No gradient reaches what was dropped, whether it is still computed or not."""
    return keep.masked_fill(keep < 0.5, 0)


def _packed(keep: Tensor, *values: Tensor) -> list[Tensor]:
    """`(B, N, ...)` values of kept tokens, in order, padded to the longest row."""
    alive = keep > 0.5
    size = int(alive.sum(1).max())
    order = (~alive).byte().argsort(dim=1, stable=True)[:, :size]  # (B, size)
    return [
        value.gather(1, order if value.ndim == 2 else order[..., None].expand(-1, -1, HIDDEN_SIZE))
        for value in values
    ]


def _taught(logits: Sequence[Tensor]) -> Tensor:
    """Mean cross entropy between the answers of earlier heads and the last one's."""
    truth = logits[-1].detach().softmax(1)
    return torch.stack([functional.cross_entropy(guess, truth) for guess in logits[:-1]]).mean()
