"""Text classification tasks, read from the public files in a folder.

One folder for each task, named like it: `imdb/train.csv.gz`, `sst/binary.train.txt` and so on. A
task without a part of its own to tune on holds it out of its training part, by label and checksum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError, UnknownName
from streamdyn.text.task_files import Labels, broken, folds, held_out, read_lines, read_table

_POLARITY = ("neg", "pos")


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Texts with their labels."""

    texts: list[str]
    labels: Labels
    """`(N,)` int64, indices of `Task.labels`."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, chosen: npt.NDArray[np.bool_]) -> Split:
        """Those for which `chosen (N,)` is true."""
        return Split([self.texts[i] for i in np.flatnonzero(chosen)], self.labels[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A classification task; nothing of `test` may be trained or tuned on."""

    name: str
    labels: tuple[str, ...]
    train: Split
    dev: Split
    test: Split
    num_folds: int = 1
    """Values that `fold` may take; 1 where the split is given."""


def load_task(name: str, folder: Path | str, *, fold: int = 0) -> Task:
    """Read one of `TASKS`.

    Args:
        name: See `TASKS`.
        folder: Holds one folder for each task.
        fold: Which fold is the test part, where a task is cross-validated; else 0.

    Raises:
        UnknownName: There is no such task.
        ConfigError: There is no such fold.
        SourceError: A file is missing or broken.
    """
    if name not in _READERS:
        raise UnknownName("text task", name, TASKS)
    task = _READERS[name](Path(folder) / name, fold)
    if not 0 <= fold < task.num_folds:
        many = f"folds 0 to {task.num_folds - 1}" if task.num_folds > 1 else "one split, fold 0"
        raise ConfigError(f"task {name} has {many}, got {fold = }")
    return task


