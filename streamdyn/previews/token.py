"""What can be told of a token without a model, as numbers a policy may see before it reads.

A token is named by six bytes of the BLAKE2b hash of its lower case, so that no policy needs the
source's word list and no source a policy's vocabulary: two of 30,000 words share a name with a
chance of 2 in a million. Every number is whole and at most 2048, so that a trace, which stores
previews as float16, loses nothing. Cost: about 2 µs a token, and 6 µs where a word is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from streamdyn.items import Array
from streamdyn.text.words import Vocabulary

NAME_BYTES = 6
_LONGEST = 2048
_PLACES = 256 ** np.arange(NAME_BYTES, dtype=np.int64)


class Feature(IntEnum):
    """Columns of a preview."""

    LENGTH = 0
    """Characters, at most 2048."""
    MARK = 1
    """`words.Mark`: what it does to its sentence."""
    CAPITALISED = 2
    """1 where the first letter is a capital."""
    NUMERIC = 3
    """1 where all characters are digits."""
    NAME = 4
    """The first of the `NAME_BYTES` columns of its name, which come last."""


NUM_FEATURES = Feature.NAME + NAME_BYTES


def token_features(tokens: Sequence[str]) -> npt.NDArray[np.float32]:
    """`(n, 10)` float32, a row of `Feature` columns for each token."""
    return np.array([_row(token) for token in tokens], np.float32).reshape(-1, NUM_FEATURES)


def token_names(rows: Array) -> npt.NDArray[np.int64]:
    """`(n,)` int64 from 0 on, the names in rows of `token_features`; equal for equal words."""
    return np.asarray(rows[:, Feature.NAME :].astype(np.int64) @ _PLACES)


@lru_cache(1 << 16)
def _row(token: str) -> tuple[int, ...]:
    name = blake2b(token.lower().encode("utf-8", "surrogatepass"), digest_size=NAME_BYTES).digest()
    mark = Vocabulary([token]).marks()[-1] if len(token) == 1 else 0
    return (
        min(len(token), _LONGEST),
        int(mark),
        int(token[:1].isupper()),
        int(token.isdigit()),
        *name,
    )
