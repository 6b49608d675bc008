"""Probability of a set that was drawn without replacement: what REINFORCE over subsets needs."""

from __future__ import annotations

import torch
from torch import Tensor

_NODES = 240
_FIRST, _LAST = -5.0, 35.0


def draw_subsets(logits: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """`(B, N)` logits → `(B, k)` indices, drawn without replacement in proportion to `exp(logits)`.

    Paper: Kool et al. 2019, Stochastic Beams and Where to Find Them, arXiv:1903.06059, section 3
    (Gumbel top-k).
    """
    uniform = torch.rand(logits.shape, generator=generator, dtype=logits.dtype)
    noise = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
    return (logits + noise).topk(k, dim=1).indices


def subset_log_prob(logits: Tensor, chosen: Tensor) -> Tensor:
    """Log-probability that `draw_subsets` draws these, in whatever order; differentiable.

    The sum over all `k!` orders is an integral over one variable: the greatest perturbed logit
    outside the set, which all inside must exceed. It is taken by the trapezoidal rule, which for
    this integrand is exact to about 1e-6.

    Paper: Kool et al. 2020, Estimating Gradients for Discrete Random Variables by Sampling without
    Replacement, arXiv:2002.06043, appendix B. Differs from OCSampler, which adds up the orders and
    so stops at 6 of them.

    Args:
        logits: `(B, N)`.
        chosen: `(B, k)` int64, different in a row; 0 < k < N.

    Returns:
        `(B,)`, at most 0.
    """
    inside = torch.zeros_like(logits, dtype=torch.bool).scatter(1, chosen, True)
    outside = logits.masked_fill(inside, -torch.inf).logsumexp(1, keepdim=True)
    relative = logits.gather(1, chosen) - outside  # (B, k)
    t = torch.linspace(_FIRST, _LAST, _NODES, dtype=torch.float64)
    # That the set's members exceed t, each: 1 - exp(-exp(relative - t)).
    exceeds = -torch.expm1(-torch.exp(relative.double()[:, :, None] - t))
    density = -t - torch.exp(-t)
    logs = exceeds.clamp_min(1e-300).log().sum(1) + density
    step = (_LAST - _FIRST) / (_NODES - 1)
    out: Tensor = (logs.logsumexp(1) + torch.log(torch.tensor(step))).clamp_max(0.0)
    return out.to(logits.dtype)
