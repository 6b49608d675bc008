"""What is known about words before training: pretrained vectors, and how they lean to a label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError
from streamdyn.text.word_vectors import Floats, wordllama_files

FREQUENT: Final = 8000
"""Words that the principal components are computed from."""


def wordllama_vectors(words: Sequence[str], size: int) -> Floats:
    """Pretrained vectors of words, as principal components, from the wordllama package.

    A word is the mean of its pieces. Rare words would turn the components towards themselves, so
    only the first `FREQUENT` words count for them.

    Args:
        words: Most frequent first; an empty string (padding, the unknown word) is a row of zeros.
        size: Values a word, at most the 256 of the package.

    Returns:
        `(N, size)` float32, of mean 0 and standard deviation 1 over the frequent words.

    Raises:
        MissingExtra: wordllama is not installed.
        ConfigError: `size` is larger than the vectors are.
    """
    table = _means_of_pieces(words)  # (N, 256)
    if not 1 <= size <= table.shape[1]:
        raise ConfigError(f"wordllama has {table.shape[1]} values a word, got {size = }")
    known = np.array([bool(word) for word in words], np.bool_)
    frequent = table[np.flatnonzero(known)[:FREQUENT]]
    if not len(frequent):
        return np.zeros((len(words), size), np.float32)
    centre = frequent.mean(0)
    _, components = np.linalg.eigh((frequent - centre).T @ (frequent - centre))
    components = components[:, ::-1][:, :size]  # (256, size), largest variance first
    # An eigenvector has no sign of its own: its largest entry is made positive.
    largest = components[np.abs(components).argmax(0), np.arange(size)]
    components *= np.sign(largest)
    spread = ((frequent - centre) @ components).std()
    vectors: Floats = (table - centre) @ components / max(spread, np.float32(1e-12))
    vectors[~known] = 0
    return vectors


def log_count_ratio(
    ids: Sequence[npt.NDArray[np.integer]], labels: npt.NDArray[np.int64], num_words: int
) -> Floats:
    """How much more likely a document of a label holds a word than a document of another label.

    Counted once a document and smoothed by one document with and one without the word.

    Args:
        ids: One array of word ids a document.
        labels: `(N,)`, from 0.
        num_words: Ids are below it.

    Returns:
        `(num_words, C)` float32 log ratios; 0 for a word that never occurs. With two labels one
        column is the negative of the other.

    Paper: Wang and Manning 2012, Baselines and Bigrams, ACL P12-2018, section 2.3.
    Differs: normalised by the number of documents, not by the sum of the counts.
    """
    num_labels = int(labels.max()) + 1
    counts = np.zeros((num_words, num_labels))
    for row, label in zip(ids, labels, strict=True):
        counts[np.unique(row), label] += 1
    documents = np.bincount(labels, minlength=num_labels)
    share = (counts + 1) / (documents + 2)
    others = counts.sum(1, keepdims=True) - counts
    ratio = np.log(share * (documents.sum() - documents + 2) / (others + 1))
    return np.where(counts.any(1, keepdims=True), ratio, 0).astype(np.float32)


def label_importance(
    ids: Sequence[npt.NDArray[np.integer]], labels: npt.NDArray[np.int64], num_words: int
) -> Floats:
    """How surely a word tells about the label, whichever label it is.

    The largest log-odds of the word's presence, in multiples of the deviation that chance gives
    them (about one over the square root of the documents with the word), on a scale that the few
    best do not fill.

    Args:
        ids: One array of word ids a document.
        labels: `(N,)`, from 0.
        num_words: Ids are below it.

    Returns:
        `(num_words,)` float32, of mean 0 and standard deviation 1 over the tokens of these texts.
    """
    presence = np.ones((int(labels.max()) + 1, num_words))
    counts = np.zeros(num_words)
    for row, label in zip(ids, labels, strict=True):
        presence[label, np.unique(row)] += 1
        counts += np.bincount(row, minlength=num_words)
    odds = np.log(presence / (np.bincount(labels) + 2.0)[:, None])
    odds -= odds.mean(0)
    documents = presence.sum(0) - len(presence)
    score = np.log1p(np.abs(odds).max(0) * np.sqrt(documents + 1))
    mean = np.average(score, weights=counts)
    deviation = np.sqrt(np.average((score - mean) ** 2, weights=counts))
    scaled: Floats = ((score - mean) / max(float(deviation), 1e-12)).astype(np.float32)
    return scaled


def _means_of_pieces(words: Iterable[str]) -> Floats:
    """`(N, 256)`; zeros for an empty string."""
    table, tokenizer = wordllama_files("pretrained word vectors")
    # The tokenizer refuses a lone surrogate.
    texts = [word.encode("utf-8", "replace").decode() for word in words]
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    found = [encoding.ids for encoding in encodings]
    pieces = np.array([len(ids) for ids in found], np.int64)
    flat = np.array([piece for ids in found for piece in ids], np.int64)
    sums: Floats = np.zeros((len(found), table.shape[1]), np.float32)
    np.add.at(sums, np.repeat(np.arange(len(found)), pieces), table[flat].astype(np.float32))
    sums /= np.maximum(pieces, 1)[:, None]
    return sums
