"""What a look, the looks before it and the packets ahead say of where to look next; live.

Cost: about 0.2 ms a call; nothing is decoded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.items import Block
from streamdyn.previews.glimpses import FAR_SECONDS
from streamdyn.previews.packet import log_relative_sizes

Array = npt.NDArray[Any]
NUM_HOPS = 25
MEMORY = 16
"""Looks that are remembered."""
LONGEST_WAIT = 50
"""Steps from one look of `skip_rnn` to the next at most."""
_CHUNKS = 5
NUM_FEATURES = 7 + 2 * _CHUNKS + 5
"""Columns of `hop_features`."""


def hop_features(
    ahead: Block, unit: int, seconds: Array, embeddings: Array, price: float
) -> npt.NDArray[np.float32]:
    """A row for each hop of `unit`, 2 `unit`, … items that stays within what is ahead.

    Args:
        ahead: The item looked at last and those after it, `NUM_HOPS * unit + 1` where there are.
        unit: Items of the shortest hop.
        seconds: `(k,)` when the looks were, rising; the last one is the first item's.
        embeddings: `(k, D)` of unit length.
        price: Of a millisecond, what a look that shows an action is worth being 1.

    Returns:
        `(H, NUM_FEATURES)` float32; H is 0 where the stream ends before the shortest hop.
    """
    sizes = log_relative_sizes(ahead).astype(np.float64)
    hops = unit * np.arange(1, min(NUM_HOPS, (len(ahead) - 1) // unit) + 1)
    cosines = embeddings @ embeddings[-1]
    far = np.abs(seconds - seconds[-1]) > FAR_SECONDS
    before = cosines[:-1]
    state = [
        cosines[far].max(initial=-1.0),
        before[-1] if len(before) else 1.0,
        before.mean() if len(before) else 1.0,
        before.max(initial=-1.0),
        seconds[-1] - seconds[-2] if len(before) else 0.0,
        len(seconds) / 16,
        np.log(price),
    ]
    for chunk in np.array_split(sizes, _CHUNKS):
        state += [chunk.mean(), chunk.max()] if len(chunk) else [0.0, 0.0]
    total = np.concatenate([[0.0], np.cumsum(sizes)])
    low, high = np.maximum(hops - unit, 0), np.minimum(hops + unit + 1, len(ahead))
    passed = np.maximum.accumulate(sizes)
    columns = [
        np.log(hops / unit),
        hops / unit / NUM_HOPS,
        sizes[hops],
        (total[high] - total[low]) / (high - low),
        passed[hops],
    ]
    return np.hstack([np.tile(state, (len(hops), 1)), np.stack(columns, 1)]).astype(np.float32)
