"""Which tokens the readers without a learned policy read, and when they say so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamdyn.errors import ConfigError
from streamdyn.nn.gates import Sampling
from streamdyn.plan import Action
from streamdyn.registry import build
from streamdyn.text.network import NetworkSpec, ReaderNetwork

SPEC = NetworkSpec(input_size=4, hidden_size=8, num_outputs=2, num_words=30)
VECTORS = NetworkSpec(input_size=4, hidden_size=8, num_outputs=2)
WAITING = ("first_k", "last_k", "uniform", "random", "idf")
DOCUMENT = np.random.default_rng(0).integers(1, 30, 20).astype(np.int32)


def network(name: str, spec: NetworkSpec = SPEC, **options: float) -> ReaderNetwork:
    made: ReaderNetwork = build("reader", name, spec=spec, **options)
    return made.eval()


def read(made: ReaderNetwork, tokens: np.ndarray, **options: float) -> list[int]:
    """Places of the tokens that were read."""
    executor = made.executor()
    actions = executor.advance(executor.start(), tokens, **options)  # type: ignore[arg-type]
    assert set(actions.tolist()) <= {Action.SKIP, Action.PROCESS}
    return np.flatnonzero(actions == Action.PROCESS).tolist()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("first_k", [0, 1, 2, 3, 4]),
        ("last_k", [15, 16, 17, 18, 19]),
        ("uniform", [2, 6, 10, 14, 18]),
    ],
)
def test_a_quarter_of_20_tokens_is_5_of_them(name: str, expected: list[int]) -> None:
    assert read(network(name, rate=0.25), DOCUMENT) == expected


@pytest.mark.parametrize("name", WAITING)
def test_the_knob_halves_the_share_down_to_one_token_and_doubles_it_up_to_all(name: str) -> None:
    made = network(name, rate=0.4)
    counts = [len(read(made, DOCUMENT, knob=knob)) for knob in (-1e9, -1.0, 0.0, 1.0, 2.0, 1e9)]
    assert counts == [20, 16, 8, 4, 2, 1]


def test_full_reads_everything_at_any_knob() -> None:
    assert read(network("full"), DOCUMENT, knob=3.0) == list(range(20))


@pytest.mark.parametrize("name", WAITING)
def test_a_cap_leaves_what_a_smaller_share_would(name: str) -> None:
    made = network(name, rate=0.5)
    assert read(made, DOCUMENT, max_reads=5) == read(made, DOCUMENT, knob=1.0)
    assert read(made, DOCUMENT, max_reads=0) == []


def test_idf_reads_the_ids_of_greatest_importance_and_of_equals_the_first() -> None:
    made = network("idf", rate=0.5)
    made.importance[7], made.importance[9] = 2.0, 1.0
    doc = np.array([3, 9, 7, 3, 7, 3], np.int32)
    assert read(made, doc) == [1, 2, 4]
    assert read(made, doc, max_reads=1) == [2]
    assert read(made, np.array([3, 4, 5, 6], np.int32)) == [0, 1]
    again = network("idf", rate=0.5)
    again.load_state_dict(made.state_dict())
    assert read(again, doc) == [1, 2, 4]


def test_random_reads_the_same_tokens_of_a_text_until_the_seed_changes() -> None:
    long = np.random.default_rng(1).integers(1, 30, 1000).astype(np.int32)
    first, again, other = (read(network("random", seed=seed), long) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert len(first) == 200
    # Spread evenly: a fifth of each half, within four standard deviations.
    assert sum(place < 500 for place in first) == pytest.approx(100, abs=26)
    changed = long.copy()
    changed[-1] = changed[-1] % 29 + 1
    assert read(network("random"), changed) != first


@pytest.mark.parametrize("name", WAITING)
def test_nothing_is_decided_before_the_text_has_ended(name: str) -> None:
    made = network(name, rate=0.25)
    executor = made.executor()
    state = executor.start()
    for number, token in enumerate(DOCUMENT, 1):
        assert len(executor.advance(state, np.array([token]), ended=False)) == 0
        assert (state.position, state.decided) == (number, 0)
    actions = executor.advance(state, np.empty(0, np.int32))
    assert np.flatnonzero(actions == Action.PROCESS).tolist() == read(made, DOCUMENT)
    assert (state.position, state.decided, state.num_full) == (20, 20, 5)


def test_full_decides_at_once() -> None:
    executor = network("full").executor()
    state = executor.start()
    assert executor.advance(state, DOCUMENT[:3], ended=False).tolist() == [Action.PROCESS] * 3


@pytest.mark.parametrize("name", ["full", "first_k", "last_k", "uniform", "random"])
@pytest.mark.parametrize("pieces", [1, 3])
def test_vectors_are_read_as_the_masked_path_reads_them(name: str, pieces: int) -> None:
    made = network(name, VECTORS)
    doc = np.random.default_rng(2).normal(size=(30, 4)).astype(np.float32)
    executor = made.executor()
    state = executor.start()
    actions = [
        executor.advance(state, piece, knob=-1.0, ended=number == pieces)
        for number, piece in enumerate(np.array_split(doc, pieces), 1)
    ]
    with torch.no_grad():
        inputs = torch.from_numpy(doc)[None]
        masked = made.masked(inputs, torch.tensor([30]), Sampling(knob=-1.0))
    assert np.concatenate(actions).tolist() == masked.actions[0].tolist()
    assert float(masked.cost) == pytest.approx(1.0 if name == "full" else 0.4)
    np.testing.assert_allclose(executor.logits(state), masked.logits[0], atol=1e-5)


def test_block_and_exact_are_the_same() -> None:
    executor = network("uniform").executor()
    states = [executor.start(), executor.start()]
    for state, mode in zip(states, ("exact", "block"), strict=True):
        executor.advance(state, DOCUMENT, mode=mode)
    assert (states[0].hidden == states[1].hidden).all()


def test_an_empty_row_of_a_batch_is_read_as_nothing() -> None:
    made = network("last_k")
    ids = torch.from_numpy(DOCUMENT.astype(np.int64)).repeat(2, 1)
    with torch.no_grad():
        masked = made.masked(ids, torch.tensor([0, 20]), Sampling())
        nothing = made.masked(ids, torch.tensor([0, 0]), Sampling())
    executor = made.executor()
    np.testing.assert_allclose(executor.logits(executor.start()), masked.logits[0], atol=1e-6)
    assert masked.cost.tolist() == pytest.approx([0.0, 0.2])
    assert nothing.logits.tolist() == masked.logits[[0, 0]].tolist()


def test_a_gradient_reaches_the_words_that_were_read_and_no_others() -> None:
    made = network("first_k", rate=0.1).train()
    ids = torch.arange(1, 21)[None]
    made.masked(ids, torch.tensor([20]), Sampling()).logits.sum().backward()
    assert made.embed is not None
    gradient = made.embed.weight.grad
    assert gradient is not None
    assert gradient.abs().sum(1).nonzero()[:, 0].tolist() == [1, 2]


@pytest.mark.parametrize("rate", [0.0, 1.5, float("nan")])
def test_a_rate_outside_0_to_1_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"rate must be in \(0, 1\], got rate = "):
        network("last_k", rate=rate)


def test_idf_refuses_vectors() -> None:
    with pytest.raises(ConfigError, match=r"idf needs ids to look up"):
        network("idf", VECTORS)
