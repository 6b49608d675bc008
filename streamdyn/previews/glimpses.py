"""What the looks so far say of the places in a file where an agent might look next.

```
places     .  .  .  .  .  .  .  .      the middles of equal parts of the file
looks         L        L               each candidate sees packet sizes, the look before it, the one
candidate              ^  .            after it, and how unlike these are to what lies elsewhere
```

Cost: about 0.2 ms a call of 48 places and 16 looks; nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.errors import PlanError
from streamdyn.items import Block
from streamdyn.outcome import Outcome

Array = npt.NDArray[Any]
FAR_SECONDS = 2.0
NUM_FEATURES = 19
"""Columns of `glimpse_features`, besides those of the packets."""


def places_of(num_items: int, parts: int) -> npt.NDArray[np.int64]:
    """`(G,)` rising, the middles of `parts` equal parts; every item where there are fewer."""
    count = min(num_items, parts)
    return ((np.arange(count) + 0.5) * num_items / max(1, count)).astype(np.int64)


def glimpse_features(
    packets: Array, seconds: Array, places: Array, looks: Array, embeddings: Array
) -> npt.NDArray[np.float32]:
    """What is known of each place.

    Args:
        packets: `(G, P)`, of the places, as `packet_surroundings` has them.
        seconds: `(N,)`, when each item is shown.
        places: `(G,)` items to tell about.
        looks: `(k,)` items looked at, rising.
        embeddings: `(k, D)` of unit length.

    Returns:
        `(G, P + NUM_FEATURES)` float32.
    """
    if not len(looks):
        nothing = np.full((len(places), NUM_FEATURES), -1.0)
        return np.hstack([packets, nothing]).astype(np.float32)
    cosines = embeddings @ embeddings.T
    far, before, later = likeness(cosines, seconds[looks])
    strange = 2 * far + before + later
    after = np.searchsorted(looks, places, side="right")
    left, right = np.maximum(after - 1, 0), np.minimum(after, len(looks) - 1)
    has_left, has_right = after > 0, after < len(looks)
    left, right = np.where(has_left, left, right), np.where(has_right, right, left)
    # Counted in parts, so that a plan does not depend on how long a file is.
    grain = len(places) / len(seconds)
    to_left = np.where(has_left, (places - looks[left]) * grain, len(places))
    to_right = np.where(has_right, (looks[right] - places) * grain, len(places))
    same = np.ones(len(places))
    columns = [
        np.log1p(to_left),
        np.log1p(to_right),
        np.log1p(np.minimum(to_left, to_right)),
        np.log1p(np.abs(seconds[places] - seconds[looks[left]])),
        np.log1p(np.abs(seconds[places] - seconds[looks[right]])),
        *(side[which] for side in (far, before, later, strange) for which in (left, right)),
        (strange - strange.min())[left],
        (strange - strange.min())[right],
        cosines[left, right],
        strange.min() * same,
        len(looks) / 16 * same,
        (far == -1.0).any() * same,
    ]
    return np.hstack([packets, np.stack(columns, 1)]).astype(np.float32)


def likeness(cosines: Array, seconds: Array) -> tuple[Array, Array, Array]:
    """How like each of k looks is to the others.

    Args:
        cosines: `(k, k)` of their embeddings.
        seconds: `(k,)` rising, when they were.

    Returns:
        `(k,)` each: greatest cosine with a look that is far away, -1 where none is; cosines with
        the look before and with the one after. At an end the one that is missing is taken to be as
        like as the other; a single look is like itself.
    """
    is_far = np.abs(seconds[:, None] - seconds) > FAR_SECONDS
    far = np.where(is_far, cosines, -1.0).max(1)
    beside = np.diagonal(cosines, 1) if len(cosines) > 1 else np.ones(1)
    before, later = np.append(beside[:1], beside), np.append(beside, beside[-1:])
    return far, before[: len(cosines)], later[: len(cosines)]


def seen(
    outcomes: Mapping[int, Outcome], name: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Indices in the window that were looked at, rising, and their embeddings `(k, D)`.

    Args:
        outcomes: Of an observation.
        name: Of the policy that asks.

    Raises:
        PlanError: An outcome has no embedding, or one that is not finite.
    """
    looks = sorted(outcomes)
    rows = [_embedding(outcomes[look], name) for look in looks]
    return np.array(looks, np.int64), np.array(rows, np.float32)


def seconds_of(block: Block) -> npt.NDArray[np.float64]:
    """`(N,)`, when each item is shown."""
    return block.pts * float(block.time_base)


def _embedding(outcome: Outcome, name: str) -> Array:
    found = outcome.embedding
    if found is None or not np.isfinite(found).all():
        what = "without an embedding" if found is None else "with one that is not finite"
        raise PlanError(
            f"policy {name} got an outcome {what} of item {outcome.ordinal} of {outcome.stream}; "
            "it needs a recognizer that gives one, as lite0 or actions"
        )
    return found.astype(np.float32)
