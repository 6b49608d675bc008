"""An index in LanceDB, on a disk or in an object store: made by `export`, and searched there.

What SQLite holds goes over row by row, and what it answers comes from the same rows, put back into
SQLite while the index is open; so words find the same, in the same order. Embeddings are the bulk:
they stay in LanceDB, and it finds the candidates of a search by picture.

An export ends with the table `meta`; where it is missing, one has begun and not ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.errors import MissingExtra, StoreError, StreamdynError
from streamdyn.index.reading import SIMILARITY_DIGITS, IndexReader, Neighbour, is_url
from streamdyn.index.sqlite import SqliteIndex

SUFFIX = ".lance"
FORMAT = 1
_TABLES = {
    "media": "*",
    "segments": "*",
    "outcomes": "id, media_id, ordinal, ticks, recognizer, label, score, labels, text, boxes",
    "words": "rowid, label, text, name",
    "runs": "*",
}
"""What is searched, in the order of references; `words` is a full-text index, made anew."""
_NEIGHBOUR_COLUMNS = ("outcome_id", "media_id", "ordinal", "ticks")
_MARGIN = 1e-3
_CHUNK = 4096
"""Rows sent at once."""


def export_lance(index: SqliteIndex, target: str) -> None:
    """Write an index as a LanceDB database; an older one is replaced.

    Args:
        index: What to write.
        target: Folder or URL.

    Raises:
        StoreError: It cannot be written.
        MissingExtra: LanceDB is not installed.
    """
    with (
        _explained(f"write {target}"),
        SqliteIndex(index.path, mode="read") as frozen,
        frozen.snapshot(),
    ):
        database = _connect(target)
        import pyarrow as pa

        database.drop_table("meta", ignore_missing=True)
        for name, columns in _TABLES.items():
            rows = frozen.fetch(f"SELECT {columns} FROM {name} ORDER BY rowid")
            names = _column_names(frozen, name, columns)
            values = list(zip(*rows, strict=True)) if rows else [() for _ in names]
            table = pa.table({n: pa.array(v) for n, v in zip(names, values, strict=True)})
            _replace(database, name, table)
        sizes = frozen.embedding_sizes()
        for recognizer, size in sizes.items():
            table = _embedding_batches(frozen, recognizer, size)
            _replace(database, _table_of(recognizer, sizes), table)
        about = {
            "format": FORMAT, "root": str(frozen.root), "recognizers": list(sizes),
            "sizes": list(sizes.values()),
        }  # fmt: skip
        _replace(database, "meta", pa.Table.from_pylist([about]))


class LanceIndex(IndexReader):
    """An exported index, for searching; use it in a `with` block.

    Args:
        location: Folder or URL.

    Raises:
        StoreError: There is none, or its export has not ended.
        MissingExtra: LanceDB is not installed.
    """

    def __init__(self, location: str) -> None:
        with _explained(f"open {location}"):
            if not is_url(location) and not Path(location).is_dir():
                raise StoreError(
                    f"no index at {location}; make one with streamdyn export --format lance"
                )
            self._lance = _connect(location)
            about = self._meta(location)
        self._sizes = dict(zip(about["recognizers"], about["sizes"], strict=True))
        self._folder = TemporaryDirectory(prefix="streamdyn")
        super().__init__(Path(self._folder.name) / "index.db")
        self.root = Path(about["root"])
        with _explained(f"read {location}"), self.transaction(f"read {location}") as connection:
            for name in _TABLES:
                table = self._lance.open_table(name).to_arrow()
                places = ", ".join("?" * table.num_columns)
                connection.executemany(
                    f"INSERT INTO {name} ({', '.join(table.column_names)}) VALUES ({places})",
                    zip(*(column.to_pylist() for column in table.columns), strict=True),
                )

    def _meta(self, location: str) -> dict[str, Any]:
        if "meta" not in self._lance.list_tables().tables:
            raise StoreError(
                f"cannot open {location}: there is no index, or its export was cut off; run "
                "streamdyn export --format lance again"
            )
        found: dict[str, Any] = self._lance.open_table("meta").to_arrow().to_pylist()[0]
        if found["format"] != FORMAT:
            raise StoreError(
                f"cannot open {location}: it has format {found['format']} and this streamdyn reads "
                f"{FORMAT}; export the index again"
            )
        return found

    def close(self) -> None:
        """Let go of it."""
        super().close()
        self._folder.cleanup()

    def embedding_sizes(self) -> dict[str, int]:
        """See `IndexReader`."""
        return dict(self._sizes)

    def nearest(self, query: npt.NDArray[np.float32], recognizer: str) -> Iterator[Neighbour]:
        """See `IndexReader`; more are asked for each time that they did not do."""
        with _explained(f"search {self.path}"):
            table = self._lance.open_table(_table_of(recognizer, self._sizes))
            total = table.count_rows()
        given, count = set[str](), 128
        while len(given) < total:
            with _explained(f"search {self.path}"):
                rows = table.search(query).distance_type("cosine").limit(count).to_arrow()
            vectors = np.stack(rows["vector"].to_numpy()).astype(np.float32)
            norms = np.maximum(np.linalg.norm(vectors, axis=1), np.finfo(np.float32).tiny)
            similarity = (vectors @ query / norms).round(SIMILARITY_DIGITS)
            # LanceDB computes with fewer digits: what it left out may be as good as the last ones.
            floor = -np.inf if len(rows) == total else similarity.min() + _MARGIN
            columns = [rows[name].to_pylist() for name in _NEIGHBOUR_COLUMNS]
            for i in np.lexsort((rows["number"].to_numpy(), -similarity)).tolist():
                if similarity[i] > floor and columns[0][i] not in given:
                    given.add(columns[0][i])
                    yield Neighbour._make([*(c[i] for c in columns), float(similarity[i])])
            count = min(total, 4 * count)


def _connect(location: str) -> Any:
    try:
        import lancedb
    except ImportError as exc:
        raise MissingExtra("lancedb", "an index in LanceDB", "lance") from exc
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    # LanceDB does not talk to a server without encryption unless told to.
    options = {"allow_http": "true"} if endpoint.startswith("http://") else None
    return lancedb.connect(location, storage_options=options)


def _embedding_batches(index: IndexReader, recognizer: str, size: int) -> Iterator[Any]:
    import pyarrow as pa

    number = 0
    for chunk in index.embeddings(recognizer, _CHUNK):
        columns = list(zip(*(row[:4] for row, _ in chunk), strict=True))
        values = pa.array(np.concatenate([vector for _, vector in chunk]))
        yield pa.record_batch(
            {
                **{n: pa.array(c) for n, c in zip(_NEIGHBOUR_COLUMNS, columns, strict=True)},
                "number": pa.array(range(number, number + len(chunk))),
                "vector": pa.FixedSizeListArray.from_arrays(values, size),
            }
        )
        number += len(chunk)


def _replace(database: Any, name: str, table: Any) -> None:
    # To overwrite a table that is not there would be warned of.
    database.drop_table(name, ignore_missing=True)
    database.create_table(name, table)


def _table_of(recognizer: str, sizes: dict[str, int]) -> str:
    """By number: not every name of a recognizer can be one of a table."""
    return f"vectors_{list(sizes).index(recognizer)}"


def _column_names(index: IndexReader, table: str, columns: str) -> list[str]:
    if columns != "*":
        return columns.split(", ")
    return [name for _, name, *_ in index.fetch(f"PRAGMA table_info({table})")]


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    try:
        yield
    except StreamdynError:
        raise
    except Exception as exc:
        # LanceDB's errors come from Rust, in many kinds.
        raise StoreError(
            f"cannot {doing}: {str(exc).splitlines()[0]}; check the place, the credentials and the "
            "endpoint in the environment"
        ) from exc