def _imdb(home: Path, fold: int) -> Task:
    """25,000 to train, of which 2,000 are held out; the test part is the half in `test_a`."""
    train, test = (_table(home / f"{part}.csv.gz") for part in ("train", "test_a"))
    return _given(home, _POLARITY, train, test, dev_size=min(2000, len(train) // 10))


def _movie_reviews(home: Path, fold: int) -> Task:
    """The folds are those of the file."""
    path = home / "reviews.csv.gz"
    rows = read_table(path, ["label", "text", "fold"])
    number_of = {str(number): number for number in range(len({row[2] for row in rows}))}
    if not number_of.keys() >= {row[2] for row in rows}:
        raise broken(path, "its folds are not numbered 0, 1 and so on")
    fold_of = np.array([number_of[row[2]] for row in rows], np.int64)
    whole = _coded(path, [(label, text) for label, text, _ in rows], _POLARITY)
    return _crossed(home, _POLARITY, whole, fold_of, fold)


def _rotten_tomatoes(home: Path, fold: int) -> Task:
    """The published dev part is the test part here: the published test part is kept back."""
    train, test = (_table(home / f"{part}.csv.gz") for part in ("train", "dev"))
    return _given(home, _POLARITY, train, test)


def _sst(home: Path, fold: int) -> Task:
    """SST-2, whole sentences only."""
    train, dev, test = (
        _labelled(home / f"binary.{part}.txt", "01", "utf-8") for part in ("train", "dev", "test")
    )
    return _given(home, _POLARITY, train, test, dev)


def _trec(home: Path, fold: int) -> Task:
    """The six coarse labels; 5,452 questions to train, of which a tenth is held out."""
    names = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
    train, test = (_labelled(home / f"{part}.txt", names, "latin-1") for part in ("train", "test"))
    return _given(home, names, train, test)


def _subj(home: Path, fold: int) -> Task:
    """Ten folds of our own."""
    return _two_files(home, ("objective", "subjective"), fold, "cp1252")


def _cr(home: Path, fold: int) -> Task:
    """Ten folds of our own."""
    return _two_files(home, _POLARITY, fold, "utf-8")


def _ag_news(home: Path, fold: int) -> Task:
    """Descriptions only, since the training texts have no titles.

    Both files number their classes from 1. Training texts that stand in the test part are left out.
    """
    names = ("world", "sports", "business", "sci_tech")
    path = home / "test.csv"
    rows = read_table(path, ["label", "title", "content"], header=False)
    test = _coded(path, [(label, _lines(text)) for label, _, text in rows], "1234")
    path = home / "jointmatch_dev.csv"
    rows = read_table(path, ["label", "content"])
    train = _coded(path, [(label, _lines(text)) for label, text in rows], "1234")
    known = set(test.texts)
    train = train.take(np.array([text not in known for text in train.texts], np.bool_))
    return _given(home, names, train, test)


_READERS: Final[dict[str, Callable[[Path, int], Task]]] = {
    "imdb": _imdb,
    "movie_reviews": _movie_reviews,
    "rotten_tomatoes": _rotten_tomatoes,
    "sst": _sst,
    "subj": _subj,
    "cr": _cr,
    "trec": _trec,
    "ag_news": _ag_news,
}
TASKS: Final = tuple(_READERS)
"""Names of all tasks."""


def _given(
    home: Path,
    labels: tuple[str, ...],
    train: Split,
    test: Split,
    dev: Split | None = None,
    dev_size: int | None = None,
) -> Task:
    """A task whose split is published; without a dev part, a tenth of train becomes it."""
    if dev is None:
        train, dev = _apart(train, dev_size or len(train) // 10)
    return Task(home.name, labels, train, dev, test)


def _crossed(
    home: Path, labels: tuple[str, ...], whole: Split, fold_of: npt.NDArray[np.int64], fold: int
) -> Task:
    """A task that is cross-validated: one fold to test, a tenth of the rest to tune."""
    rest, test = whole.take(fold_of != fold), whole.take(fold_of == fold)
    train, dev = _apart(rest, len(rest) // 10)
    return Task(home.name, labels, train, dev, test, int(fold_of.max()) + 1)


def _two_files(home: Path, labels: tuple[str, str], fold: int, encoding: str) -> Task:
    """One file for each label, one text a line."""
    parts = [read_lines(home / f"{label}.txt", encoding) for label in labels]
    whole = Split([*parts[0], *parts[1]], np.repeat(np.arange(2), [len(part) for part in parts]))
    return _crossed(home, labels, whole, folds(_keys(whole), whole.labels, 10), fold)


def _table(path: Path) -> Split:
    """Columns `label` and `text` among others; a text may hold HTML's line breaks."""
    rows = read_table(path, ["label", "text"])
    return _coded(path, [(label, text.replace("<br />", "\n")) for label, text in rows], _POLARITY)


def _labelled(path: Path, codes: Sequence[str], encoding: str) -> Split:
    """`LABEL text` or `LABEL:sublabel text`, one a line."""
    parts = [line.partition(" ") for line in read_lines(path, encoding)]
    return _coded(path, [(head.partition(":")[0], text) for head, _, text in parts], codes)


def _lines(text: str) -> str:
    # AG News writes a line break as a backslash.
    return text.replace("\\", "\n").strip()


def _coded(path: Path, rows: Sequence[tuple[str, str]], codes: Sequence[str]) -> Split:
    """Rows of label and text; `codes[k]` is how the file writes label k."""
    number_of = {code: number for number, code in enumerate(codes)}
    for number, (label, text) in enumerate(rows, 1):
        if label not in number_of:
            raise broken(path, f"text {number} has the label {label!r}, not {', '.join(codes)}")
        if not text.strip():
            raise broken(path, f"text {number} is empty")
    labels = np.array([number_of[label] for label, _ in rows], np.int64)
    return Split([text for _, text in rows], labels)


def _apart(split: Split, count: int) -> tuple[Split, Split]:
    """All but `count` texts, and these."""
    chosen = held_out(_keys(split), split.labels, count)
    return split.take(~chosen), split.take(chosen)


def _keys(split: Split) -> list[bytes]:
    return [text.encode() for text in split.texts]
