"""Examples of any length, and padded batches of like length made from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Inputs of a reader with what it should answer."""

    inputs: Sequence[npt.NDArray[np.generic]]
    """N arrays: `(T,)` int32 ids, or `(T, E)` float32 vectors."""
    targets: npt.NDArray[np.generic]
    """`(N,)` int64 labels, or `(N, D)` float32 values of a regression."""

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise ValueError(f"{len(self.inputs) = } must equal {len(self.targets) = }")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def is_regression(self) -> bool:
        """The targets are values, not labels."""
        return self.targets.dtype.kind == "f"

    def subset(self, indices: npt.NDArray[np.int64]) -> Examples:
        """Those at `indices`."""
        return Examples([self.inputs[i] for i in indices], self.targets[indices])


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded examples."""

    inputs: Tensor
    """`(B, T)` int64 ids, or `(B, T, E)` float32."""
    lengths: Tensor
    """`(B,)` int64."""
    targets: Tensor
    """`(B,)` int64 or `(B, D)` float32."""


def batches(
    examples: Examples, size: int, *, longest: int, generator: np.random.Generator
) -> Iterator[Batch]:
    """One pass in random order; texts of like length stand together, longer ones are cropped.

    A crop is a random window of `longest` tokens. Empty inputs become one padding token.
    """
    order = generator.permutation(len(examples))
    lengths = np.array([len(x) for x in examples.inputs])
    pool = size * 50
    groups = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        groups += [part[i : i + size] for i in range(0, len(part), size)]
    for number in generator.permutation(len(groups)):
        group = groups[number]
        cropped = []
        for i in group:
            x = examples.inputs[i]
            first = int(generator.integers(0, len(x) - longest + 1)) if len(x) > longest else 0
            cropped.append(x[first : first + longest])
        yield pad(cropped, examples.targets[group])


def pad(inputs: Sequence[npt.NDArray[np.generic]], targets: npt.NDArray[np.generic]) -> Batch:
    """Inputs of any length as one batch, filled up with zeros."""
    lengths = [max(len(x), 1) for x in inputs]
    wide = inputs[0].dtype.kind == "f"
    shape = (len(inputs), max(lengths), *inputs[0].shape[1:])
    padded = np.zeros(shape, np.float32 if wide else np.int64)
    for row, x in enumerate(inputs):
        padded[row, : len(x)] = x
    return Batch(torch.from_numpy(padded), torch.tensor(lengths), torch.from_numpy(targets))
