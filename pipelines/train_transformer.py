"""Train the transformer that skims: MiniLM with gates, on word pieces.

```python
pieces = prepare_pieces("trec", Path("data/text"))
model = train_transformer(pieces)
```
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from streamdyn.learning.evaluation import calibrate
from streamdyn.learning.examples import Examples
from streamdyn.learning.trainer import Trainer
from streamdyn.pipelines.text_recipes import TRANSFORMER, sizes
from streamdyn.pipelines.train_text import FOR_CALIBRATION, OnEpoch, coded, facts
from streamdyn.registry import parts
from streamdyn.text.pretrained import ReaderModel
from streamdyn.text.tasks import Task, load_task
from streamdyn.text.wordpiece import WordPieces

EXIT_CONFIDENCE = 0.95
"""Of a model with heads before the last layer, unless asked otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """A task in word pieces."""

    task: Task
    coder: WordPieces
    train: Examples
    dev: Examples
    test: Examples


def prepare_pieces(name: str, folder: Path, *, fold: int = 0) -> Pieces:
    """Read a task and cut its texts into the pieces of MiniLM."""
    task, coder = load_task(name, folder, fold=fold), WordPieces()
    return Pieces(task, coder, *(coded(part, coder) for part in (task.train, task.dev, task.test)))


def train_transformer(
    pieces: Pieces,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch = lambda stage, report: None,
) -> ReaderModel:
    """One network for every rate, since each batch keeps a share of its pieces drawn anew.

    Args:
        pieces: The task.
        seed: Of weights, noise and order.
        checkpoint: See `Trainer`.
        on_epoch: Told the stage and its report.
    """
    chosen = sizes(pieces.task.name)
    with torch.random.fork_rng(devices=[]):
        # Dropout draws from torch's own generator, which is not ours to seed for good.
        torch.manual_seed(seed)
        network = parts("reader")[TRANSFORMER](
            len(pieces.task.labels),
            train_rates=chosen.piece_rates,
            # Votes counted on the texts that the encoder learns from leave it nothing to learn.
            wide=False,
            low_precision=True,
            **chosen.options.get(TRANSFORMER, {}),
        )
        network.prime(pieces.train.inputs, pieces.train.targets)
        reports = Trainer(
            network,
            pieces.train,
            replace(chosen.pieces, seed=seed),
            checkpoint=checkpoint,
            on_epoch=lambda report: on_epoch(TRANSFORMER, report),
        ).run()
    held_out = pieces.dev.inputs[:FOR_CALIBRATION]
    return ReaderModel(
        network=network,
        coder=pieces.coder,
        labels=pieces.task.labels,
        calibration=calibrate(network.executor(), held_out),
        options={"exit_confidence": EXIT_CONFIDENCE} if len(network.exits) > 1 else {},
        facts=facts(pieces.task, reports, seed),
    )
