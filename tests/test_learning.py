"""The trainer, its alarms, and what calibration promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from streamdyn.errors import ConfigError
from streamdyn.learning.alarms import collapses
from streamdyn.learning.evaluation import calibrate, evaluate
from streamdyn.learning.examples import Examples, batches
from streamdyn.learning.recipe import Recipe
from streamdyn.learning.trainer import Trainer
from streamdyn.registry import parts
from streamdyn.text.network import NetworkSpec, ReaderNetwork

RECIPE = Recipe(epochs=6, batch_size=16, learning_rate=0.02, target_rate=0.4, cost_step=0.05)


def keyword_examples(n: int = 320, seed: int = 0) -> Examples:
    """Twelve words, one of which (2 or 3) tells the label; the others, 4 to 9, say nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    inputs = []
    for label in labels:
        words = rng.integers(4, 10, 12).astype(np.int32)
        words[rng.integers(0, 12)] = 2 + label
        inputs.append(words)
    return Examples(inputs, labels)


def skip_rnn(seed: int = 0) -> ReaderNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        spec = NetworkSpec(input_size=8, hidden_size=12, num_outputs=2, num_words=10)
        made: ReaderNetwork = parts("reader")["skip_rnn"](spec)
    return made


def test_a_reader_learns_and_is_drawn_towards_the_target_rate() -> None:
    network, reports = skip_rnn(), []
    Trainer(network, keyword_examples(), RECIPE, on_epoch=reports.append).run()
    assert [r.epoch for r in reports] == list(range(6))
    assert reports[-1].loss < 0.8 * reports[0].loss
    assert reports[-1].read_rate < 0.8 < reports[0].read_rate
    result = evaluate(network.executor(), keyword_examples(seed=1))
    assert result.score > 0.6
    assert 0 < result.read_rate < 0.8


def test_a_training_that_was_interrupted_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    unbroken = skip_rnn()
    Trainer(unbroken, keyword_examples(64), RECIPE).run()

    class Interrupted(Exception):
        pass

    def stop_after_two(report: object) -> None:
        if report.epoch == 1:  # type: ignore[attr-defined]
            raise Interrupted

    file = tmp_path / "training.pt"
    with pytest.raises(Interrupted):
        Trainer(
            skip_rnn(), keyword_examples(64), RECIPE, checkpoint=file, on_epoch=stop_after_two
        ).run()
    resumed = skip_rnn(seed=5)
    reports = Trainer(resumed, keyword_examples(64), RECIPE, checkpoint=file).run()
    assert len(reports) == RECIPE.epochs
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    with pytest.raises(ConfigError, match="another recipe"):
        Trainer(skip_rnn(), keyword_examples(), replace(RECIPE, seed=1), checkpoint=file)


def test_an_estimator_that_a_reader_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="skip_rnn learns by straight_through, not by 'oracle'"):
        Trainer(skip_rnn(), keyword_examples(), Recipe(estimator="oracle"))


def test_alarms_name_the_collapse() -> None:
    assert str(collapses([0.5, 0.999], 0.0, target_rate=0.2)[0]).startswith(
        "epoch 1: the reader reads all"
    )
    assert [a.collapse for a in collapses([0.001], 0.0, target_rate=None)] == ["reads none"]
    assert [a.collapse for a in collapses([0.3], 0.7, target_rate=0.2)] == [
        "reads the same place again"
    ]
    assert collapses([1.0], 0.0, target_rate=None) == []


def test_calibrated_knobs_give_the_rates_that_they_promise() -> None:
    network = skip_rnn()
    Trainer(network, keyword_examples(), RECIPE).run()
    executor, held_out = network.executor(), keyword_examples(seed=2)
    calibration = calibrate(executor, held_out.inputs)
    assert all(np.diff(calibration.rates) <= 0)
    for rate in calibration.rates[1:-1:3]:
        got = evaluate(executor, held_out, knob=calibration.knob_for(rate)).read_rate
        assert got == pytest.approx(rate, abs=0.06)


def test_batches_hold_every_example_once_and_crop_the_long_ones() -> None:
    lengths = [1, 5, 0, 9, 30, 2, 2, 7]
    inputs = [np.full(n, 10 + k, np.int32) for k, n in enumerate(lengths)]
    examples = Examples(inputs, np.arange(8))
    made = list(batches(examples, 3, longest=8, generator=np.random.default_rng(0)))
    assert sorted(int(t) for batch in made for t in batch.targets) == list(range(8))
    for batch in made:
        for row, length, target in zip(batch.inputs, batch.lengths, batch.targets, strict=True):
            wanted = max(min(lengths[target], 8), 1)
            assert int(length) == wanted
            value = 10 + int(target) if lengths[target] else 0
            assert row[:wanted].tolist() == [value] * wanted
            assert row[wanted:].tolist() == [0] * (len(row) - wanted)
