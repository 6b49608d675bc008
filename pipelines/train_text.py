"""Train a reader on a text task: full read first, then what to leave out, then its calibration.

```python
prepared = prepare("trec", Path("data/text"))
model = train_reader(prepared, "skim_rnn", train_full(prepared))
```
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from streamdyn.learning.evaluation import calibrate
from streamdyn.learning.examples import Examples
from streamdyn.learning.recipe import Recipe
from streamdyn.learning.trainer import EpochReport, Trainer
from streamdyn.pipelines.text_recipes import recipe, sizes
from streamdyn.text.network import NetworkSpec, ReaderNetwork, fresh_network
from streamdyn.text.pretrained import ReaderModel
from streamdyn.text.tasks import Split, Task, load_task
from streamdyn.text.vectors import label_importance, log_count_ratio, wordllama_vectors
from streamdyn.text.words import TextCoder, Vocabulary


@runtime_checkable
class Primed(Protocol):
    """A reader whose gate can start from one value of its input."""

    def prime(self, column: int) -> None:
        """Read the tokens in which this value is large."""


OnEpoch = Callable[[str, EpochReport], None]
_VECTOR_SCALE = 0.5
FOR_CALIBRATION = 500
"""Held-out texts that a calibration reads."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A task in the form that readers take."""

    task: Task
    coder: Vocabulary
    train: Examples
    dev: Examples
    test: Examples
    table: np.ndarray[Any, np.dtype[np.float32]]
    """`(num_words, input_size)`: pretrained vectors, how each word leans to the labels, and how
    surely it tells about them."""
    importance: dict[str, np.ndarray[Any, np.dtype[np.float32]]]
    """Row in `RECIPES` → `(num_words,)`, what `idf` orders tokens by: the inverse document
    frequency, or how surely a word tells about the label."""


def prepare(name: str, folder: Path, *, fold: int = 0) -> Prepared:
    """Read a task, make its vocabulary from the training part, and look up its words."""
    chosen = sizes(name)
    task = load_task(name, folder, fold=fold)
    coder = Vocabulary.from_texts(
        task.train.texts, at_least=chosen.words_at_least, limit=chosen.max_words
    )
    train, dev, test = (coded(split, coder) for split in (task.train, task.dev, task.test))
    ratios = log_count_ratio(train.inputs, task.train.labels, len(coder))  # type: ignore[arg-type]
    if len(task.labels) == 2:
        ratios = ratios[:, 1:]
    telling = label_importance(train.inputs, task.train.labels, len(coder))  # type: ignore[arg-type]
    rest = chosen.input_size - ratios.shape[1] - 1
    vectors = wordllama_vectors(["", "", *coder.words], rest)
    columns = [vectors, ratios / ratios.std(), telling[:, None]]
    table = np.concatenate(columns, 1) * np.float32(_VECTOR_SCALE)
    table[0] = 0
    counts = np.zeros(len(coder))
    for ids in train.inputs:
        counts[np.unique(ids)] += 1
    idf = np.log(len(train) / (counts + 1)).astype(np.float32)
    importance = {"idf": idf, "label_odds": telling}
    return Prepared(task, coder, train, dev, test, table.astype(np.float32), importance)


def train_full(
    prepared: Prepared,
    *,
    cell: str = "lstm",
    seed: int = 0,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch = lambda stage, report: None,
) -> ReaderModel:
    """Embedding, cell and head of a task, trained on everything: what all readers start from."""
    chosen = sizes(prepared.task.name)
    spec = NetworkSpec(
        input_size=chosen.input_size,
        hidden_size=chosen.hidden_size,
        num_outputs=len(prepared.task.labels),
        num_words=len(prepared.coder),
        cell=cell,  # type: ignore[arg-type]
        dropout=chosen.dropout,
    )
    network = fresh_network("full", spec, seed)
    assert network.embed is not None
    with torch.no_grad():
        network.embed.weight.copy_(torch.from_numpy(prepared.table))
        network.marks.copy_(torch.from_numpy(prepared.coder.marks()))
    numbers = replace(chosen.full, seed=seed)
    reports = _run(network, prepared.train, numbers, checkpoint, "full", on_epoch)
    return ReaderModel(
        network, prepared.coder, prepared.task.labels, facts=facts(prepared.task, reports, seed)
    )


def train_reader(
    prepared: Prepared,
    row: str,
    full: ReaderModel,
    *,
    seed: int = 0,
    rate: float | None = None,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch = lambda stage, report: None,
) -> ReaderModel:
    """A reader that starts from the full read, calibrated on the held-out part.

    Args:
        prepared: The task.
        row: Name in `RECIPES`.
        full: Trained by `train_full` with the same cell.
        seed: Of weights, noise and order.
        rate: Share of the tokens to train for, in place of the recipe's.
        checkpoint: See `Trainer`.
        on_epoch: Told the stage and its report.
    """
    chosen, how = sizes(prepared.task.name), recipe(row)
    options = {**how.options, **chosen.options.get(row, {})}
    network = fresh_network(how.reader or row, full.network.spec, seed, options)
    network.start_from(full.network)
    if row in prepared.importance:
        network.load_state_dict(
            {"importance": torch.from_numpy(prepared.importance[row])}, strict=False
        )
    if isinstance(network, Primed):
        # The last value of a word is how surely it tells about the label.
        network.prime(network.spec.input_size - 1)
    numbers = replace(
        chosen.reader,
        estimator=how.estimator,
        target_rate=(chosen.target_rate if rate is None else rate) if how.has_target else None,
        seed=seed,
        **{**how.changes, **chosen.changes.get(row, {})},
    )
    reports = _run(network, prepared.train, numbers, checkpoint, row, on_epoch)
    held_out = prepared.dev.inputs[:FOR_CALIBRATION]
    return ReaderModel(
        network=network,
        coder=prepared.coder,
        labels=prepared.task.labels,
        calibration=calibrate(network.executor(), held_out),
        facts=facts(prepared.task, reports, seed),
    )


def facts(task: Task, reports: list[EpochReport], seed: int) -> dict[str, Any]:
    """What a model card says of a training."""
    return {
        "task": task.name,
        "examples": len(task.train),
        "epochs": len(reports),
        "training_seconds": round(sum(r.seconds for r in reports)),
        "alarms": [str(alarm) for report in reports for alarm in report.alarms],
        "seed": seed,
    }


def _run(
    network: ReaderNetwork,
    examples: Examples,
    numbers: Recipe,
    checkpoint: Path | None,
    stage: str,
    on_epoch: OnEpoch,
) -> list[EpochReport]:
    with torch.random.fork_rng(devices=[]):
        # Dropout draws from torch's own generator, which is not ours to seed for good.
        torch.manual_seed(numbers.seed)
        return Trainer(
            network,
            examples,
            numbers,
            checkpoint=checkpoint,
            on_epoch=lambda report: on_epoch(stage, report),
        ).run()


def coded(split: Split, coder: TextCoder) -> Examples:
    """A part of a task in ids."""
    return Examples([coder.encode(text).ids for text in split.texts], split.labels)
