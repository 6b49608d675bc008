"""What small grey pictures from all over a file say of each of them: which ones are out of place?

Cost: about 1 ms for 48 pictures, once a file; decoding them is the price.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.previews.glimpses import FAR_SECONDS

Array = npt.NDArray[Any]
NEAR_SECONDS = 0.7
NUM_FEATURES = 13
"""Columns of `coarse_features`, besides those of the packets."""


def coarse_features(luma: Array, seconds: Array, packets: Array) -> npt.NDArray[np.float32]:
    """How like each picture is to those far away, to its neighbours, and to what is usual.

    Args:
        luma: `(G, H, W)` grey pictures, 0 to 255, finite.
        seconds: `(G,)` when they are shown, rising.
        packets: `(G, P)`, as `packet_surroundings` has them.

    Returns:
        `(G, NUM_FEATURES + P)` float32.
    """
    count = len(luma)
    grey = luma.reshape(count, -1).astype(np.float32)
    shape = grey - grey.mean(1, keepdims=True)
    shape /= np.maximum(np.linalg.norm(shape, axis=1, keepdims=True), 1e-6)
    cosines = shape @ shape.T
    apart = np.abs(seconds[:, None] - seconds)
    is_far, is_near = apart > FAR_SECONDS, apart <= NEAR_SECONDS
    far = np.sort(np.where(is_far, cosines, -1.0), 1)[:, ::-1]
    if not is_far.any(1).all():
        # Too short a file to have anything far away.
        far = np.zeros_like(far)
    beside = np.diagonal(cosines, 1) if count > 1 else np.ones(1)
    change = np.abs(np.diff(grey, axis=0)).mean(1) if count > 1 else np.zeros(1)
    sides = [np.append(row[:1], row)[:count] for row in (beside, change)]
    others = [np.append(row, row[-1:])[:count] for row in (beside, change)]
    most = far[:, 0]
    columns = [
        most,
        most - most.mean(),
        np.argsort(np.argsort(most, kind="stable"), kind="stable") / max(1, count - 1),
        far[:, min(2, count - 1)],
        far[:, min(5, count - 1)],
        sides[0],
        others[0],
        sides[1],
        others[1],
        np.where(is_near, cosines, 0.0).sum(1) / is_near.sum(1),
        grey.mean(1),
        grey.std(1),
        most - most.min(),
    ]
    return np.hstack([np.stack(columns, 1), packets]).astype(np.float32)
