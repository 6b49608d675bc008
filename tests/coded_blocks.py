"""Blocks written as the letters of their pictures."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from streamdyn.items import Block


def coded_block(coded: str, first: int = 0) -> Block:
    """A letter an item in decode order, which is pts order here: K, P or (disposable) b."""
    reach, before = [], 0
    for letter in coded:
        before = 0 if letter == "K" else before
        reach.append(before + 1)
        before += letter != "b"
    keyframe = np.array([letter == "K" for letter in coded])
    return Block(
        "s",
        first,
        Fraction(1, 25),
        pts=np.arange(first, first + len(coded)),
        keyframe=keyframe,
        num_bytes=np.ones(len(coded), np.int32),
        disposable=np.array([letter == "b" for letter in coded]),
        gop=np.cumsum(keyframe).astype(np.int32),
        reach=np.array(reach, np.int32),
    )
