"""Train readers on generated sequences: adding, frequency, p[p[0]], and digits in scan order.

```python
full = train_sequence("adding", "full_lstm")
reader = train_sequence("adding", "skip_lstm", start=full.network)
evaluate_sequence("adding", reader.network).read_rate
```

Differs from Skip RNN's paper (arXiv:1708.06834): but for jumps to p[0], a reader starts from a
full read that has learned the task, and batches are of 64 to 256, so that a training takes minutes
of one core.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from streamdyn.errors import ConfigError, ModelError
from streamdyn.learning.evaluation import Evaluation, evaluate
from streamdyn.learning.examples import Examples
from streamdyn.learning.trainer import EpochReport, Trainer
from streamdyn.pipelines.sequence_recipes import NUM_VALUES, SequenceRecipe, sequence_recipe
from streamdyn.registry import parts
from streamdyn.text.network import NetworkSpec, ReaderNetwork, fresh_network
from streamdyn.text.sequences import (
    Sequences,
    adding,
    frequency,
    number_prediction,
    sequential_digits,
)

OnEpoch = Callable[[str, EpochReport], None]
DIGITS_WIDTH = 4
"""Pixels a step: 100 steps a digit."""
_TESTED = 1 << 20
"""Seed of what is tested, beside the seed of the training."""


@dataclass(frozen=True, slots=True)
class SequenceTask:
    """Where the sequences come from, and the sizes of what reads them."""

    spec: NetworkSpec
    make: Callable[[np.random.Generator, int, int], Sequences] | None = None
    """Generator, count, length → sequences; `None`: they are in a file."""
    length: int = 0
    """Of the sequences tested."""
    variance: float | None = None
    """Of the targets of a regression."""


def _number_prediction(generator: np.random.Generator, count: int, length: int) -> Sequences:
    return number_prediction(generator, count, length=length, num_values=NUM_VALUES)


TASKS: dict[str, SequenceTask] = {
    "number_prediction": SequenceTask(
        NetworkSpec(32, 64, NUM_VALUES, num_words=NUM_VALUES + 1, pooling="last"),
        _number_prediction,
        length=100,
    ),
    "adding": SequenceTask(
        NetworkSpec(2, 110, 1, pooling="last"),
        lambda generator, count, length: adding(generator, count, length=length),
        length=50,
        variance=1 / 6,
    ),
    "frequency": SequenceTask(
        NetworkSpec(1, 110, 2, pooling="last"),
        lambda generator, count, length: frequency(generator, count, samples=length),
        length=100,
    ),
    "digits": SequenceTask(NetworkSpec(DIGITS_WIDTH, 110, 10, pooling="last")),
}


@dataclass(frozen=True, slots=True, eq=False)
class SequenceReader:
    """A trained reader."""

    network: ReaderNetwork
    seconds: float
    """Of training, its start's not included."""


def train_sequence(
    task: str,
    row: str,
    *,
    recipe: SequenceRecipe | None = None,
    start: ReaderNetwork | None = None,
    digits: Path | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch = lambda stage, report: None,
) -> SequenceReader:
    """Train a row of a task.

    Args:
        task: Of `TASKS`.
        row: Of `sequence_recipes.RECIPES[task]`.
        recipe: In place of the row's own.
        start: Trained network of the row that the recipe starts from.
        digits: File of the task `digits`.
        seed: Of sequences, weights, noise and order.
        checkpoint: Each stage puts its state after each epoch into a file by this name and its
            number, and a training that finds such files goes on from there.
        on_epoch: Told the row and stage, and the report of an epoch.

    Raises:
        ConfigError: The recipe starts from another row and `start` is missing, or of other sizes.
    """
    how = recipe or sequence_recipe(task, row)
    spec = replace(TASKS[task].spec, cell=how.cell)
    network = fresh_network(how.reader, spec, seed, how.options)
    if how.forget_bias is not None:
        size = spec.hidden_size
        with torch.no_grad():
            for name in ("bias_ih_l0", "bias_hh_l0"):
                bias = network.cell.fused.get_parameter(name)
                bias[size : 2 * size] = how.forget_bias / 2
    if how.start:
        if start is None:
            raise ConfigError(
                f"{task}: {row} starts from {how.start}; train it and give it as start"
            )
        if start.spec != spec:
            raise ConfigError(f"{task}: {row} starts from sizes {spec}, got {start.spec}")
        network.start_from(start)
    seconds = 0.0
    for number, stage in enumerate(how.stages):
        length = stage.length or TASKS[task].length
        generator = np.random.default_rng((seed, number))
        if task == "digits":
            examples = _digits(digits, 0)
        else:
            examples = _examples(task, generator, stage.examples, length)
        reports = Trainer(
            network,
            examples,
            replace(stage.recipe, seed=seed),
            checkpoint=stage_file(checkpoint, number) if checkpoint else None,
            on_epoch=partial(on_epoch, f"{task} {row} {number}"),
        ).run()
        seconds += sum(report.seconds for report in reports)
    return SequenceReader(network.eval(), seconds)


def stage_file(checkpoint: Path, number: int) -> Path:
    """Where a stage keeps its state."""
    return checkpoint.with_name(f"{checkpoint.name}.{number}")


def evaluate_sequence(
    task: str,
    network: ReaderNetwork,
    *,
    count: int = 2000,
    length: int | None = None,
    digits: Path | None = None,
    seed: int = 0,
) -> Evaluation:
    """Execute a reader on fresh sequences, or on the test part of the digits."""
    return evaluate(network.executor(), unseen(task, count, length, digits, seed))


def unseen(
    task: str, count: int, length: int | None = None, digits: Path | None = None, seed: int = 0
) -> Examples:
    """Sequences that no training has seen."""
    if task == "digits":
        return _digits(digits, 2)
    chosen = length or TASKS[task].length
    return _examples(task, np.random.default_rng((seed, _TESTED, chosen)), count, chosen)


def save_sequence(reader: SequenceReader, path: Path) -> None:
    """Write weights, and what builds the network again."""
    config = {
        "reader": reader.network.name,
        "network": reader.network.config(),
        "seconds": reader.seconds,
    }
    data = safetensors.torch.save(reader.network.state_dict(), {"config": json.dumps(config)})
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    part.replace(path)


def load_sequence(path: Path) -> SequenceReader:
    """Read what `save_sequence` wrote.

    Raises:
        ModelError: The file is missing, cut short or something else.
    """
    try:
        with safe_open(path, "pt") as file:
            config = json.loads(file.metadata()["config"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        with torch.random.fork_rng(devices=[]):
            network: ReaderNetwork = parts("reader")[config["reader"]].from_config(  # type: ignore[attr-defined]
                config["network"]
            )
        network.load_state_dict(weights)
        return SequenceReader(network.eval(), config["seconds"])
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as exc:
        raise ModelError(
            f"cannot read a reader from {path}: {type(exc).__name__}: {exc}; remove the file to "
            "train it again"
        ) from exc


def _examples(task: str, generator: np.random.Generator, count: int, length: int) -> Examples:
    make = TASKS[task].make
    assert make is not None
    return _listed(make(generator, count, length))


def _digits(path: Path | None, part: int) -> Examples:
    if path is None:
        raise ConfigError("the task digits needs its npz file; give it as digits")
    return _listed(sequential_digits(path, width=DIGITS_WIDTH)[part])


def _listed(made: Sequences) -> Examples:
    return Examples(list(made.inputs), made.targets)
