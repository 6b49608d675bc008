"""Training and bench of readers on generated sequences: resumed, from files, and true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamdyn.errors import ConfigError, ModelError, UnknownName
from streamdyn.learning.evaluation import evaluate
from streamdyn.learning.trainer import EpochReport
from streamdyn.pipelines import bench_sequences as bench
from streamdyn.pipelines import sequence_recipes as recipes
from streamdyn.pipelines import train_sequences as training
from streamdyn.pipelines.sequence_recipes import (
    RECIPES,
    SequenceRecipe,
    Stage,
    sequence_recipe,
)
from streamdyn.pipelines.text_report import write_page
from streamdyn.pipelines.train_sequences import (
    TASKS,
    SequenceReader,
    evaluate_sequence,
    load_sequence,
    save_sequence,
    train_sequence,
    unseen,
)
from streamdyn.registry import parts

ROWS = ["adding/full_lstm", "adding/skip_lstm", "number_prediction/lstm_jump"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same recipes with few and short examples, and narrow networks."""
    for task in ("adding", "number_prediction"):
        known = TASKS[task]
        spec = replace(known.spec, hidden_size=8)
        monkeypatch.setitem(TASKS, task, replace(known, spec=spec, length=12))
        for row, how in list(RECIPES[task].items()):
            monkeypatch.setitem(RECIPES[task], row, shortened(how))
    monkeypatch.setattr(bench, "LENGTHS", (10, 30))
    monkeypatch.setattr(bench, "_TESTS", 50)
    monkeypatch.setattr(bench, "_TIMED", 3)


def shortened(how: SequenceRecipe) -> SequenceRecipe:
    stages = [
        Stage(replace(stage.recipe, epochs=2, batch_size=20), 60, stage.length and 12)
        for stage in how.stages[:2]
    ]
    return replace(how, stages=tuple(stages))


@pytest.mark.usefixtures("small")
def test_a_bench_that_was_interrupted_gives_the_rows_of_one_that_was_not(tmp_path: Path) -> None:
    whole = bench.bench_sequences(tmp_path / "whole", rows=ROWS)

    def stop(text: str) -> None:
        if text.startswith("number_prediction lstm_jump 1, epoch 0"):
            raise KeyboardInterrupt

    again = tmp_path / "again"
    with pytest.raises(KeyboardInterrupt):
        bench.bench_sequences(again, rows=ROWS, on_step=stop)
    assert sorted(path.name for path in again.iterdir()) == [
        "adding-full_lstm-0.safetensors",
        "adding-skip_lstm-0.safetensors",
        "number_prediction-lstm_jump-0.part.0",
        "number_prediction-lstm_jump-0.part.1",
        "sequences.jsonl",
    ]
    told: list[str] = []
    resumed = bench.bench_sequences(again, rows=ROWS, on_step=told.append)
    assert [without_clock(row) for row in resumed] == [without_clock(row) for row in whole]
    # Stage 0 and the first epoch of stage 1 are not trained again.
    assert [text.split(":")[0] for text in told] == [
        "number_prediction lstm_jump 1, epoch 1", "number_prediction/lstm_jump",
    ]  # fmt: skip
    assert not list(again.glob("*.part*"))
    assert bench.bench_sequences(again, rows=ROWS, on_step=told.append) == resumed
    assert len(told) == 2


@pytest.mark.usefixtures("small")
def test_a_row_tells_what_was_executed(tmp_path: Path) -> None:
    row = bench.bench_sequences(tmp_path, rows=["adding/skip_lstm"])[0]
    network = load_sequence(tmp_path / "adding-skip_lstm-0.safetensors").network
    found = evaluate_sequence("adding", network, count=50)
    assert (row["score"], row["read_rate"], row["n"]) == (found.score, found.read_rate, 50)
    assert row["share_of_variance"] == pytest.approx(found.score * 6)
    assert row["tokens_touched"] == pytest.approx(12 * found.read_rate)
    assert row["met"] is (row["share_of_variance"] < 0.01 and row["read_rate"] <= 0.6)
    assert 0 < row["speed"]["ratio_min"] <= row["speed"]["ratio"] <= row["speed"]["ratio_max"]


