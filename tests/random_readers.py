"""Small readers with random weights, for tests of what is built around a reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from streamdyn.registry import parts
from streamdyn.text import pretrained
from streamdyn.text.network import NetworkSpec, ReaderNetwork
from streamdyn.text.pretrained import ReaderModel
from streamdyn.text.wordpiece import WordPieces
from streamdyn.text.words import Vocabulary

READERS = sorted(
    name
    for name, part in parts("reader").items()
    if issubclass(part, ReaderNetwork)  # type: ignore[arg-type]
)
WORDS = [",", ".", *(f"w{number}" for number in range(46))]


def random_model(name: str = "skip_rnn", *, seed: int = 0, **options: object) -> ReaderModel:
    """Weights spread so that every action occurs."""
    vocabulary = Vocabulary(WORDS)
    spec = NetworkSpec(input_size=6, hidden_size=20, num_outputs=3, num_words=len(vocabulary))
    network: ReaderNetwork = parts("reader")[name](spec, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.7)
        network.marks.copy_(torch.from_numpy(vocabulary.marks()))
    return ReaderModel(network.eval(), vocabulary, ("bad", "fair", "good"))


def saved_model(folder: Path, name: str = "skip_rnn", **options: object) -> str:
    """A `random_model` as a folder."""
    pretrained.save(random_model(name, **options), folder)  # type: ignore[arg-type]
    return str(folder)


def random_transformer(labels: tuple[str, ...] = ("no", "yes"), *, seed: int = 0) -> ReaderModel:
    """MiniLM with its own weights, and random gates and heads on it.

    Raises:
        MissingExtra: The package with the weights is not installed.
    """
    network = parts("reader")["transkimmer"](len(labels))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in (network.importance, network.word_votes, *network.heads.parameters()):
            values.copy_(torch.randn(values.shape, generator=generator))
    return ReaderModel(network.eval(), WordPieces(), labels)


def random_words(num_words: int, *, seed: int = 1) -> list[str]:
    """Words of the vocabulary, a few marks among them."""
    picked = np.random.default_rng(seed).integers(0, len(WORDS), num_words)
    return [WORDS[number] for number in picked]
