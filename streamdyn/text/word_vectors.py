"""Words as vectors, one a word whatever stands around it, and how rare each is in general."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from streamdyn.errors import MissingExtra, UnknownName

Floats = npt.NDArray[np.float32]
VectorsName = Literal["wordllama", "hashed"]
_LONGEST = 40
"""Characters of a word that are looked at."""


class WordVectors(Protocol):
    """Knows words by themselves."""

    def look_up(self, words: Sequence[str]) -> tuple[Floats, Floats]:
        """`(V, 256)` vectors and `(V,)` rarity in [0, 1] of V words."""


class Wordllama:
    """A word is the mean of its pieces in the table of `wordllama_files`.

    Raises:
        MissingExtra: The package is not installed.
    """

    def __init__(self) -> None:
        self._table, self._tokenizer = wordllama_files("comparing words by meaning")

    def look_up(self, words: Sequence[str]) -> tuple[Floats, Floats]:
        """`(V, 256)` vectors and `(V,)` rarity in [0, 1] of V words.

        Pieces are numbered by how often they were merged, so that a high number, or many pieces,
        means a rare word.
        """
        if not words:
            return np.empty((0, self._table.shape[1]), np.float32), np.empty(0, np.float32)
        cut = [word[:_LONGEST].encode("utf-8", "replace").decode() for word in words]
        pieces = [
            coded.ids or [0]
            for coded in self._tokenizer.encode_batch_fast(cut, add_special_tokens=False)
        ]
        counts = np.array([len(ids) for ids in pieces])
        flat = np.concatenate(pieces).astype(np.int64)
        firsts = np.cumsum(counts) - counts
        rows: Floats = self._table[flat].astype(np.float32)
        means: Floats = np.add.reduceat(rows, firsts, axis=0)
        means /= counts[:, None]
        size = len(self._table)
        rank = np.maximum.reduceat(flat, firsts) + (counts - 1) * (size // 2)
        rarity = np.log(np.clip(rank / 300, 1, None)) / np.log(2 * size / 300)
        return means, rarity.clip(0, 1).astype(np.float32)


def wordllama_files(purpose: str) -> tuple[npt.NDArray[np.float16], Any]:
    """The `(32000, 256)` table of the `wordllama` package, and the tokenizer of its pieces.

    The files are read from the installed package, without importing it, never from the network.

    Raises:
        MissingExtra: The package is not installed; says what it is wanted for.
    """
    found = importlib.util.find_spec("wordllama")
    if found is None or found.origin is None:
        raise MissingExtra("wordllama", purpose, "text")
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = Path(found.origin).parent
    (table,) = load_file(folder / "weights" / "l2_supercat_256.safetensors").values()
    tokenizer = Tokenizer.from_file(
        str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json")
    )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return table, tokenizer


class HashedWords:
    """Every word a random direction of its own: words are alike only where they are the same.

    Rarity is taken from length: long words are rare in every language.
    """

    def look_up(self, words: Sequence[str]) -> tuple[Floats, Floats]:
        """`(V, 256)` vectors and `(V,)` rarity in [0, 1] of V words."""
        bits = b"".join(
            blake2b(word.encode("utf-8", "replace"), digest_size=32).digest() for word in words
        )
        signs = np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(-1, 256)
        rarity = np.array([min(len(word), 12) / 12 for word in words], np.float32)
        return signs.astype(np.float32) * 2 - 1, rarity


@cache
def word_vectors(name: VectorsName) -> WordVectors:
    """The vectors of that name, loaded once a process.

    Raises:
        MissingExtra: Their package is not installed.
        UnknownName: No vectors are called so.
    """
    known: dict[str, type[WordVectors]] = {"wordllama": Wordllama, "hashed": HashedWords}
    if name not in known:
        raise UnknownName("table of word vectors", name, known)
    return known[name]()