@pytest.mark.parametrize("task", RECIPES)
def test_every_reader_that_needs_no_words_has_a_recipe_that_runs(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_words = {"transkimmer", "idf"}
    assert {how.reader for how in RECIPES[task].values()} == set(parts("reader")) - needs_words
    known = TASKS[task]
    small = replace(known, spec=replace(known.spec, hidden_size=12), length=12)
    monkeypatch.setitem(TASKS, task, small)
    digits = tmp_path / "digits.npz"
    generator = np.random.default_rng(0)
    np.savez(digits, x=generator.integers(0, 256, (40, 4, 8), np.uint8), y=np.arange(40) % 10)
    found = {}
    for row, how in RECIPES[task].items():
        start = found[how.start] if how.start else None
        made = train_sequence(task, row, recipe=shortened(how), start=start, digits=digits)
        found[row] = network = made.network
        assert network.name == how.reader
        executed = evaluate_sequence(task, network, count=4, digits=digits)
        assert 0 < executed.read_rate + executed.partial_rate <= 2


@pytest.mark.usefixtures("small")
def test_the_page_shows_each_row_and_the_gain_of_those_that_jump(tmp_path: Path) -> None:
    wanted = ["number_prediction/lstm_shuttle", "adding/hm_rnn", "number_prediction/lstm_jump"]
    rows = bench.bench_sequences(tmp_path, rows=wanted)
    write_page([], tmp_path / "page.md", rows)
    page = (tmp_path / "page.md").read_text()
    lines = page.splitlines()
    table = [line.split(" | ")[:3] for line in lines if line.startswith(("| num", "| add"))]
    assert table[:3] == [
        ["| number_prediction", "lstm_jump", "lstm"],
        ["| number_prediction", "lstm_shuttle", "lstm"],
        ["| adding", "hm_rnn", "lstm"],
    ]
    hm_rnn = next(line for line in lines if "hm_rnn" in line)
    partly = f"{rows[1]['partial_rate']:.0%}" if rows[1]["partial_rate"] else ""
    assert f"| {rows[1]['read_rate']:.0%} | {partly} | 12.0 |" in hm_rnn
    assert page.count("page_length.png") == 1
    assert "| number_prediction, lstm_shuttle: tokens | accuracy | tokens read | speed |" in page
    assert "| number_prediction: lstm_shuttle | " in page
    assert "adding: hm_rnn" not in page  # no target
    assert (tmp_path / "page_length.png").read_bytes()[:4] == b"\x89PNG"
    of_an_earlier_version = rows[1] | {"row": "random_lstm"}
    write_page([], tmp_path / "page.md", [of_an_earlier_version, *rows])
    assert (tmp_path / "page.md").read_text().index("random_lstm") > page.index("hm_rnn")


def without_clock(row: dict[str, Any]) -> dict[str, Any]:
    lengths = [without_clock(point) for point in row.get("lengths", [])]
    timed = ("speed", "training_seconds", "met", "lengths")
    return {key: value for key, value in row.items() if key not in timed} | {"lengths": lengths}


def test_a_jump_reader_learns_where_the_first_number_points_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "NUM_VALUES", 5)
    stage = RECIPES["number_prediction"]["lstm_jump"].stages[0]
    recipe = replace(
        RECIPES["number_prediction"]["lstm_jump"],
        stages=(Stage(replace(stage.recipe, epochs=4, batch_size=32), 2000, 5),),
        options={"read_size": 1, "max_jump": 4, "max_jumps": 1},
    )
    network = train_sequence("number_prediction", "lstm_jump", recipe=recipe).network
    # Trained on five numbers, and then there are two hundred.
    found = evaluate_sequence("number_prediction", network, count=300, length=200)
    assert found.score > 0.95
    assert found.read_rate * 200 <= 2


def test_the_timed_full_read_gives_the_answers_of_the_executed_one() -> None:
    recipe = SequenceRecipe("full", ())
    for task in ("adding", "frequency", "number_prediction"):
        network = train_sequence(task, "full_lstm", recipe=recipe).network
        examples = unseen(task, 3, 20)
        for x in examples.inputs:
            state = network.executor().start()
            executor = network.executor()
            executor.advance(state, x)
            timed = bench.full_read(network, x)[0].numpy()
            np.testing.assert_allclose(executor.logits(state), timed, atol=1e-5)


def test_what_is_tested_is_not_what_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray[Any, Any]] = []

    class Spy(training.Trainer):
        def __init__(self, network: Any, examples: Any, recipe: Any, **rest: Any) -> None:
            seen.extend(examples.inputs)
            super().__init__(network, examples, recipe, **rest)

    monkeypatch.setattr(training, "Trainer", Spy)
    recipe = SequenceRecipe("full", (Stage(replace(recipes._WHOLE, epochs=1), 200),))
    train_sequence("adding", "full_lstm", recipe=recipe)
    trained = {x.tobytes() for x in seen}
    assert len(trained) == 200
    assert trained.isdisjoint(x.tobytes() for x in unseen("adding", 200).inputs)


