"""Trained readers in a folder: each is trained once, and found there the next time.

```
OUT/trec/full_lstm/     a model folder, see `streamdyn.text.pretrained`
OUT/trec/skim_rnn/
OUT/trec/skim_rnn.part  a training that was interrupted; it goes on after its last epoch
OUT/movie_reviews-3/    fold 3
```
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from streamdyn.errors import ConfigError
from streamdyn.index.placing import write_explained
from streamdyn.pipelines.text_card import card
from streamdyn.pipelines.text_recipes import RECIPES, TRANSFORMER, recipe
from streamdyn.pipelines.train_text import (
    OnEpoch,
    Prepared,
    prepare,
    train_full,
    train_reader,
)
from streamdyn.pipelines.train_transformer import Pieces, prepare_pieces, train_transformer
from streamdyn.text import pretrained
from streamdyn.text.pretrained import ReaderModel
from streamdyn.text.tasks import load_task

FULL = "full"


@dataclass(slots=True)
class TextRuns:
    """Readers of one task and fold.

    Args:
        task: See `streamdyn.text.tasks`.
        data: Folder with one folder for each task.
        out: Where trained readers are kept.
        fold: Test part of a cross-validated task.
        seed: Of every training.
        on_epoch: Told the stage and its report.
    """

    task: str
    data: Path
    out: Path
    fold: int = 0
    seed: int = 0
    on_epoch: OnEpoch = lambda stage, report: None
    _prepared: Prepared | None = field(default=None, init=False)
    _pieces: Pieces | None = field(default=None, init=False)

    @property
    def folder(self) -> Path:
        """Of this task and fold."""
        return self.out / (f"{self.task}-{self.fold}" if self.fold else self.task)

    @property
    def num_folds(self) -> int:
        """Of the task."""
        return load_task(self.task, self.data).num_folds

    @property
    def prepared(self) -> Prepared:
        """The task in words, read when it is first needed."""
        if self._prepared is None:
            self._prepared = prepare(self.task, self.data, fold=self.fold)
        return self._prepared

    @property
    def pieces(self) -> Pieces:
        """The task in word pieces, read when it is first needed."""
        if self._pieces is None:
            self._pieces = prepare_pieces(self.task, self.data, fold=self.fold)
        return self._pieces

    def full(self, cell: str = "lstm") -> ReaderModel:
        """The full read that readers start from."""
        name = f"{FULL}_{cell}"

        def train(part: Path) -> ReaderModel:
            made: ReaderModel = train_full(
                self.prepared, cell=cell, seed=self.seed, checkpoint=part, on_epoch=self.on_epoch
            )
            return made

        return self._kept(name, train)

    def model(self, row: str, *, rate: float | None = None) -> ReaderModel:
        """A row of `RECIPES`, or `full`; trained unless it is in the folder.

        Raises:
            UnknownName: There is no such row.
            ConfigError: What is in the folder has another seed, the row takes no rate, or the rate
                is wrong.
        """
        if rate is not None and (row == FULL or not recipe(row).has_target):
            raise ConfigError(f"{row} is not trained for a rate; leave out --rate")
        if rate is not None and not 0 < rate <= 1:
            raise ConfigError(
                f"--rate is the share of the tokens to train for, in (0, 1], got {rate}"
            )
        if row == FULL:
            return self.full()
        how = recipe(row)

        def train(part: Path) -> ReaderModel:
            made: ReaderModel
            if row == TRANSFORMER:
                made = train_transformer(
                    self.pieces, seed=self.seed, checkpoint=part, on_epoch=self.on_epoch
                )
            else:
                made = train_reader(
                    self.prepared, row, self.full(how.cell), seed=self.seed,
                    rate=rate, checkpoint=part, on_epoch=self.on_epoch,
                )  # fmt: skip
            return made

        return self._kept(self.folder_of(row, rate).name, train)

    def folder_of(self, row: str, rate: float | None = None) -> Path:
        """Where a trained reader is kept."""
        if row == FULL:
            return self.folder / f"{FULL}_lstm"
        return self.folder / (row if rate is None else f"{row}@{rate}")

    def _kept(self, name: str, train: Callable[[Path], ReaderModel]) -> ReaderModel:
        folder, part = self.folder / name, self.folder / f"{name}.part"
        if not (folder / pretrained.CONFIG).exists():
            with write_explained(folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                made = train(part)
                facts = {**made.facts, "fold": self.fold, "command": self._command(name)}
                made = replace(made, facts=facts)
                pretrained.save(replace(made, card=card(made)), folder, half=True)
                part.unlink(missing_ok=True)
        model = pretrained.load(folder)
        if model.facts.get("seed", self.seed) != self.seed:
            raise ConfigError(
                f"{folder} was trained with seed {model.facts['seed']}, not {self.seed}; give "
                "another folder to --out"
            )
        return model

    def _command(self, name: str) -> str:
        row, _, rate = name.partition("@")
        row = row if row in RECIPES else FULL
        options = {"--fold": self.fold, "--seed": self.seed, "--rate": rate}
        given = " ".join(f"{key} {value}" for key, value in options.items() if value)
        return f"streamdyn train text {self.task} {row} {given}".rstrip()
