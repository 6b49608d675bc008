"""The recurrent cell as torch trains it: projected once, stepped under a mask."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

CellKind = Literal["lstm", "gru"]
EMPTY_MAXIMUM = -2.0
"""Maximum of no states at all; a state lies in (-1, 1)."""


class Cell(nn.Module):
    """An LSTM or GRU cell whose input projection is computed for all steps at once.

    Its parameters have torch's shapes and order of gates, so that `nn.LSTM` can run them fused.
    """

    def __init__(self, kind: CellKind, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.kind: CellKind = kind
        self.hidden_size = hidden_size
        fused = nn.LSTM if kind == "lstm" else nn.GRU
        self.fused: nn.RNNBase = fused(input_size, hidden_size, batch_first=True)

    def project(self, x: Tensor) -> Tensor:
        """`(B, T, E)` inputs as `(B, T, G*H)` contributions to the gates."""
        weight, bias = self.fused.weight_ih_l0, self.fused.bias_ih_l0
        assert isinstance(weight, Tensor)
        assert isinstance(bias, Tensor)
        return nn.functional.linear(x, weight, bias)

    def step(self, projected: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """One step from `(B, G*H)` of `project`; `c` is handed through by a GRU."""
        weight, bias = self.fused.weight_hh_l0, self.fused.bias_hh_l0
        assert isinstance(weight, Tensor)
        assert isinstance(bias, Tensor)
        from_h = nn.functional.linear(h, weight, bias)
        if self.kind == "lstm":
            i, f, g, o = (projected + from_h).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            return torch.sigmoid(o) * torch.tanh(c), c
        size = self.hidden_size
        r, z = torch.sigmoid(projected[:, : 2 * size] + from_h[:, : 2 * size]).chunk(2, 1)
        new = torch.tanh(projected[:, 2 * size :] + r * from_h[:, 2 * size :])
        return z * h + (1 - z) * new, c

    def step_where(
        self, projected: Tensor, h: Tensor, c: Tensor, update: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step in the rows that update, `(B, 1)` float 0 or 1; the others keep their state."""
        new_h, new_c = self.step(projected, h, c)
        return update * new_h + (1 - update) * h, update * new_c + (1 - update) * c


def num_weights(*layers: nn.Module) -> int:
    """Entries of all matrices: the multiply-adds of one step."""
    return sum(part.numel() for layer in layers for part in layer.parameters() if part.ndim > 1)


class Pools:
    """Sum and maximum of the states after full updates, kept while reading."""

    def __init__(self, h: Tensor) -> None:
        self.total = torch.zeros_like(h)  # (B, H)
        self.peak = torch.full_like(h, EMPTY_MAXIMUM)  # (B, H)
        self.count = torch.zeros_like(h[:, :1])  # (B, 1)

    def add(self, h: Tensor, read: Tensor) -> None:
        """Count the states `h` `(B, H)` of the rows that read, `(B, 1)` 0 or 1, float."""
        self.total = self.total + read * h
        self.peak = torch.where(read.detach() > 0.5, torch.maximum(self.peak, h), self.peak)
        self.count = self.count + read.detach()

    def features(self, h: Tensor) -> Tensor:
        """`(B, 3H)`: last state, mean and maximum; zeros where nothing was read."""
        some = self.count > 0
        peak = torch.where(some, self.peak, torch.zeros_like(self.peak))
        return torch.cat([h, self.total / self.count.clamp(min=1), peak], 1)


def pooled(states: Tensor, inside: Tensor) -> Tensor:
    """`(B, 3H)` as `Pools.features` from `(B, K, H)` and which of them count, `(B, K)`."""
    counts = inside.sum(1, keepdim=True)  # (B, 1)
    some = counts > 0
    end = (counts - 1).clamp(min=0)[:, :, None]  # (B, 1, 1)
    last = states.gather(1, end.expand(-1, -1, states.shape[2]))[:, 0]
    mean = (states * inside[:, :, None]).sum(1) / counts.clamp(min=1)
    peak = states.masked_fill(~inside[:, :, None], EMPTY_MAXIMUM).amax(1)
    return torch.cat([last * some, mean, peak * some], 1)
