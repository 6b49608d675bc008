"""Recurrent steps as compiled functions that a reader's loop calls token by token.

One step costs what a step of torch's fused LSTM costs; a skipped token costs nothing. Weights are
those of torch, transposed: `wx (E, G*H)`, `wh (H, G*H)`, with gates in torch's order (LSTM i f g o,
GRU r z n).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])

LSTM: Final = 0
GRU: Final = 1
POSITION: Final = 0
"""`counts[POSITION]`: tokens fed so far, which is the index of the next one."""
SKIP_UNTIL: Final = 1
"""Index of the next token that will be looked at."""
STOPPED: Final = 2
"""1 once the reader has stopped for good."""
FULL: Final = 3
"""Full state updates so far, re-reads counted again."""
PARTIAL: Final = 4
"""Partial state updates so far."""
LOOKS: Final = 5
"""Decisions taken so far."""
STOP_INDEX: Final = 6
"""Tokens before the stop; meaningful once stopped."""
NUM_COUNTS: Final = 12
"""Length of `counts`; the entries after STOP_INDEX belong to the reader."""
H: Final = 0
"""Rows of `hidden (4, H)`: state, LSTM cell, sum and maximum of the states after full updates."""
C: Final = 1
SUM: Final = 2
MAX: Final = 3


def compiled(function: Function) -> Function:
    """Compile a function with numba on its first call; kept on disk for the next process."""
    made: Any = numba.njit(fastmath=True, error_model="numpy", cache=True)(function)
    return made  # type: ignore[no-any-return]


@compiled
def add_product(out: Any, vector: Any, matrix: Any) -> None:
    """`out += vector @ matrix`, eight rows of the matrix at a time."""
    rows, columns = matrix.shape
    k = 0
    while k + 8 <= rows:
        a, b, c, d = vector[k], vector[k + 1], vector[k + 2], vector[k + 3]
        e, f, g, h = vector[k + 4], vector[k + 5], vector[k + 6], vector[k + 7]
        for j in range(columns):
            out[j] += (
                (a * matrix[k, j] + b * matrix[k + 1, j])
                + (c * matrix[k + 2, j] + d * matrix[k + 3, j])
            ) + (
                (e * matrix[k + 4, j] + f * matrix[k + 5, j])
                + (g * matrix[k + 6, j] + h * matrix[k + 7, j])
            )
        k += 8
    while k < rows:
        a = vector[k]
        for j in range(columns):
            out[j] += a * matrix[k, j]
        k += 1


@compiled
def dot(left: Any, right: Any) -> Any:
    """Inner product of two vectors of one length."""
    total = np.float32(0.0)
    for j in range(len(left)):
        total += left[j] * right[j]
    return total


@compiled
def sigmoid_(values: Any, bits: Any, start: int, stop: int, scale: Any) -> None:
    """`values[start:stop] = sigmoid(scale * values[start:stop])` in place, vectorised.

    `bits` is int32 scratch of the same length. The exponential is Cephes' expf: the power of two is
    put together from its bits, since a call per number would cost more than the whole step.
    """
    for j in range(start, stop):
        x = min(max(-scale * values[j], np.float32(-87.0)), np.float32(87.0))
        n = np.floor(x * np.float32(1.44269504088896341) + np.float32(0.5))
        r = x - n * np.float32(0.693359375) - n * np.float32(-2.12194440e-4)
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        values[j] = p * r * r + r + np.float32(1.0)
        bits[j] = (np.int32(n) + np.int32(127)) << np.int32(23)
    power = bits.view(np.float32)
    for j in range(start, stop):
        values[j] = np.float32(1.0) / (np.float32(1.0) + values[j] * power[j])


@compiled
def lstm_step(x: Any, h: Any, c: Any, wx: Any, wh: Any, bx: Any, bh: Any) -> None:
    """One LSTM step; `h` and `c` `(H,)` float32 are updated in place."""
    size = h.shape[0]
    one, two = np.float32(1.0), np.float32(2.0)
    gates = bx + bh  # (4H,)
    bits = np.empty(4 * size, np.int32)
    add_product(gates, x, wx)
    add_product(gates, h, wh)
    sigmoid_(gates, bits, 0, 2 * size, one)
    sigmoid_(gates, bits, 2 * size, 3 * size, two)
    sigmoid_(gates, bits, 3 * size, 4 * size, one)
    squashed = np.empty(size, np.float32)
    for j in range(size):
        # tanh(x) = 2 sigmoid(2x) - 1
        c[j] = gates[size + j] * c[j] + gates[j] * (two * gates[2 * size + j] - one)
        squashed[j] = c[j]
    sigmoid_(squashed, bits, 0, size, two)
    for j in range(size):
        h[j] = gates[3 * size + j] * (two * squashed[j] - one)


@compiled
def gru_step(x: Any, h: Any, wx: Any, wh: Any, bx: Any, bh: Any) -> None:
    """One GRU step; `h` `(H,)` float32 is updated in place."""
    size = h.shape[0]
    one, two = np.float32(1.0), np.float32(2.0)
    from_x = bx.copy()  # (3H,)
    from_h = bh.copy()  # (3H,)
    bits = np.empty(3 * size, np.int32)
    add_product(from_x, x, wx)
    add_product(from_h, h, wh)
    for j in range(2 * size):
        from_x[j] += from_h[j]
    sigmoid_(from_x, bits, 0, 2 * size, one)
    for j in range(2 * size, 3 * size):
        from_x[j] += from_x[j - 2 * size] * from_h[j]
    sigmoid_(from_x, bits, 2 * size, 3 * size, two)
    for j in range(size):
        z = from_x[size + j]
        h[j] = z * h[j] + (one - z) * (two * from_x[2 * size + j] - one)


@compiled
def step(kind: int, x: Any, hidden: Any, counts: Any, cell: Any) -> None:
    """Read one token in full: update `hidden (4, H)`, its pools, and `counts[FULL]`.

    `cell` is `(wx, wh, bx, bh)`; `kind` is LSTM or GRU.
    """
    wx, wh, bx, bh = cell
    if kind == LSTM:
        lstm_step(x, hidden[H], hidden[C], wx, wh, bx, bh)
    else:
        gru_step(x, hidden[H], wx, wh, bx, bh)
    for j in range(hidden.shape[1]):
        value = hidden[H, j]
        hidden[SUM, j] += value
        hidden[MAX, j] = max(hidden[MAX, j], value)
    counts[FULL] += 1


@compiled
def read(
    kind: int, table: Any, ids: Any, hidden: Any, counts: Any, cell: Any,
    weight: Any, bias: Any, pooled: Any, answers: Any,
) -> None:  # fmt: skip
    """Read tokens in full with `step`, and fill in `answers (n, num_outputs)`, one after each.

    `weight` and `bias` are those of a head on the state and, where `pooled`, on its pools.
    """
    n = hidden.shape[1]
    for t in range(len(ids)):
        step(kind, table[ids[t]], hidden, counts, cell)
        for k in range(len(bias)):
            answer = dot(hidden[H], weight[k, :n]) + bias[k]
            if pooled:
                answer += dot(hidden[SUM], weight[k, n : 2 * n]) / np.float32(counts[FULL])
                answer += dot(hidden[MAX], weight[k, 2 * n :])
            answers[t, k] = answer
