"""What every reader must do: the masked path equals the executed one, whole or in pieces."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from streamdyn.nn.gates import Sampling
from streamdyn.registry import parts
from streamdyn.text.network import NetworkSpec, ReaderNetwork

READERS = sorted(
    name
    for name, part in parts("reader").items()
    if issubclass(part, ReaderNetwork)  # type: ignore[arg-type]
)
LENGTHS = [1, 2, 7, 30, 55]
SHAPES = [("lstm", "all"), ("gru", "all"), ("lstm", "last")]


def network(name: str, cell: str = "lstm", pooling: str = "all", seed: int = 0) -> ReaderNetwork:
    """Random weights, spread so that every action occurs."""
    spec = NetworkSpec(
        input_size=6, hidden_size=20, num_outputs=3, num_words=50, cell=cell, pooling=pooling
    )  # type: ignore[arg-type]
    made: ReaderNetwork = parts("reader")[name](spec)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
        made.marks.copy_(torch.randint(0, 3, (50,), generator=generator))
    return made.eval()


def documents(seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 50, n).astype(np.int32) for n in LENGTHS]


def padded(docs: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(doc) for doc in docs])
    ids = torch.zeros(len(docs), int(lengths.max()), dtype=torch.int64)
    for row, doc in enumerate(docs):
        ids[row, : len(doc)] = torch.from_numpy(doc.astype(np.int64))
    return ids, lengths


@pytest.mark.parametrize("knob", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize(("cell", "pooling"), SHAPES)
@pytest.mark.parametrize("name", READERS)
def test_the_executed_reading_equals_the_masked_one(
    name: str, cell: str, pooling: str, knob: float
) -> None:
    made, docs = network(name, cell, pooling), documents()
    with torch.no_grad():
        masked = made.masked(*padded(docs), Sampling(knob=knob))
    executor = made.executor()
    for row, doc in enumerate(docs):
        state = executor.start()
        actions = executor.advance(state, doc, knob=knob)
        assert actions.tolist() == masked.actions[row, : len(doc)].tolist()
        np.testing.assert_allclose(executor.logits(state), masked.logits[row], atol=1e-5)


@pytest.mark.parametrize("name", READERS)
def test_a_document_fed_in_pieces_and_stored_between_them_reads_the_same(name: str) -> None:
    executor = network(name).executor()
    doc = documents()[-1]
    whole = executor.start()
    actions = executor.advance(whole, doc)
    state, pieces = executor.start(), []
    for start in range(0, len(doc), 9):
        state = pickle.loads(pickle.dumps(state))
        piece = doc[start : start + 9]
        pieces.append(executor.advance(state, piece, ended=start + 9 >= len(doc)))
    assert np.concatenate(pieces).tolist() == actions.tolist()
    np.testing.assert_allclose(executor.logits(state), executor.logits(whole), atol=1e-6)


@pytest.mark.parametrize("name", READERS)
def test_a_cap_on_reads_is_never_exceeded(name: str) -> None:
    executor = network(name).executor()
    for cap in (0, 1, 5):
        state = executor.start()
        executor.advance(state, documents()[-1], knob=-5.0, max_reads=cap)
        assert state.num_full <= cap
        assert np.isfinite(executor.logits(state)).all()


@pytest.mark.parametrize("name", READERS)
def test_a_network_is_built_again_from_its_config(name: str) -> None:
    made = network(name)
    again = type(made).from_config(made.config())
    again.load_state_dict(made.state_dict())
    doc = documents()[-1]
    states = [made.executor().start(), again.executor().start()]
    for reader, state in zip((made, again), states, strict=True):
        reader.executor().advance(state, doc)
    assert made.executor().logits(states[0]).tolist() == again.executor().logits(states[1]).tolist()
