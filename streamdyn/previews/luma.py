"""Small pictures of decoded frames: what a glance shows.

Cost: the frame must be decoded (0.2 to 1.5 ms at 640x360 and up); one swscale step to 32x24 grey
adds 0.05 to 0.2 ms, to 48x27 RGB about twice that. `luma_difference` itself: 1 µs a picture.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamdyn.items import Array, FrameSpec

LUMA_SPEC = FrameSpec(32, 24, "gray")
"""Grade `luma`: `(N, 24, 32)`, grey 0 to 255."""
THUMBNAIL_SPEC = FrameSpec(48, 27, "rgb24")
"""Grade `thumbnail`: `(N, 27, 48, 3)`, RGB 0 to 255; the input of TransNetV2."""


def luma_difference(left: Array, right: Array) -> npt.NDArray[np.float32]:
    """Mean absolute difference of pictures, as a share of full scale.

    Args:
        left: `(..., 24, 32)`, grey 0 to 255; broadcast against `right`.
        right: `(..., 24, 32)`, the same.

    Returns:
        `(...)` float32 in [0, 1]; NaN where either picture is missing.
    """
    gap = np.abs(np.asarray(left, np.float32) - np.asarray(right, np.float32))
    return np.asarray(gap.mean(axis=(-2, -1)) / 255, np.float32)


def fill_missing(pictures: Array) -> Array:
    """Pictures that could not be decoded replaced by the last one before (or the first after).

    Args:
        pictures: `(N, ...)` float32, NaN where a picture is missing; not all may be.

    Returns:
        `(N, ...)` float32 without NaN.
    """
    there = ~np.isnan(pictures.reshape(len(pictures), -1)[:, 0])
    if there.all():
        return pictures
    if not there.any():
        raise ValueError(f"all {len(pictures)} pictures are missing")
    last = np.maximum.accumulate(np.where(there, np.arange(len(pictures)), -1))
    return pictures[np.where(last < 0, int(there.argmax()), last)]
