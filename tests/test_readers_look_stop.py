"""What is special to the readers that look ahead, re-read or stop: leap, reread_stop, jumper."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from streamdyn.errors import ConfigError
from streamdyn.nn.gates import Sampling
from streamdyn.plan import Action
from streamdyn.registry import build
from streamdyn.text.network import NetworkSpec
from streamdyn.text.words import Mark

SKIP, PROCESS = int(Action.SKIP), int(Action.PROCESS)
READ_ALL = -1e6
VARIANTS = [
    ("leap_lstm", {"block_size": 5}),
    ("leap_lstm", {"window": 0, "block_size": 1}),
    ("leap_lstm", {"window": 3, "use_state": False}),
    ("reread_stop", {"chunk_size": 4, "max_skip": 3, "max_rereads": 2}),
    ("reread_stop", {"chunk_size": 1, "max_skip": 0}),
    ("jumper", {"max_sentence": 3}),
]


def network(name: str, num_words: int = 50, seed: int = 0, **options: Any) -> Any:
    """Random weights, spread so that every action occurs."""
    spec = NetworkSpec(input_size=6, hidden_size=12, num_outputs=3, num_words=num_words)
    made = build("reader", name, spec=spec, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.7)
        made.marks.copy_(torch.randint(0, 3, (num_words,), generator=generator))
    return made.eval()


def document(length: int = 40, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 50, length).astype(np.int32)


def vectors(length: int = 40, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((length, 6)).astype(np.float32)


def fed(
    executor: Any, tokens: np.ndarray, size: int, **options: Any
) -> tuple[list[int], np.ndarray, Any]:
    """Actions, answer and state after feeding pieces of `size`, the end told afterwards."""
    state, actions = executor.start(), []
    for start in range(0, len(tokens), size):
        piece = tokens[start : start + size]
        actions += executor.advance(state, piece, ended=False, **options).tolist()
    actions += executor.advance(state, tokens[:0], **options).tolist()
    return actions, executor.logits(state), state


@pytest.mark.parametrize("num_words", [0, 50])
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_ids_and_vectors_in_pieces_of_any_size_read_as_the_masked_path(
    name: str, options: dict[str, Any], num_words: int
) -> None:
    made = network(name, num_words, **options)
    tokens = document() if num_words else vectors()
    inputs = torch.from_numpy(tokens.astype(np.int64) if num_words else tokens)[None]
    with torch.no_grad():
        masked = made.masked(inputs, torch.tensor([len(tokens)]), Sampling(knob=0.3))
    for size in (1, 3, len(tokens)):
        actions, logits, state = fed(made.executor(), tokens, size, knob=0.3)
        assert actions == masked.actions[0].tolist()
        np.testing.assert_allclose(logits, masked.logits[0], atol=1e-5)
        assert state.num_full == pytest.approx(float(masked.cost) * len(tokens))


@pytest.mark.parametrize("options", [options for name, options in VARIANTS if name == "leap_lstm"])
def test_leap_decides_alike_token_by_token_and_block_by_block(options: dict[str, Any]) -> None:
    executor = network("leap_lstm", **options).executor()
    for size, cap in ((40, 1 << 60), (7, 1 << 60), (7, 9), (40, 0)):
        exact, block = (
            fed(executor, document(), size, max_reads=cap, mode=mode) for mode in ("exact", "block")
        )
        assert exact[0] == block[0]
        np.testing.assert_allclose(exact[1], block[1], atol=1e-5)


def test_leap_projects_many_tokens_at_once_as_one_by_one() -> None:
    executor = network("leap_lstm", use_state=False).executor()
    exact, block = (
        fed(executor, document(131), 131, knob=READ_ALL, mode=mode) for mode in ("exact", "block")
    )
    assert exact[0] == block[0] == [PROCESS] * 131
    np.testing.assert_allclose(exact[1], block[1], atol=1e-5)


def test_leap_answers_as_late_as_its_window_is_wide() -> None:
    executor = network("leap_lstm", window=3).executor()
    state, doc = executor.start(), document(10)
    counts = [len(executor.advance(state, doc[t : t + 1], ended=False)) for t in range(10)]
    assert counts == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]
    assert (state.position, state.decided, state.waiting) == (10, 7, 3)
    assert len(executor.advance(state, doc[:0], ended=True)) == 3
    assert state.decided == 10


def test_leap_sees_window_tokens_on_both_sides_and_no_further() -> None:
    executor = network("leap_lstm", window=2, use_state=False).executor()
    doc = document(20)
    changed = doc.copy()
    changed[10] = doc[10] % 49 + 1
    differs = executor.scores(doc) != executor.scores(changed)
    assert np.flatnonzero(differs).tolist() == [8, 9, 10, 11, 12]


def test_leap_scores_are_what_it_decides_by() -> None:
    executor = network("leap_lstm", use_state=False).executor()
    actions = executor.advance(executor.start(), document(), knob=0.5)
    assert ((executor.scores(document()) > 0.5) == (actions == PROCESS)).all()


@pytest.mark.parametrize("k", [0, 1, 8, 40, 99])
def test_leap_reads_exactly_as_many_tokens_as_asked(k: int) -> None:
    executor = network("leap_lstm", use_state=False).executor()
    doc = document()
    chosen, dialled = executor.start(), executor.start()
    actions = executor.choose(chosen, doc, k)
    expected = min(k, len(doc))
    edges = [np.inf, *sorted(executor.scores(doc).tolist(), reverse=True), READ_ALL]
    knob = sum(edges[expected : expected + 2]) / 2
    assert actions.tolist() == executor.advance(dialled, doc, knob=knob).tolist()
    assert chosen.num_full == (actions == PROCESS).sum() == expected
    assert (chosen.position, chosen.num_looks) == (dialled.position, dialled.num_looks)
    np.testing.assert_allclose(executor.logits(chosen), executor.logits(dialled), atol=1e-5)


@pytest.mark.parametrize("tokens", [document(0), vectors(0)])
def test_leap_chooses_nothing_of_an_empty_document(tokens: np.ndarray) -> None:
    num_words = 50 if tokens.ndim == 1 else 0
    executor = network("leap_lstm", num_words, use_state=False).executor()
    state = executor.start()
    assert len(executor.choose(state, tokens, 5)) == len(executor.advance(state, tokens)) == 0
    assert np.isfinite(executor.logits(state)).all()


def test_leap_does_not_rank_tokens_where_the_state_decides_too() -> None:
    executor = network("leap_lstm").executor()
    with pytest.raises(ConfigError, match="use_state=False"):
        executor.scores(document())
    with pytest.raises(ConfigError, match="k = -1"):
        executor.choose(executor.start(), document(), -1)


def test_leap_gates_get_a_gradient_from_the_label() -> None:
    made = network("leap_lstm")
    generator = torch.Generator().manual_seed(0)
    inputs = torch.from_numpy(document().astype(np.int64))[None]
    for estimator in made.estimators:
        made.zero_grad()
        out = made.masked(inputs, torch.tensor([40]), Sampling(estimator, generator=generator))
        torch.nn.functional.cross_entropy(out.logits, torch.tensor([1])).backward()
        assert made.look.weight.grad.abs().sum() > 0
        assert made.feedback.weight.grad.abs().sum() > 0


def rereader(stop: float, offset: int, **options: Any) -> Any:
    """A reader that always wants the same."""
    made = network("reread_stop", chunk_size=4, **options)
    with torch.no_grad():
        made.stop.weight.zero_()
        made.stop.bias.fill_(stop)
        made.offset.weight.zero_()
        made.offset.bias.zero_()
        made.offset.bias[offset] = 9.0
    return made


@pytest.mark.parametrize("max_rereads", [0, 1, 3])
def test_reread_stop_reads_no_chunk_again_more_often_than_allowed(max_rereads: int) -> None:
    made = rereader(-9.0, 0, max_rereads=max_rereads)
    doc = document(10)  # two chunks and a half one, which is read once
    executor = made.executor()
    state = executor.start()
    assert executor.advance(state, doc).tolist() == [PROCESS] * 10
    assert state.num_full == 8 * (1 + max_rereads) + 2
    inputs = torch.from_numpy(doc.astype(np.int64))[None]
    masked = made.masked(inputs, torch.tensor([10]), Sampling())
    assert masked.revisits == pytest.approx(8 * max_rereads / state.num_full)


def test_reread_stop_leaves_chunks_out_and_says_where_it_looks_next() -> None:
    executor = rereader(-9.0, 2).executor()
    state = executor.start()
    actions = executor.advance(state, document(6), ended=False)
    assert actions.tolist() == [PROCESS] * 4 + [SKIP] * 2
    assert (state.position, state.skip_until) == (6, 8)
    rest = executor.advance(state, document(7))
    assert rest.tolist() == [SKIP] * 2 + [PROCESS] * 4 + [SKIP]


def test_reread_stop_stops_after_a_chunk_for_good() -> None:
    executor = rereader(1.0, 1).executor()
    state = executor.start()
    assert executor.advance(state, document(6)).tolist() == [PROCESS] * 4 + [SKIP] * 2
    assert executor.advance(state, document(5)).tolist() == [SKIP] * 5
    assert (state.stopped, state.stop_index, state.num_full) == (True, 4, 4)


def test_reread_stop_keeps_only_the_chunk_it_stands_in() -> None:
    executor = rereader(-9.0, 1).executor()
    state, doc = executor.start(), document(9)
    for t, kept in enumerate([1, 2, 3, 0, 1, 2, 3, 0, 1]):
        executor.advance(state, doc[t : t + 1], ended=False)
        assert state.past.tolist() == doc[t + 1 - kept : t + 1].tolist()


@pytest.mark.parametrize("name", ["reread_stop", "jumper"])
def test_drawn_decisions_have_probabilities_that_can_be_learned(name: str) -> None:
    made = network(name)
    inputs = torch.from_numpy(np.stack([document(55), document(55, 2)]).astype(np.int64))
    sampling = Sampling("reinforce", generator=torch.Generator().manual_seed(0))
    out = made.masked(inputs, torch.tensor([55, 55]), sampling)
    assert (out.log_prob < 0).all()
    assert (out.entropy > 0).all()
    assert out.baseline.shape == (2,)
    (out.log_prob.sum() + out.entropy.sum()).backward()
    assert torch.isfinite(made.stop.weight.grad).all()
    assert made.stop.weight.grad.abs().sum() > 0


def sentence_ends(made: Any, doc: np.ndarray) -> list[int]:
    ends, run = [], 0
    for t, token in enumerate(doc):
        run += 1
        if made.marks[token] == Mark.SENTENCE or run == made.max_sentence:
            ends.append(t)
            run = 0
    return ends


def test_jumper_stops_only_where_a_sentence_ends() -> None:
    stops = set()
    for seed in range(12):
        made = network("jumper", seed=seed, max_sentence=6)
        executor = made.executor()
        state = executor.start()
        actions = executor.advance(state, document())
        stop = state.stop_index or len(actions)
        assert actions.tolist() == [PROCESS] * stop + [SKIP] * (len(actions) - stop)
        assert not state.stopped or stop - 1 in sentence_ends(made, document())
        stops.add(stop)
    assert len(stops) > 2


def test_jumper_oracle_wants_to_stop_once_the_answer_is_right_and_stays_so() -> None:
    made = network("jumper", max_sentence=6)
    executor = made.executor()
    docs = [document(40), document(23, 5)]
    labels, wanted, losses = [], [], []
    for doc in docs:
        answers, gates = [], []
        for t in sorted({*sentence_ends(made, doc), len(doc) - 1}):
            state = executor.start()
            executor.advance(state, doc[: t + 1], knob=READ_ALL)
            answers.append(torch.from_numpy(executor.logits(state)))
            gates.append(made.stop(torch.from_numpy(state.hidden[0])).detach())
        said = [int(answer.argmax()) for answer in answers]
        labels.append(said[-1])
        targets = [float(set(said[n:]) == {said[-1]}) for n in range(len(said))]
        wanted += targets
        gate_loss = torch.nn.functional.binary_cross_entropy_with_logits(
            torch.cat(gates), torch.tensor(targets)
        )
        said_loss = torch.nn.functional.cross_entropy(
            torch.stack(answers), torch.full((len(answers),), said[-1])
        )
        losses.append(float(gate_loss + said_loss))
    assert set(wanted) == {0.0, 1.0}
    inputs = torch.zeros(2, 40, dtype=torch.int64)
    for row, doc in enumerate(docs):
        inputs[row, : len(doc)] = torch.from_numpy(doc.astype(np.int64))
    loss = made.oracle_loss(inputs, torch.tensor([40, 23]), torch.tensor(labels))
    assert loss.item() == pytest.approx(sum(losses) / 2, abs=1e-4)
    loss.backward()
    assert made.stop.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("leap_lstm", {"window": -1}),
        ("reread_stop", {"chunk_size": 0}),
        ("jumper", {"max_sentence": 0}),
    ],
)
def test_a_size_that_makes_no_sense_is_refused(name: str, options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        network(name, **options)
