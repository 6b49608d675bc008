"""What a trained reader is worth when it is executed, and the knob for every read rate."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.learning.examples import Examples
from streamdyn.text.calibration import Calibration

KNOBS = tuple(round(0.5 * k, 2) for k in range(-16, 33))
"""Where a calibration looks: from reading everything to reading next to nothing."""
LEAST_RATE = 0.02
"""A calibration goes no further once less than this is read."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An executed pass over examples."""

    n: int
    score: float
    """Accuracy in [0, 1], or the mean squared error of a regression."""
    standard_error: float
    read_rate: float
    """Mean over the documents of the share of tokens read in full, re-reads counted again."""
    partial_rate: float
    """The same for partial updates."""
    flops: float
    """Mean per document."""
    seconds: float
    """Total of reading and answering, one thread, batch 1."""
    answers: npt.NDArray[np.generic]
    """`(n,)` int64 labels or `(n, D)` values."""


def evaluate(
    executor: Any, examples: Examples, *, knob: float = 0.0, rate: float | None = None,
    mode: str = "exact",
) -> Evaluation:  # fmt: skip
    """Read every example by the compiled loop, one after the other.

    Args:
        executor: Of the network.
        examples: What to read, whole.
        knob: Larger reads less.
        rate: A cap on full updates, as a share of each document's tokens.
        mode: `exact` or `block`.
    """
    answers, reads, partials, flops = [], [], [], []
    began = time.perf_counter()
    for x in examples.inputs:
        state = executor.start()
        cap = {} if rate is None else {"max_reads": math.ceil(rate * len(x))}
        executor.advance(state, x, knob=knob, mode=mode, **cap)
        answers.append(executor.logits(state))
        reads.append(state.num_full / max(len(x), 1))
        partials.append(state.num_partial / max(len(x), 1))
        flops.append(executor.flops(state))
    seconds = time.perf_counter() - began
    values = np.stack(answers)
    if examples.is_regression:
        each = np.square(values - examples.targets).mean(1)
    else:
        values = values.argmax(1)
        each = values == examples.targets
    return Evaluation(
        n=len(examples),
        score=float(each.mean()),
        standard_error=float(each.std() / math.sqrt(len(each))),
        read_rate=float(np.mean(reads)),
        partial_rate=float(np.mean(partials)),
        flops=float(np.mean(flops)),
        seconds=seconds,
        answers=values,
    )


def calibrate(
    executor: Any, inputs: Sequence[npt.NDArray[np.generic]], knobs: Sequence[float] = KNOBS
) -> Calibration:
    """Mean read rate at each knob over held-out documents, made monotone.

    Knobs at the ends that change nothing are left out.
    """
    used: list[float] = []
    rates: list[float] = []
    unlabelled = Examples(inputs, np.zeros(len(inputs), np.int64))
    for knob in sorted(knobs):
        rate = evaluate(executor, unlabelled, knob=knob).read_rate
        used.append(float(knob))
        # More of the knob never reads more; what sampling says otherwise is levelled.
        rates.append(min(rate, rates[-1]) if rates else rate)
        if rate < LEAST_RATE:
            break
    first = max((i for i, rate in enumerate(rates) if rate >= rates[0]), default=0)
    return Calibration(tuple(used[first:]), tuple(rates[first:]))
