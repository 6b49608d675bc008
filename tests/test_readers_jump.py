"""Jumps by hand-set weights: where they land, when they end, and what they learn by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from streamdyn.errors import ConfigError
from streamdyn.nn.gates import Sampling
from streamdyn.plan import Action
from streamdyn.registry import build
from streamdyn.text.network import NetworkSpec, ReaderNetwork
from streamdyn.text.words import Mark

JUMPS = ["lstm_jump", "lstm_shuttle", "structural_jump"]
PADDING, PLAIN, A, B, COMMA, STOP = range(6)


def legible(name: str, **options: Any) -> ReaderNetwork:
    """A reader whose state shows nothing but the last token read: [.76, 0] for A, [0, .76] for B.

    No weight of a decision is set.
    """
    spec = NetworkSpec(input_size=2, hidden_size=2, num_outputs=2, num_words=6)
    network: ReaderNetwork = build("reader", name, spec=spec, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        assert network.embed is not None
        network.embed.weight[A, 0] = network.embed.weight[B, 1] = 1.0
        # Gates i f g o: the cell takes the input in, forgets the rest and shows it.
        network.cell.fused.bias_ih_l0.copy_(torch.tensor([20.0, -20, 0, 20]).repeat_interleave(2))
        network.cell.fused.weight_ih_l0[4:6] = 10 * torch.eye(2)
        network.head.weight.copy_(torch.randn(2, 6, generator=torch.Generator().manual_seed(0)))
        network.marks[COMMA], network.marks[STOP] = Mark.CLAUSE, Mark.SENTENCE
    return network.eval()


def jumper(name: str, after_a: int, after_b: int, **options: Any) -> ReaderNetwork:
    """Jumps so far after a run that ends with A or B, and stops after any other."""
    network: Any = legible(name, read_size=2, max_jump=5, **options)
    with torch.no_grad():
        network.jump.bias[0] = 1.0
        network.jump.weight[network.hops().index(after_a), 0] = 100.0
        network.jump.weight[network.hops().index(after_b), 1] = 100.0
    return network


def read(network: ReaderNetwork, tokens: list[int]) -> tuple[list[int], Any]:
    """Indices of the tokens read, whole, in pieces and under the mask, and the state."""
    executor = network.executor()
    state, piecemeal = executor.start(), executor.start()
    actions = executor.advance(state, np.array(tokens, np.int32)).tolist()
    pieces: list[int] = []
    for token in tokens:
        pieces.extend(executor.advance(piecemeal, np.array([token], np.int32), ended=False))
    pieces.extend(executor.advance(piecemeal, np.zeros(0, np.int32)))
    with torch.no_grad():
        out = network.masked(torch.tensor([tokens]), torch.tensor([len(tokens)]), Sampling())
    assert pieces == actions == out.actions[0].tolist()
    assert piecemeal.num_full == state.num_full
    np.testing.assert_allclose(executor.logits(state), out.logits[0], atol=1e-5)
    return np.flatnonzero(np.array(actions) == Action.PROCESS).tolist(), state


def test_a_jump_counts_from_the_last_token_of_a_run() -> None:
    tokens = [PLAIN, A, PLAIN, PLAIN, PLAIN, B, PLAIN, PLAIN, PLAIN]
    where, state = read(jumper("lstm_jump", after_a=3, after_b=1), tokens)
    assert where == [0, 1, 4, 5, 6, 7]
    assert (state.stop_index, state.num_looks) == (8, 3)


def test_after_the_last_jump_one_more_run_is_read() -> None:
    where, state = read(jumper("lstm_jump", 3, 1, max_jumps=2), [PLAIN, A] * 20)
    assert where == [0, 1, 4, 5, 8, 9]
    assert (state.stop_index, state.num_looks) == (10, 2)


def test_what_a_jump_passes_over_need_not_be_fed() -> None:
    network = jumper("lstm_jump", 5, 1)
    executor = network.executor()
    state = executor.start()
    executor.advance(state, np.array([PLAIN, A], np.int32), ended=False)
    assert state.skip_until == 6


def test_a_shuttle_counts_back_from_the_first_token_of_a_run() -> None:
    tokens = [PLAIN, A, PLAIN, PLAIN, PLAIN, B, PLAIN, PLAIN]
    where, state = read(jumper("lstm_shuttle", after_a=3, after_b=-2), tokens)
    assert where == [0, 1, 2, 3, 4, 5]
    assert (state.num_full, state.stop_index) == (6, 6)


def test_a_shuttle_that_reads_the_same_place_again_ends_and_says_so() -> None:
    network = jumper("lstm_shuttle", 1, -5, max_jumps=3)
    where, state = read(network, [PLAIN, B, *[PLAIN] * 6])
    assert where == [0, 1]
    assert (state.num_full, state.stopped) == (8, True)
    out = network.masked(torch.tensor([[PLAIN, B, *[PLAIN] * 6]]), torch.tensor([8]), Sampling())
    assert (out.revisits, float(out.cost)) == (0.75, 1.0)


def test_a_shuttle_keeps_what_it_may_go_back_to_and_no_more() -> None:
    executor = jumper("lstm_shuttle", 5, -5, max_jumps=1000).executor()
    state, kept = executor.start(), []
    for token in np.random.default_rng(0).choice([A, B], 300, p=[0.7, 0.3]):
        executor.advance(state, np.array([token], np.int32), ended=False)
        kept.append(len(state.past))
        assert state.skip_until == state.position == state.decided + len(state.past)
    assert 0 < max(kept) <= 5 + 2


def structural(**options: Any) -> ReaderNetwork:
    """Reads what it sees; jumps over a clause after A, over a sentence after B."""
    network: Any = legible("structural_jump", agent_size=2, **options)
    with torch.no_grad():
        network.skip.bias.copy_(torch.tensor([0.0, 1.0]))
        network.jump_state.weight.copy_(torch.eye(2))
        network.jump.bias[0] = 1.0
        network.jump.weight[1, 0] = network.jump.weight[2, 1] = 100.0
    return network


TEXT = [A, PLAIN, COMMA, PLAIN, B, PLAIN, COMMA, A, STOP, PLAIN, A, STOP, PLAIN]


def test_a_structural_jump_lands_after_the_mark() -> None:
    # The last clause ends with its sentence.
    assert read(structural(), TEXT)[0] == [0, 3, 4, 9, 10, 12]


def test_a_structural_jump_goes_a_fixed_way_where_there_are_no_marks() -> None:
    network = structural(fallback_span=2)
    network.marks.zero_()
    assert read(network, TEXT)[0] == [0, 3, 4, 9, 10]


def test_while_a_mark_is_awaited_no_token_may_be_left_out() -> None:
    executor = structural().executor()
    state = executor.start()
    executor.advance(state, np.array([A, PLAIN], np.int32), ended=False)
    assert state.skip_until == state.position == 2
    assert state.num_looks == 1


def test_a_jump_to_the_end_stops() -> None:
    network: Any = structural()
    with torch.no_grad():
        network.jump.bias[3] = 1000.0
    where, state = read(network, TEXT)
    assert (where, state.stop_index) == ([0], 1)


def test_a_token_seen_and_skipped_costs_the_look() -> None:
    network = structural(look_cost=0.25)
    inputs = torch.tensor([[PLAIN] * 8]), torch.tensor([8])
    assert float(network.masked(*inputs, Sampling(knob=50.0)).cost) == 0.25
    assert float(network.masked(*inputs, Sampling(knob=0.0)).cost) == 1.0


def spread(name: str, **options: Any) -> ReaderNetwork:
    """Random weights."""
    network = legible(name, **options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.7)
    return network


def batch(rows: int = 6, steps: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return (
        torch.randint(1, 6, (rows, steps), generator=generator),
        torch.randint(1, steps + 1, (rows,), generator=generator),
    )


@pytest.mark.parametrize("name", JUMPS)
def test_the_policy_gradient_reaches_the_jumps_and_the_baseline_nothing_else(name: str) -> None:
    network: Any = spread(name)
    assert network.masked(*batch(), Sampling()).log_prob is None
    noise = torch.Generator().manual_seed(0)
    out = network.masked(*batch(), Sampling("reinforce", generator=noise))
    out.log_prob.sum().backward(retain_graph=True)
    assert network.jump.weight.grad.abs().sum() > 0
    assert (out.entropy >= 0).all()
    network.zero_grad()
    out.baseline.sum().backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {"baseline.weight", "baseline.bias"}


def test_the_log_probability_is_that_of_the_jump_drawn() -> None:
    network: Any = legible("lstm_jump", read_size=1, max_jump=3, max_jumps=1)
    with torch.no_grad():
        network.jump.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 0.5]))
    inputs = torch.full((64, 6), PLAIN), torch.full((64,), 6)
    noise = torch.Generator().manual_seed(0)
    out = network.masked(*inputs, Sampling("reinforce", generator=noise))
    # Token 0 is read, and then the one that the jump lands on; none where it stops.
    hop = ((out.actions[:, 1:] == Action.PROCESS) * torch.arange(1, 6)).sum(1)
    assert set(hop.tolist()) == {0, 1, 2, 3}
    torch.testing.assert_close(out.log_prob, network.jump.bias.log_softmax(0)[hop])


@pytest.mark.parametrize("name", JUMPS)
def test_straight_through_reads_as_executed(name: str) -> None:
    network = spread(name)
    hard = network.masked(*batch(), Sampling())
    soft = network.masked(*batch(), Sampling("straight_through"))
    assert hard.actions.tolist() == soft.actions.tolist()
    torch.testing.assert_close(hard.logits, soft.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(hard.cost, soft.cost, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", JUMPS[:2])
def test_a_lower_cost_asks_for_longer_jumps(name: str) -> None:
    network: Any = legible(name, read_size=2, max_jump=5)
    with torch.no_grad():
        network.jump.bias[2] = 0.01
    out = network.masked(torch.tensor([[A] * 30]), torch.tensor([30]), Sampling("straight_through"))
    out.cost.sum().backward()
    gradient = network.jump.bias.grad[1:6]  # of jumps 1 to 5
    assert gradient.diff().max() < 0
    assert network.jump.bias.grad[0] < 0 < gradient[0]


@pytest.mark.parametrize("name", JUMPS[:2])
def test_number_prediction_is_learned_in_two_reads(name: str) -> None:
    values = 12
    spec = NetworkSpec(input_size=16, hidden_size=32, num_outputs=values, num_words=values + 1,
                       pooling="last")  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    network: Any = build("reader", name, spec=spec, read_size=1, max_jump=values, max_jumps=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_((torch.rand(parameter.shape, generator=generator) - 0.5) * 0.6)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)

    def examples(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        numbers = torch.randint(0, values, (n, values), generator=generator)
        return numbers + 1, numbers.gather(1, numbers[:, :1])[:, 0]

    for _ in range(300):
        ids, targets = examples(64)
        out = network.masked(ids, torch.full((64,), values), Sampling("straight_through"))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(out.logits, targets).backward()
        optimizer.step()
    executor = network.executor()
    ids, targets = examples(200)
    right = 0
    for row, target in zip(ids.numpy().astype(np.int32), targets.tolist(), strict=True):
        state = executor.start()
        executor.advance(state, row)
        assert state.num_full <= 2
        right += int(executor.logits(state).argmax() == target)
    assert right >= 190


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lstm_jump", {"read_size": 0}),
        ("lstm_shuttle", {"max_jumps": 0}),
        ("structural_jump", {"look_cost": 1.5}),
        ("structural_jump", {"fallback_span": 0}),
    ],
)
def test_a_jump_reader_refuses_wrong_sizes(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        build("reader", name, spec=NetworkSpec(2, 2, 2), **options)
