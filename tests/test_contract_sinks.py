import json
import subprocess
import sys
from pathlib import Path

import pytest

from streamdyn.errors import StoreError
from streamdyn.index import SqliteIndex
from streamdyn.index.jsonl import JsonlSink
from streamdyn.index.search import search
from streamdyn.index.sqlite import SqliteSink
from streamdyn.registry import build, parts
from streamdyn.testing.sinks import check_sink, sample_results


def _read_sqlite(path: Path) -> object:
    with SqliteIndex(path, mode="read") as index:
        return index.rows()


READERS = {"sqlite": _read_sqlite, "jsonl": Path.read_bytes}


@pytest.mark.parametrize("name", sorted(parts("sink")))
def test_a_sink_keeps_its_contract(name, tmp_path):
    path = tmp_path / "out"
    read = READERS.get(name)
    check_sink(lambda: build("sink", name, path=path), read and (lambda: read(path)))


def test_the_built_in_sinks_are_known():
    assert set(READERS) <= set(parts("sink"))


class _Appends:
    """Appends without looking, which is what the check is there to find."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, result, checkpoint) -> None:
        with self.path.open("a") as file:
            file.write(f"{result.window.first}\n")

    def close(self) -> None:
        self.path.touch()


def test_check_sink_finds_a_sink_that_writes_twice(tmp_path):
    path = tmp_path / "out"
    with pytest.raises(AssertionError, match="twice must change nothing"):
        check_sink(lambda: _Appends(path), path.read_bytes)


def test_check_sink_finds_something_that_is_no_sink():
    with pytest.raises(AssertionError, match="a sink must have write"):
        check_sink(object)


def test_jsonl_takes_off_a_line_that_a_crash_cut_short(tmp_path):
    path = tmp_path / "out.jsonl"
    first, second, third = sample_results("s")
    sink = JsonlSink(path)
    sink.write(first, b"1")
    whole = path.read_bytes()
    sink.write(third, None)
    path.write_bytes(path.read_bytes()[:-20])
    sink.close()
    sink = JsonlSink(path)
    assert sink.checkpoint() == b"1"
    for result in (second, third):
        sink.write(result, b"2")
    sink.finish()
    sink.close()
    assert sink.checkpoint() is None
    assert path.read_bytes().startswith(whole)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({record["id"] for record in records}) == len(records)
    kinds = [record["kind"] for record in records]
    assert (kinds.count("outcome"), kinds.count("error"), kinds.count("audit")) == (4, 3, 2)


def test_jsonl_leaves_a_file_alone_that_it_did_not_write(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello\nworld\n")
    with pytest.raises(StoreError, match="line 1 is not one that streamdyn wrote"):
        JsonlSink(path)
    assert path.read_text() == "hello\nworld\n"
    with pytest.raises(StoreError, match="name a file that may be written"):
        JsonlSink(tmp_path / "missing" / "out.jsonl")


_LIMITED = """
import resource, sys
from streamdyn.errors import StoreError
from streamdyn.index.jsonl import JsonlSink
from streamdyn.testing.sinks import sample_results

resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
sink = JsonlSink(sys.argv[1])
try:
    for result in sample_results("s", 1000):
        sink.write(result, b"%d" % result.window.stop)
except StoreError as exc:
    print(exc)
"""


def test_jsonl_keeps_whole_windows_when_the_disk_is_full(tmp_path):
    path = tmp_path / "out.jsonl"
    child = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(path)], check=True, capture_output=True, text=True
    )
    assert "everything before is kept; free some space" in child.stdout
    sink = JsonlSink(path)
    done = int(sink.checkpoint())
    sink.close()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert max(record["ordinal"] for record in records) < done
    assert len(records) == sum(
        len(r.outcomes) + len(r.errors) + len(r.audits) for r in sample_results("s", done // 10)
    )


def test_the_sqlite_sink_can_be_finished_and_searched(tmp_path):
    path = tmp_path / "out.db"
    sink = SqliteSink(path)
    for stream in ("a", "b"):
        for result in sample_results(stream):
            sink.write(result, b"3")
    assert sink.checkpoint("b") == b"3"
    sink.finish()
    sink.close()
    with SqliteIndex(path, mode="read") as index:
        assert [media.status for media in index.media()] == ["done", "done"]
        assert len(search(index, "dog", mode="text")) == 4
