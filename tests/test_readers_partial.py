"""What is special to the readers that update a part of their state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from streamdyn.errors import ConfigError
from streamdyn.nn.gates import Sampling
from streamdyn.nn.kernels import MAX, SUM, C, H
from streamdyn.plan import Action
from streamdyn.registry import parts
from streamdyn.text.network import NetworkSpec, ReaderNetwork

NAMES = ["skim_rnn", "vcrnn", "hm_rnn"]
CELLS = ["lstm", "gru"]
READ_ALL, READ_NONE = -60.0, 60.0


def network(name: str, cell: str = "lstm", **options: Any) -> ReaderNetwork:
    """Of vectors; its weights are drawn, but not from torch's global generator."""
    spec = NetworkSpec(input_size=8, hidden_size=16, num_outputs=2, cell=cell)  # type: ignore[arg-type]
    if name == "skim_rnn":
        options = {"small_size": 4, **options}
    made: ReaderNetwork = parts("reader")[name](spec, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return made


def vectors(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)


@pytest.mark.parametrize("cell", CELLS)
def test_skimming_leaves_all_but_the_first_dimensions_as_they_are(cell: str) -> None:
    executor = network("skim_rnn", cell).executor()
    state = executor.start()
    executor.advance(state, vectors(5), knob=READ_ALL)
    before = state.hidden.copy()
    actions = executor.advance(state, vectors(5, seed=2), knob=READ_NONE)
    assert set(actions) == {Action.PARTIAL}
    assert (state.hidden[H, :4] != before[H, :4]).all()
    for rows, columns in (([H, C], slice(4, None)), ([SUM, MAX], slice(None))):
        np.testing.assert_array_equal(state.hidden[rows, columns], before[rows, columns])


@pytest.mark.parametrize("cell", CELLS)
def test_vcrnn_updates_as_many_dimensions_as_its_level_says(cell: str) -> None:
    made = network("vcrnn", cell, levels=(0.0, 0.25, 0.5, 1.0))
    executor, changed = made.executor(), set()
    state = executor.start()
    executor.advance(state, vectors(1), knob=READ_ALL)
    for vector in vectors(60, seed=3):
        before = state.hidden.copy()
        (action,) = executor.advance(state, vector[None], knob=1.0)
        moved = np.flatnonzero(state.hidden[H] != before[H])
        assert moved.tolist() == list(range(len(moved)))
        assert action == {0: Action.SKIP, 16: Action.PROCESS}.get(len(moved), Action.PARTIAL)
        changed.add(len(moved))
    assert changed == {0, 4, 8, 16}


def test_vcrnn_computes_less_as_the_knob_rises() -> None:
    executor = network("vcrnn").executor()
    spent = []
    for knob in (READ_ALL, 0.0, 2.0, READ_NONE):
        state = executor.start()
        executor.advance(state, vectors(60), knob=knob)
        spent.append(executor.flops(state))
    assert spent == sorted(spent, reverse=True)
    assert len(set(spent)) == 4


@pytest.mark.parametrize("cell", CELLS)
def test_hm_rnn_copies_the_large_layer_where_there_is_no_boundary(cell: str) -> None:
    executor = network("hm_rnn", cell).executor()
    state = executor.start()
    executor.advance(state, vectors(5), knob=READ_ALL)
    hidden, aux = state.hidden.copy(), state.aux.copy()
    actions = executor.advance(state, vectors(5, seed=2), knob=READ_NONE)
    assert set(actions) == {Action.PARTIAL}
    np.testing.assert_array_equal(state.hidden, hidden)
    assert (state.aux[:32] != aux[:32]).all()


@pytest.mark.parametrize("after_boundary", [True, False])
def test_hm_rnn_flushes_the_memory_of_the_first_layer_after_a_boundary(
    after_boundary: bool,
) -> None:
    executor = network("hm_rnn").executor()
    results = []
    for memory in (0.0, 1.0):
        state = executor.start()
        state.aux[32:64], state.aux[64] = memory, after_boundary
        executor.advance(state, vectors(1))
        results.append(state.aux[:64])
    assert np.array_equal(*results) == after_boundary


def test_the_slope_of_hm_rnn_changes_its_gradient_and_not_its_reading() -> None:
    made = network("hm_rnn")
    inputs, lengths = torch.from_numpy(vectors(20))[None], torch.tensor([20])
    logits, gradients = [], []
    for progress in (0.0, 1.0):
        made.set_progress(progress)  # type: ignore[attr-defined]
        made.zero_grad()
        out = made.masked(inputs, lengths, Sampling("straight_through"))
        out.cost.sum().backward()
        logits.append(out.logits[0].tolist())
        gradients.append(made.boundary.bias.grad.item())  # type: ignore[union-attr]
    assert logits[0] == pytest.approx(logits[1], abs=1e-6)
    assert gradients[0] != gradients[1]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", NAMES)
def test_the_cost_trained_on_is_the_share_of_the_computation_executed(name: str, cell: str) -> None:
    made = network(name, cell)
    tokens, executor = vectors(40), made.executor()
    with torch.no_grad():
        out = made.masked(torch.from_numpy(tokens)[None], torch.tensor([40]), Sampling(knob=0.5))
    state = executor.start()
    executor.advance(state, tokens, knob=0.5)
    spent = executor.flops(state) - 2 * executor.head_weight.size
    whole = executor.step_flops()
    # The first layer of HM-RNN decides and is a part of reading a token.
    if name == "hm_rnn":
        whole += executor.look_flops()
    else:
        spent -= state.num_looks * executor.look_flops()
    assert 0.1 < out.cost.item() < 0.9
    assert out.cost.item() == pytest.approx(spent / whole / 40, rel=1e-5)


def marked_token_task(rows: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """One of 8 tokens is marked and holds the label."""
    labels = torch.randint(2, (rows,), generator=generator)
    marked = torch.arange(rows), torch.randint(8, (rows,), generator=generator)
    inputs = torch.randn(rows, 8, 8, generator=generator)
    inputs[..., :2] = 0
    inputs[(*marked, 0)], inputs[(*marked, 1)] = labels * 2.0 - 1, 2.0
    return inputs, labels


@pytest.mark.parametrize(
    ("name", "estimator", "gate"),
    [
        ("skim_rnn", "gumbel", "gate"),
        ("skim_rnn", "straight_through", "gate"),
        ("vcrnn", "straight_through", "scheduler"),
        ("hm_rnn", "straight_through", "boundary"),
    ],
)
def test_training_lowers_the_loss_and_reaches_the_gate(
    name: str, estimator: str, gate: str
) -> None:
    made, generator = network(name), torch.Generator().manual_seed(1)
    weight = made.get_parameter(f"{gate}.weight")
    untrained = weight.detach().clone()
    optimizer = torch.optim.Adam(made.parameters(), 0.02)
    losses = []
    for _ in range(60):
        inputs, labels = marked_token_task(64, generator)
        out = made.masked(
            inputs,
            torch.full((64,), 8),
            Sampling(estimator, generator=generator),  # type: ignore[arg-type]
        )
        loss = torch.nn.functional.cross_entropy(out.logits, labels) + 0.1 * out.cost.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert (weight != untrained).all()


def test_skim_rnn_draws_for_reinforce_and_not_otherwise() -> None:
    made, lengths = network("skim_rnn"), torch.tensor([3, 20])
    inputs = torch.from_numpy(np.stack([vectors(20), vectors(20, seed=2)]))
    drawn = made.masked(inputs, lengths, Sampling("reinforce", generator=torch.Generator()))
    assert drawn.log_prob is not None
    assert drawn.entropy is not None
    assert (drawn.log_prob < 0).all()
    assert ((drawn.entropy > 0) & (drawn.entropy <= np.log(2))).all()
    drawn.log_prob.sum().backward()
    assert made.get_parameter("gate.weight").grad is not None
    assert made.masked(inputs, lengths, Sampling()).log_prob is None


def test_the_skim_bonus_is_what_makes_skim_rnn_skim_more() -> None:
    made = network("skim_rnn", skim_bonus=0.5)
    inputs, lengths = torch.from_numpy(vectors(20))[None], torch.tensor([20])
    optimizer = torch.optim.Adam(made.parameters(), 0.05)
    rates = []
    for _ in range(20):
        out = made.masked(inputs, lengths, Sampling("straight_through"))
        assert out.extra_loss is not None
        optimizer.zero_grad()
        out.extra_loss.backward()
        optimizer.step()
        rates.append((out.actions == Action.PROCESS).float().mean().item())
    assert rates[-1] < 0.5 * rates[0]
    assert network("skim_rnn").masked(inputs, lengths, Sampling()).extra_loss is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("skim_rnn", {"small_size": 16}, r"small_size must be in 1\.\.15"),
        ("skim_rnn", {"small_size": 0}, r"small_size must be in 1\.\.15"),
        ("vcrnn", {"levels": (0.0, 0.5)}, "rising from 0 to 1"),
        ("vcrnn", {"levels": (0.0, 0.5, 0.5, 1.0)}, "rising from 0 to 1"),
        ("vcrnn", {"levels": tuple(np.linspace(0, 1, 8))}, "2 to 7 shares"),
        ("hm_rnn", {"first_size": 0}, "first_size must be at least 1"),
    ],
)
def test_options_that_cannot_be_are_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        network(name, **options)
