"""Files that text tasks are published in, and splits that need no random generator."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from streamdyn.errors import SourceError

Labels = npt.NDArray[np.int64]
Row = TypeVar("Row")


def read_table(path: Path, columns: Sequence[str], *, header: bool = True) -> list[list[str]]:
    """Rows of a CSV file, `.gz` or not, with the columns asked for in that order.

    Args:
        path: UTF-8.
        columns: By the names in the first line; without a header, the names of all columns.
        header: The first line names the columns.

    Raises:
        SourceError: It is missing, cut short, not UTF-8 or not of this form.
    """
    with _reading(path), io.StringIO(_content(path).decode("utf-8-sig"), newline="") as file:
        reader = csv.reader(file, strict=True)
        names = next(reader, []) if header else columns
        missing = set(columns).difference(names)
        if missing:
            raise broken(path, f"its first line names no column {', '.join(sorted(missing))}")
        places = [names.index(column) for column in columns]
        rows = []
        for row in filter(None, reader):
            if len(row) != len(names):
                raise broken(path, f"line {reader.line_num} has {len(row)} columns of {len(names)}")
            rows.append([row[place] for place in places])
    return _some(path, rows)


def read_lines(path: Path, encoding: str) -> list[str]:
    """Lines that are not blank, stripped.

    Raises:
        SourceError: It is missing or in another encoding.
    """
    with _reading(path):
        text = _content(path).decode(encoding)
    # Not splitlines(): a byte that some encodings take for a line break stands inside sentences.
    return _some(path, [line.strip() for line in text.split("\n") if line.strip()])


def broken(path: Path, why: str) -> SourceError:
    """The error for a file that is there and holds something else."""
    return SourceError(f"cannot read {path}: {why}; fetch the file again")


def shuffled(items: Iterable[bytes], labels: Labels) -> npt.NDArray[np.int64]:
    """Indices ordered by label and then by checksum: every n-th of them is a stratified sample.

    Neither the order in the file nor the version of a random generator changes who is drawn.
    """
    checksums = np.fromiter(map(zlib.crc32, items), np.int64)
    return np.lexsort((checksums, labels))


def folds(items: Iterable[bytes], labels: Labels, num_folds: int) -> npt.NDArray[np.int64]:
    """`(N,)` the fold of each, from 0; stratified and deterministic."""
    fold = np.empty(len(labels), np.int64)
    fold[shuffled(items, labels)] = np.arange(len(labels)) % num_folds
    return fold


def held_out(items: Iterable[bytes], labels: Labels, count: int) -> npt.NDArray[np.bool_]:
    """`(N,)` true for `count` of them; stratified and deterministic."""
    chosen = np.zeros(len(labels), np.bool_)
    chosen[shuffled(items, labels)[np.arange(count) * len(labels) // count]] = True
    return chosen


def _some(path: Path, rows: list[Row]) -> list[Row]:
    if not rows:
        raise broken(path, "it holds no texts")
    return rows


def _content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except SourceError:
        raise
    except FileNotFoundError as exc:
        raise SourceError(
            f"cannot read {path}: there is no such file; "
            "name the folder that holds one folder for each task"
        ) from exc
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as exc:
        raise broken(path, str(exc)) from exc
