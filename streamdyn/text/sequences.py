"""Generated sequences whose answer is known, and digits read pixel by pixel.

Paper: adding and frequency discrimination, Campos et al. 2018, Skip RNN, arXiv:1708.06834,
sections 4.1 and 4.2 and the authors' code; number prediction, Yu et al. 2017, Learning to Skim
Text, arXiv:1704.06877, section 4.1.
Differs: numbers come from a fixed range, so that one network reads sequences of any length;
digits are the 5,000 of OpenCV at 20 x 20, not MNIST.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError, SourceError
from streamdyn.text.task_files import Labels, broken, folds

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """Sequences of one length with what is to be said about each."""

    inputs: Floats | npt.NDArray[np.int32]
    """`(N, T, E)` float32 vectors, or `(N, T)` int32 ids from 1."""
    lengths: npt.NDArray[np.int64]
    """`(N,)`, all T."""
    targets: Labels | Floats
    """`(N,)` int64 labels, or `(N, 1)` float32 values of a regression."""


def adding(generator: np.random.Generator, count: int, *, length: int = 50) -> Sequences:
    """Add the two marked values; the variance of the targets is 1/6.

    Each input is a value in [-0.5, 0.5) and a marker. One marker stands in the first tenth, one in
    the second half.
    """
    if length < 2:
        raise ConfigError(f"two markers need a length of at least 2, got {length = }")
    values = generator.uniform(-0.5, 0.5, (count, length)).astype(np.float32)
    rows = np.arange(count)
    first = generator.integers(0, max(length // 10, 1), count)
    second = generator.integers(length // 2, length, count)
    markers = np.zeros_like(values)
    markers[rows, first] = markers[rows, second] = 1
    targets = (values[rows, first] + values[rows, second])[:, None]
    return _sequences(np.stack([values, markers], 2), targets)


def frequency(generator: np.random.Generator, count: int, *, samples: int = 100) -> Sequences:
    """Is the period of a sine wave between 5 and 6 ms (label 1)?

    The wave lasts 100 ms whatever the number of samples, so that twice as many sample it twice as
    often. Half the waves (rounded down) have label 1; the period of the others is uniform over
    [1, 5) and [6, 100) ms, the phase uniform over a period. Labels are in random order.
    """
    labels = generator.permutation(np.arange(count) < count // 2).astype(np.int64)
    inside, outside = generator.uniform(5, 6, count), generator.uniform(1, 99, count)
    # The range without the gap, opened at 5.
    outside = np.where(outside < 5, outside, outside + 1)
    period = np.where(labels == 1, inside, outside)[:, None]  # (N, 1) ms
    shift = generator.uniform(0, 1, (count, 1))  # periods
    time = np.arange(samples) * (100 / samples)  # (T,) ms
    waves = np.sin(2 * np.pi * (time / period + shift)).astype(np.float32)
    return _sequences(waves[:, :, None], labels)


def number_prediction(
    generator: np.random.Generator, count: int, *, length: int, num_values: int = 100
) -> Sequences:
    """Which number stands where the first number points to, `p[p[0]]`?

    Args:
        generator: Where the numbers come from.
        count: Sequences.
        length: Numbers in each.
        num_values: They are uniform over [0, num_values), the first one also below `length`.

    Returns:
        Ids are numbers plus 1, since 0 is padding; targets are numbers.
    """
    numbers = generator.integers(0, num_values, (count, length), dtype=np.int32)
    numbers[:, 0] = generator.integers(0, min(length, num_values), count)
    targets = numbers[np.arange(count), numbers[:, 0]].astype(np.int64)
    return _sequences(numbers + np.int32(1), targets)


def sequential_digits(path: Path, *, width: int = 1) -> tuple[Sequences, Sequences, Sequences]:
    """Handwritten digits in scan order: train, dev and test, eight, one and one tenths.

    Args:
        path: An npz file of `x (N, H, W)` uint8 and `y (N,)`.
        width: Pixels a step; 1 reads pixel by pixel, the width of the picture row by row.

    Raises:
        SourceError: The file is missing or something else.
        ConfigError: The pixels do not divide into steps of `width`.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes())) as file:
            pictures, labels = file["x"], file["y"].astype(np.int64)
    except FileNotFoundError as exc:
        raise SourceError(f"cannot read {path}: there is no such file; name the npz file") from exc
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as exc:
        raise broken(path, str(exc)) from exc
    pixels = pictures.reshape(len(pictures), -1)
    if width < 1 or pixels.shape[1] % width:
        raise ConfigError(f"{pixels.shape[1]} pixels do not divide into steps of {width = }")
    inputs = (pixels / np.float32(255)).reshape(len(pixels), -1, width)
    fold = folds((picture.tobytes() for picture in pictures), labels, 10)
    train, dev, test = (_sequences(inputs[part], labels[part]) for part in
                        (fold > 1, fold == 1, fold == 0))  # fmt: skip
    return train, dev, test


def _sequences(inputs: npt.NDArray[np.generic], targets: npt.NDArray[np.generic]) -> Sequences:
    return Sequences(inputs, np.full(len(inputs), inputs.shape[1]), targets)  # type: ignore[arg-type]
