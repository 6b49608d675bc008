"""One text at a time: what a reading holds, and that its budget is kept."""

from __future__ import annotations

import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_readers import READERS, random_model, random_words

from streamdyn.errors import ConfigError, UnknownName
from streamdyn.plan import Action
from streamdyn.text.answer import Taken
from streamdyn.text.batches import PaddedReader
from streamdyn.text.calibration import Calibration
from streamdyn.text.policies import TRIVIAL
from streamdyn.text.reader import SkimReader

TEXT = " ".join(random_words(60))
SKIM = SkimReader(random_model("skim_rnn"))


def joined(source: str, spans: list[tuple[int, int]]) -> str:
    """The text put together from the spans and the gaps between them."""
    parts, end = [], 0
    for start, stop in spans:
        parts += [source[end:start], source[start:stop]]
        end = stop
    return "".join([*parts, source[end:]])


@pytest.mark.parametrize("name", READERS)
def test_a_reading_is_what_the_executor_answers(name: str) -> None:
    model = random_model(name)
    reading = SkimReader(model)(TEXT)
    executor = model.network.executor()
    state = executor.start()
    executor.advance(state, model.coder.encode(TEXT).ids)
    logits = torch.from_numpy(executor.logits(state))
    np.testing.assert_allclose(list(reading.scores.values()), logits.softmax(0), atol=1e-6)
    assert reading.label == model.labels[int(logits.argmax())]
    assert (reading.reads, reading.stop_index) == (state.num_full, state.stop_index)
    assert reading.flops == executor.flops(state)
    assert reading.tokens_total == 60
    assert reading.tokens_read <= reading.reads


def test_the_seconds_of_a_reading_are_by_stage() -> None:
    ticks = count()
    reading = SkimReader(random_model(), now=lambda: float(next(ticks)))(TEXT)
    assert reading.seconds == {"tokenize": 1.0, "read": 1.0, "classify": 1.0}


@given(
    text=st.text() | st.lists(st.sampled_from(["w1", "w2", ",", "neu", "\n"])).map(" ".join),
    rate=st.floats(min_value=0, max_value=1, exclude_min=True),
)
def test_a_rate_is_kept_and_spans_lie_in_the_text(text: str, rate: float) -> None:
    reading = SKIM(text, rate=rate)
    assert reading.source == text
    assert reading.reads <= math.ceil(rate * reading.tokens_total)
    assert all(0 <= start < stop <= len(text) for start, stop in reading.kept)
    assert joined(text, reading.kept) == text
    assert reading.text.split() == "  ".join(text[a:b] for a, b in reading.kept).split()


@pytest.mark.parametrize("name", READERS)
def test_a_number_of_tokens_is_never_exceeded(name: str) -> None:
    reader = SkimReader(random_model(name))
    for target in (1, 7, 59, 1000):
        assert reader(TEXT, target_tokens=target).reads <= target


def test_ten_per_cent_of_thirty_tokens_are_three() -> None:
    reader = SkimReader(random_model(), policy="first_k")
    assert reader(" ".join(random_words(30)), rate=0.1).tokens_read == 3


def test_a_rate_turns_the_knob_that_was_calibrated_for_it() -> None:
    model = random_model("skim_rnn")
    tuned = type(model)(
        model.network, model.coder, model.labels, Calibration((0.0, 50.0), (1.0, 0.1))
    )
    # At this knob nothing is read in full; without calibration a half is.
    assert SkimReader(tuned)(TEXT, rate=0.1).tokens_read == 0
    assert SKIM(TEXT, rate=0.1).tokens_read == 6
    assert SKIM(TEXT, threshold=50.0).tokens_read == 0


def test_a_reader_that_knows_its_scores_beforehand_meets_the_rate_exactly() -> None:
    reader = SkimReader(random_model("leap_lstm", use_state=False))
    assert reader(TEXT, rate=0.25).tokens_read == 15
    assert reader(TEXT, target_tokens=4).tokens_read == 4


@pytest.mark.parametrize("name", READERS)
def test_a_reader_is_the_same_in_another_process(name: str) -> None:
    reader = SkimReader(random_model(name))
    again = pickle.loads(pickle.dumps(reader))
    one, other = again(TEXT, rate=0.5), reader(TEXT, rate=0.5)
    assert (one.scores, one.kept) == (other.scores, other.kept)


