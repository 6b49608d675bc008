"""From observed outcomes to segments: runs of one label over the propagated timeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from streamdyn.index.records import Segment
from streamdyn.timeline import Propagation, propagate, runs


@dataclass(frozen=True, slots=True)
class Observed:
    """What a segment needs to know of an outcome."""

    id: str
    ordinal: int
    label: str
    score: float
    text: str

    @property
    def key(self) -> str:
        """What runs are made of: the best label or, where there are no labels, the text."""
        return self.label or self.text


def make_segments(
    media_id: str,
    recognizer: str,
    pts: npt.NDArray[np.int64],
    ordinals: npt.NDArray[np.int64],
    observed: Sequence[Observed],
    stop_ticks: int,
    mode: Propagation,
) -> list[Segment]:
    """Segments of one recognizer over one file, in order; none where nothing was observed.

    ```
    label        . . cat . . . dog . dog
    two-sided    [  cat   ] [    dog   ]     4 + 5 items, 1 + 2 of them observed
    forward          [ cat ] [   dog   ]     the first two items are unobserved: no segment
    ```

    Args:
        media_id: Of the file.
        recognizer: Whose outcomes they are.
        pts: `(N,)` int64, ticks of all items that passed by.
        ordinals: `(N,)` int64, their ordinals; a hop leaves a hole.
        observed: In order.
        stop_ticks: Where the last item ends.
        mode: How outcomes stand in for what was not looked at.
    """
    index = np.searchsorted(ordinals, [o.ordinal for o in observed])
    source = propagate(pts, index, mode)
    # Only a prefix can be unobserved: after the first observed item there is always a neighbour.
    known = int(np.count_nonzero(source < 0))
    outcome_at = dict(zip(index.tolist(), observed, strict=True))
    keys = [outcome_at[i].key for i in source[known:].tolist()]
    bounds = np.append(pts, stop_ticks)
    segments = []
    for start, stop in ((known + a, known + b) for a, b in runs(keys)):
        seen = observed[slice(*np.searchsorted(index, (start, stop)).tolist())]
        best = max(seen, key=lambda o: (o.score, -o.ordinal))
        segments.append(
            Segment(
                media_id=media_id,
                recognizer=recognizer,
                start_ordinal=int(ordinals[start]),
                stop_ordinal=int(ordinals[stop - 1]) + 1,
                start_ticks=int(bounds[start]),
                stop_ticks=int(bounds[stop]),
                label=best.key,
                score=best.score,
                num_observed=len(seen),
                num_propagated=stop - start - len(seen),
                best_outcome_id=best.id,
                text="\n".join(dict.fromkeys(o.text for o in seen if o.text)),
            )
        )
    return segments


def last_item_stop(pts: npt.NDArray[np.int64], time_base: Fraction, rate: Fraction | None) -> int:
    """Ticks at which the last item ends: the containers do not say, so as long as the median.

    Args:
        pts: `(N,)` int64, N > 0.
        time_base: Seconds per tick.
        rate: Items a second; used where there is one item only.
    """
    ticks = 1
    if len(pts) > 1:
        ticks = int(np.median(np.diff(pts)))
    elif rate:
        ticks = round(1 / (rate * time_base))
    return int(pts[-1]) + max(1, ticks)