def test_a_forget_bias_is_where_an_lstm_starts() -> None:
    recipe = SequenceRecipe("full", (), forget_bias=1.0)
    fused = train_sequence("frequency", "full_lstm", recipe=recipe).network.cell.fused
    bias = (fused.bias_ih_l0 + fused.bias_hh_l0).detach().view(4, -1)
    # Input, forget, cell and output gates.
    assert [bool((gate == 1).all()) for gate in bias] == [False, True, False, False]


def test_weights_are_read_as_they_were_written(tmp_path: Path) -> None:
    reader = train_sequence(
        "number_prediction", "lstm_jump", recipe=shortened(
            sequence_recipe("number_prediction", "lstm_jump")
        ),
    )  # fmt: skip
    path = tmp_path / "reader.safetensors"
    save_sequence(reader, path)
    before = torch.random.get_rng_state()
    read = load_sequence(path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert read.seconds == reader.seconds
    examples = unseen("number_prediction", 40, 30)
    answers = [evaluate(r.network.executor(), examples).answers for r in (reader, read)]
    np.testing.assert_array_equal(*answers)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"remove the file to train it again"):
        load_sequence(path)


def test_a_training_tells_its_epochs_and_what_it_lacks(tmp_path: Path) -> None:
    told: list[tuple[str, EpochReport]] = []
    recipe = SequenceRecipe("full", (Stage(replace(recipes._WHOLE, epochs=2), 20, 10),))
    made = train_sequence(
        "adding", "full_gru", recipe=recipe, on_epoch=lambda name, r: told.append((name, r))
    )
    assert isinstance(made, SequenceReader)
    assert [(name, report.epoch) for name, report in told] == [
        ("adding full_gru 0", 0), ("adding full_gru 0", 1),
    ]  # fmt: skip
    assert made.seconds == sum(report.seconds for _, report in told)
    with pytest.raises(ConfigError, match="starts from full_gru"):
        train_sequence("adding", "skip_gru")
    other = train_sequence("adding", "full_lstm", recipe=SequenceRecipe("full", ())).network
    with pytest.raises(ConfigError, match=r"starts from sizes .*'gru'.*, got .*'lstm'"):
        train_sequence("adding", "skip_gru", start=other)
    with pytest.raises(ConfigError, match="needs its npz file"):
        train_sequence("digits", "full_lstm")
    with pytest.raises(UnknownName, match="row of adding"):
        train_sequence("adding", "idf")
    with pytest.raises(UnknownName, match="row of sequences"):
        bench.bench_sequences(tmp_path, rows=["adding/none"])
    with pytest.raises(ConfigError, match="needs the npz file"):
        bench.bench_sequences(tmp_path, rows=["digits/full_lstm"])


def test_a_target_is_met_only_by_all_it_asks_for() -> None:
    solved = {"share_of_variance": 0.009, "read_rate": 0.6, "score": 0.0015}
    assert bench.is_met("adding", "skip_gru", solved) is True
    assert bench.is_met("adding", "skip_gru", solved | {"read_rate": 0.61}) is False
    assert bench.is_met("adding", "skip_gru", solved | {"share_of_variance": 0.01}) is False
    assert bench.is_met("adding", "random", solved) is False
    assert bench.is_met("adding", "random_gru", solved) is False
    assert bench.is_met("adding", "full_gru", solved) is None
    assert bench.is_met("frequency", "skip_lstm", {"score": 0.991, "read_rate": 0.25}) is True
    assert bench.is_met("frequency", "skip_lstm", {"score": 0.99, "read_rate": 0.25}) is False

    def jumps(*ratios: float, score: float = 0.95) -> dict[str, Any]:
        point = {"score": score, "tokens_touched": 3.0}
        return {"read_rate": 0, "lengths": [point | {"speed": {"ratio": r}} for r in ratios]}

    assert bench.is_met("number_prediction", "lstm_jump", jumps(1, 2, 3)) is True
    assert bench.is_met("number_prediction", "lstm_jump", jumps(1, 3, 2)) is False
    assert bench.is_met("number_prediction", "lstm_jump", jumps(1, 2, score=0.94)) is False
