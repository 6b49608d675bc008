"""Hard decisions that can be learned: straight-through, Gumbel-softmax, sampled for REINFORCE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Estimator = Literal["greedy", "straight_through", "gumbel", "reinforce"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a network takes its decisions in one pass."""

    estimator: Estimator = "greedy"
    """`greedy`: the executed rule, no randomness. `straight_through`: the same in the forward
    pass, with the gradient of the soft gate. `gumbel`: perturbed by Gumbel noise, hard forward,
    soft backward. `reinforce`: drawn, with log-probability and entropy."""
    temperature: float = 1.0
    """Of the Gumbel-softmax."""
    knob: float = 0.0
    """Added to what is in favour of reading less; 0 is the network as trained."""
    generator: torch.Generator | None = None
    """Source of all noise; needed by `gumbel` and `reinforce`."""

    def __post_init__(self) -> None:
        if self.estimator in ("gumbel", "reinforce") and self.generator is None:
            raise ValueError(f"the {self.estimator} estimator needs a torch.Generator")


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision for each row."""

    one_hot: Tensor
    """`(B, K)` float, exactly one 1 a row; carries the gradient of a relaxed estimator."""
    index: Tensor
    """`(B,)` int64."""
    log_prob: Tensor
    """`(B,)` log-probability of what was drawn; zeros unless drawn."""
    entropy: Tensor
    """`(B,)` in nats; zeros unless drawn."""


def choose(logits: Tensor, sampling: Sampling) -> Choice:
    """One of K for each row of `(B, K)` logits, by the estimator asked for.

    Paper: Jang et al. 2017, Categorical Reparameterization with Gumbel-Softmax, arXiv:1611.01144;
    Williams 1992 for `reinforce`.
    """
    none = torch.zeros_like(logits[:, 0])
    if sampling.estimator == "reinforce":
        log_probs = logits.log_softmax(1)
        probs = log_probs.exp()
        index = torch.multinomial(probs, 1, generator=sampling.generator)[:, 0]
        picked = log_probs.gather(1, index[:, None])[:, 0]
        one_hot = torch.nn.functional.one_hot(index, logits.shape[1]).to(logits.dtype)
        return Choice(one_hot, index, picked, -(probs * log_probs).sum(1))
    soft = logits
    if sampling.estimator == "gumbel":
        uniform = torch.rand(logits.shape, generator=sampling.generator, dtype=logits.dtype)
        soft = (logits - torch.log(-torch.log(uniform + 1e-9) + 1e-9)) / sampling.temperature
    index = soft.argmax(1)
    hard = torch.nn.functional.one_hot(index, logits.shape[1]).to(logits.dtype)
    if sampling.estimator == "greedy":
        return Choice(hard, index, none, none)
    soft = soft.softmax(1)
    return Choice(hard + soft - soft.detach(), index, none, none)


def round_straight_through(p: Tensor) -> Tensor:
    """`p` in [0, 1] rounded at 0.5 (up), with the gradient of the identity.

    Paper: Campos et al. 2018, Skip RNN, arXiv:1708.06834, equation 7.
    """
    return (p >= 0.5).to(p.dtype) + p - p.detach()


def look_at(gate: nn.Linear, column: int, sharpness: float = 4.0) -> None:
    """Let the first logit of a gate look at one input, and hardly at the others.

    Args:
        gate: Changed in place.
        column: Which input; where it is large so is the logit.
        sharpness: Logits by unit of that input.
    """
    with torch.no_grad():
        gate.weight.mul_(0.1)
        gate.weight[0, column] = sharpness
