"""Packet sizes at several scales: where much is coded, much happens.

Cost: about 1 µs an item; nothing is decoded.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamdyn.items import Block
from streamdyn.previews.packet import log_relative_sizes

SCALES = (4, 8, 16, 32)
"""Items on either side."""
NUM_FEATURES = 4 * len(SCALES) + 5
"""Columns of `packet_surroundings`."""


def packet_surroundings(block: Block) -> npt.NDArray[np.float32]:
    """What the packet sizes in and around each item are, against what is usual in `block`.

    For each of `SCALES`: mean and standard deviation of the logarithm of the size over the usual
    one of its kind, from so many items before to so many after; and the same mean over the items
    before and over those after alone.

    Returns:
        `(N, NUM_FEATURES)` float32.
    """
    sizes = log_relative_sizes(block).astype(np.float64)
    n = len(sizes)
    total = np.concatenate([[0.0], np.cumsum(sizes)])
    squares = np.concatenate([[0.0], np.cumsum(sizes**2)])
    place = np.arange(n)
    largest = np.sort(sizes)[::-1]
    columns = [
        sizes,
        np.argsort(np.argsort(sizes, kind="stable"), kind="stable") / max(1, n - 1),
        np.full(n, sizes.std()),
        np.full(n, largest[: max(1, n // 10)].mean()),
        block.keyframe.astype(np.float64),
    ]
    for scale in SCALES:
        low, high = np.maximum(place - scale, 0), np.minimum(place + scale + 1, n)
        mean = (total[high] - total[low]) / (high - low)
        variance = (squares[high] - squares[low]) / (high - low) - mean**2
        before = (total[place + 1] - total[low]) / (place + 1 - low)
        after = (total[high] - total[place]) / (high - place)
        columns += [mean, np.sqrt(np.maximum(variance, 0)), before, after]
    return np.stack(columns, 1).astype(np.float32)