def test_one_reader_serves_many_threads() -> None:
    texts = [" ".join(random_words(200, seed=seed)) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        readings = list(pool.map(SKIM, texts))
    for reading, text in zip(readings, texts, strict=True):
        assert reading.scores == SKIM(text).scores


def test_an_empty_text_gets_the_answer_of_the_untouched_state() -> None:
    model = random_model()
    reading = SkimReader(model)("", rate=0.5)
    prior = model.network.head.bias.detach().softmax(0)
    assert (reading.tokens_total, reading.reads, reading.kept, reading.text) == (0, 0, [], "")
    np.testing.assert_allclose(list(reading.scores.values()), prior, atol=1e-6)


@pytest.mark.parametrize("policy", TRIVIAL)
def test_a_trivial_policy_reads_with_the_weights_of_the_model(policy: str) -> None:
    model = random_model("skim_rnn")
    reader = SkimReader(model, policy=policy)
    assert reader.model.network.name == policy
    for name in ("embed.weight", "cell.fused.weight_hh_l0", "head.bias", "marks"):
        ours, theirs = reader.model.network.state_dict()[name], model.network.state_dict()[name]
        assert torch.equal(ours, theirs)
    assert reader(TEXT).tokens_read == 60
    half = reader(TEXT, rate=0.5)
    assert half.tokens_read == 30
    first = np.flatnonzero(half.actions == Action.PROCESS).tolist() == list(range(30))
    assert first == (policy in ("first_k", "full"))


def test_a_policy_that_no_model_can_take_is_refused() -> None:
    with pytest.raises(UnknownName, match="no policy for a trained model is called 'skip_rn'"):
        SkimReader(random_model(), policy="skip_rn")
    assert SkimReader(random_model(), policy="skip_rnn").model.network.name == "skip_rnn"


def test_making_a_reader_does_not_touch_the_dice_of_the_caller() -> None:
    model = random_model()
    before = torch.random.get_rng_state()
    SkimReader(model, policy="uniform")
    assert torch.equal(torch.random.get_rng_state(), before)


# The path of a GPU, on the device that is always there.


def padded(name: str, texts: list[str], knob: float, cap: int) -> list[Taken]:
    model = random_model(name)
    reader = PaddedReader(model.network, torch.device("cpu"))
    rows = [model.coder.encode(text).ids for text in texts]
    return reader.read(rows, knob=knob, caps=[cap] * len(rows))


@pytest.mark.parametrize("cap", [1, 2, 5])
@pytest.mark.parametrize("name", ["skim_rnn", "skip_rnn", "hm_rnn", "vcrnn"])
def test_a_padded_batch_stops_where_its_reads_are_used_up(name: str, cap: int) -> None:
    texts = [" ".join(random_words(n, seed=n)) for n in (1, 40, 17)]
    model = random_model(name)
    for took, text in zip(padded(name, texts, 0.0, cap), texts, strict=True):
        executor = model.network.executor()
        state = executor.start()
        actions = executor.advance(state, model.coder.encode(text).ids, knob=0.0, max_reads=cap)
        assert took.actions.tolist() == actions.tolist()
        np.testing.assert_allclose(took.logits, executor.logits(state), atol=1e-5)


@pytest.mark.parametrize("name", READERS)
def test_a_padded_batch_reads_as_the_executor_does(name: str) -> None:
    texts = [" ".join(random_words(n, seed=n)) for n in (1, 40, 17)]
    reader = SkimReader(random_model(name))
    for took, text in zip(padded(name, texts, 0.5, 1000), texts, strict=True):
        reading = reader(text, threshold=0.5)
        assert took.actions.tolist() == reading.actions.tolist()
        shares = torch.from_numpy(took.logits).softmax(0)
        np.testing.assert_allclose(list(reading.scores.values()), shares, atol=1e-5)


@pytest.mark.parametrize("name", READERS)
def test_a_padded_batch_keeps_the_limit_of_each_text(name: str) -> None:
    texts = [" ".join(random_words(n, seed=n)) for n in (3, 40, 17)]
    assert all(took.reads <= 3 for took in padded(name, texts, -5.0, 3))
    reader = SkimReader(random_model("skip_rnn"))
    for took, text in zip(padded("skip_rnn", texts, 0.0, 3), texts, strict=True):
        reading = reader(text, target_tokens=3)
        assert took.actions.tolist() == reading.actions.tolist()
        shares = torch.from_numpy(took.logits).softmax(0)
        np.testing.assert_allclose(list(reading.scores.values()), shares, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", READERS)
def test_a_gpu_reads_as_the_cpu_does(name: str) -> None:
    texts = [TEXT, "", " ".join(random_words(9, seed=2))]
    model = random_model(name)
    there = list(SkimReader(model, device="cuda").pipe(texts, threshold=0.5))
    here = list(SkimReader(model).pipe(texts, threshold=0.5))
    for one, other in zip(there, here, strict=True):
        assert one.actions.tolist() == other.actions.tolist()
        np.testing.assert_allclose(
            list(one.scores.values()), list(other.scores.values()), atol=1e-3
        )


def test_a_mode_that_the_reader_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="skim_rnn reads in exact mode, not 'block'"):
        SkimReader(random_model("skim_rnn"), mode="block")
    block = SkimReader(random_model("leap_lstm"), mode="block")
    assert (
        block(TEXT).actions.tolist() == SkimReader(random_model("leap_lstm"))(TEXT).actions.tolist()
    )
