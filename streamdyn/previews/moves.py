"""Agents that share a file: each stands at a place, sees packets around it, and moves in turn.

```
places     .  .  .  .  .  .  .  .  .  .      the middles of equal parts of the file
agents        1        2           3         evenly spaced at first
2 moves          <- ·  ·  · ->               by one place or four, or stays; never onto another
```

Cost: about 0.1 ms a turn; nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.previews.glimpses import places_of

Array = npt.NDArray[Any]
MOVES = (-4, -1, 0, 1, 4)
"""Places that an agent may move by in a turn."""
ROUNDS = 6
"""Turns of each agent."""


def move_features(packets: Array, at: Array, turn: Array) -> tuple[Array, Array]:
    """What an agent whose turn it is sees of each of its moves, for `B` files at once.

    Args:
        packets: `(B, G, P)` of the places.
        at: `(B, k)` places of all agents.
        turn: `(B,)` the number of the agent, in 0..k-1.

    Returns:
        `(B, M, P + 5)` float32 of the moves: packets there, how far the nearest others are on
        either side as a share of an even gap, whence it comes, and how the place it leaves
        compares; and `(B, M)` bool, whether there is such a place and nobody stands there.
    """
    rows, (num_places, k) = np.arange(len(at)), (packets.shape[1], at.shape[1])
    own = at[rows, turn]
    there = own[:, None] + np.array(MOVES)
    others = at.copy()
    others[rows, turn] = -2 * num_places
    gaps = others[:, None, :] - there[:, :, None]  # (B, M, k)
    free = (there >= 0) & (there < num_places) & (gaps != 0).all(2)
    even = num_places / k
    left = np.where(gaps < 0, -gaps, num_places).min(2) / even
    right = np.where(gaps > 0, gaps, num_places).min(2) / even
    clipped = np.clip(there, 0, num_places - 1)
    seen = packets[rows[:, None], clipped]
    gain = seen[:, :, 0] - packets[rows, own, 0][:, None]
    moves = np.broadcast_to(np.array(MOVES) / MOVES[-1], there.shape)
    columns = (np.minimum(left, 3), np.minimum(right, 3), moves, np.abs(moves), gain)
    return np.concatenate([seen, np.stack(columns, 2)], 2).astype(np.float32), free


def moved(packets: Array, count: int, worth: Callable[[Array], Array]) -> Array:
    """Places that the agents end up at, rising.

    Args:
        packets: `(G, P)`.
        count: Agents.
        worth: `(N, F)` features of moves → `(N,)`; the best free one is made.
    """
    at = places_of(len(packets), count)
    for step in range(ROUNDS * len(at)):
        turn = step % len(at)
        features, free = move_features(packets[None], at[None], np.array([turn]))
        at[turn] += MOVES[int(np.where(free[0], worth(features[0]), -np.inf).argmax())]
    return np.sort(at)
