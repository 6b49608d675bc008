"""A model as a folder: what is written is what is read, and what is damaged is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from random_readers import READERS, WORDS, random_model, random_words

from streamdyn.errors import ConfigError, ModelError, UnknownName
from streamdyn.text import pretrained
from streamdyn.text.calibration import Calibration
from streamdyn.text.pretrained import ReaderModel
from streamdyn.text.reader import SkimReader
from streamdyn.text.words import Vocabulary

TEXT = " ".join(random_words(60))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SkimReader(random_model()).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", READERS)
def test_a_saved_reader_reads_the_same(name: str, tmp_path: Path) -> None:
    reader = SkimReader(random_model(name))
    reader.save_pretrained(tmp_path / "a" / "model")
    again = SkimReader.from_pretrained(tmp_path / "a" / "model")
    one, other = reader(TEXT), again(TEXT)
    assert one.actions.tolist() == other.actions.tolist()
    assert dict(one.scores) == dict(other.scores)
    assert again.model.network.config() == reader.model.network.config()


def test_all_that_belongs_to_a_model_is_kept(tmp_path: Path) -> None:
    made = random_model()
    words = ["\ud800", "é", "\u0130", *WORDS[3:]]
    model = ReaderModel(
        made.network,
        Vocabulary(words),
        made.labels,
        Calibration((0.0, 1.5), (0.9, 0.1)),
        facts={"data": "none", "accuracy": 0.5, "command": ["a", "b"]},
        card="# A card: café\n",
    )
    pretrained.save(model, tmp_path / "m")
    again = pretrained.load(tmp_path / "m")
    assert again.coder.words == tuple(words)
    assert (again.labels, again.calibration) == (model.labels, model.calibration)
    assert (again.facts, again.card, again.mode) == (model.facts, model.card, "exact")
    assert (tmp_path / "m" / "README.md").read_text("utf-8") == model.card
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_floats_are_stored_small_when_asked_and_marks_are_not(tmp_path: Path) -> None:
    model = random_model()
    pretrained.save(model, tmp_path / "m", half=True)
    stored = safetensors.torch.load_file(tmp_path / "m" / "model.safetensors")
    assert stored.pop("marks").dtype == torch.uint8
    assert stored.pop("embed.weight").dtype == torch.int8
    assert {value.dtype for value in stored.values()} == {torch.float16}
    again = pretrained.load(tmp_path / "m").network.state_dict()
    for name, value in model.network.state_dict().items():
        assert again[name].dtype == value.dtype
        # A byte has 127 steps to the largest value of a word.
        bound = 0.51 / 127 * value.abs().amax(-1, True) if name == "embed.weight" else 2e-3
        assert ((again[name] - value).abs() <= bound).all()
    pretrained.save(pretrained.load(tmp_path / "m"), tmp_path / "again", half=True)
    twice = pretrained.load(tmp_path / "again").network.state_dict()
    assert torch.equal(twice["embed.weight"], again["embed.weight"])
    with torch.no_grad():
        model.network.head.bias[0] = 1e6
    with pytest.raises(ConfigError, match=r"head\.bias has values too large for float16"):
        pretrained.save(model, tmp_path / "m", half=True)


def test_saving_again_replaces_a_model_and_leaves_other_files(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    other = random_model("skim_rnn", seed=1)
    pretrained.save(other, folder)
    assert pretrained.load(folder).network.name == "skim_rnn"
    assert (folder / "notes.txt").read_text() == "mine"


def test_loading_does_not_touch_the_dice_of_the_caller(folder: Path) -> None:
    before = torch.random.get_rng_state()
    pretrained.load(folder)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", ["model.safetensors", "vocabulary.txt"])
@pytest.mark.parametrize("kept", [0, 10, 100])
def test_a_file_cut_short_is_refused(folder: Path, name: str, kept: int) -> None:
    os.truncate(folder / name, kept)
    with pytest.raises(ModelError, match=rf"{name} \({kept} bytes\) .* was cut short or changed"):
        SkimReader.from_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocabulary.txt"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing; download or save"):
        SkimReader.from_pretrained(folder)


def test_a_config_cut_short_is_refused(folder: Path) -> None:
    size = (folder / "config.json").stat().st_size
    os.truncate(folder / "config.json", size - 5)
    with pytest.raises(ModelError, match="is not JSON"):
        SkimReader.from_pretrained(folder)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("format", 2, "is of format 2, and this streamdyn reads format 1"),
        ("reader", "skip_rn", "no reader is called 'skip_rn'"),
        ("labels", ["one"], "labels must be 3 different names"),
        ("labels", ["one", "one", "two"], "labels must be 3 different names"),
        ("labels", None, "cannot build a reader"),
        ("network", {"spec": {"input_size": 6}}, "cannot build a reader"),
        ("network", {"spec": {}, "depth": 3}, "cannot build a reader"),
        ("calibration", {"knobs": [0, 0], "rates": [1, 1]}, "knobs must increase"),
        ("files", {}, "model.safetensors"),
        ("coder", {"kind": "bytes"}, "no coder is called 'bytes'"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(
    folder: Path, key: str, value: object, said: str
) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ModelError, match=said):
        SkimReader.from_pretrained(folder)


@pytest.mark.parametrize("name", ["cell", "pooling"])
def test_a_network_of_a_kind_there_is_not_is_refused(folder: Path, name: str) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["network"]["spec"][name] = "tree"
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match=f"no {name} is called 'tree'; known: "):
        SkimReader.from_pretrained(folder)


@pytest.mark.parametrize("change", ["shape", "missing", "strange", "no safetensors"])
def test_weights_that_do_not_fit_are_refused(folder: Path, change: str) -> None:
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    if change == "shape":
        weights["head.bias"] = torch.zeros(4)
    elif change == "missing":
        del weights["head.bias"]
    else:
        weights["tail.bias"] = torch.zeros(4)
    data = safetensors.torch.save(weights) if change != "no safetensors" else b"pickle"
    (folder / "model.safetensors").write_bytes(data)
    config = json.loads((folder / "config.json").read_text())
    config["files"]["model.safetensors"] = pretrained.sha256(data).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))
    said = {
        "shape": r"tensor head\.bias should be \(3,\), is \(4,\)",
        "missing": r"tensor head\.bias should be \(3,\), is missing",
        "strange": r"\['tail\.bias'\] are not in it",
        "no safetensors": r"model\.safetensors cannot be read",
    }[change]
    with pytest.raises(ModelError, match=said):
        pretrained.load(folder)


def test_a_vocabulary_of_another_size_than_the_embedding_is_refused() -> None:
    made = random_model()
    with pytest.raises(ConfigError, match="3 ids and the network's embedding 50 rows"):
        ReaderModel(made.network, Vocabulary(["one"]), made.labels)


def test_a_word_with_a_line_break_cannot_be_stored(tmp_path: Path) -> None:
    made = random_model()
    words = ["two\nlines", *WORDS[1:]]
    with pytest.raises(ConfigError, match="may not hold a line break"):
        pretrained.save(ReaderModel(made.network, Vocabulary(words), made.labels), tmp_path / "m")
    assert not (tmp_path / "m").exists()


# Models that come with streamdyn.


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two shipped models of one task."""
    for name in ("skim_rnn", "skip_rnn"):
        pretrained.save(random_model(name), tmp_path / "mood" / name)
    (tmp_path / "mood" / "default.txt").write_text("skim_rnn\n")
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path)


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(("name", "reader"), [("mood", "skim_rnn"), ("mood/skip_rnn", "skip_rnn")])
def test_a_shipped_model_is_found_by_its_name(name: str, reader: str) -> None:
    assert SkimReader.load(name).model.network.name == reader
    assert SkimReader(name).model.network.name == reader


@pytest.mark.usefixtures("models")
def test_an_unknown_name_lists_the_shipped_models() -> None:
    with pytest.raises(UnknownName, match="known: mood, mood/skim_rnn, mood/skip_rnn"):
        SkimReader.load("moods")
    with pytest.raises(UnknownName, match="no shipped model or folder is called 'moods'"):
        SkimReader("moods")


def test_a_folder_will_do_for_a_model(folder: Path) -> None:
    assert SkimReader(folder).model.network.name == "skip_rnn"
    assert SkimReader(str(folder), policy="last_k").model.network.name == "last_k"


@pytest.mark.parametrize("name", sorted(pretrained.shipped()))
def test_a_shipped_model_loads_and_reads(name: str) -> None:
    reader = SkimReader.load(name)
    reading = reader("What is the best film of the year ? I liked it .", rate=0.5)
    assert reading.label in reader.model.labels
    assert reading.tokens_read <= reading.tokens_total / 2 + 1
    assert reader.model.card
