import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from index_samples import CLIP, fill, write_all

from streamdyn.errors import SchemaTooNew, StoreError
from streamdyn.index import MediaRow, SqliteIndex
from streamdyn.index.schema import SCHEMA_VERSION
from streamdyn.testing.sinks import sample_results


def test_four_threads_may_share_an_index(tmp_path):
    files = [MediaRow(f"clip{i}.mp4") for i in range(8)]
    failures = []

    def work(shared, mine):
        try:
            for media in mine:
                fill(shared, media, num_windows=20).finish()
        except Exception as exc:
            failures.append(exc)

    with SqliteIndex(tmp_path / "threads.db") as shared, SqliteIndex(tmp_path / "one.db") as one:
        threads = [threading.Thread(target=work, args=(shared, files[i::4])) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        work(one, files)
        assert failures == []
        assert shared.rows() == one.rows()
        assert shared.fetch("PRAGMA integrity_check") == [("ok",)]


_CHILD = """
import sys
from streamdyn.index import MediaRow, SqliteIndex
from streamdyn.testing.sinks import sample_results

index = SqliteIndex(sys.argv[1])
media = MediaRow("clip.mp4", bytes=10, mtime_ns=5, fingerprint="abc")
sink = index.begin(media, "c")
done = int(index.checkpoint(media.id) or b"0")
for result in sample_results(media.path, 400)[done // 10 :]:
    sink.write(result, b"%d" % result.window.stop)
    print(result.window.stop, flush=True)
sink.finish()
"""


def test_a_killed_writer_leaves_an_index_that_can_be_gone_on_with(tmp_path):
    path = tmp_path / "killed.db"
    seen = 0
    for kills in (7, 5):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(kills):
            seen = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert child.returncode == -signal.SIGKILL
    assert seen > 70
    with SqliteIndex(path) as index:
        assert index.fetch("PRAGMA integrity_check") == [("ok",)]
        assert int(index.checkpoint(CLIP.id)) >= seen
        assert [w.block.stop for w in index.windows(CLIP.id)][-1] == int(index.checkpoint(CLIP.id))
    subprocess.run([sys.executable, "-c", _CHILD, str(path)], check=True, capture_output=True)
    with SqliteIndex(path, mode="read") as index, SqliteIndex(tmp_path / "unbroken.db") as unbroken:
        fill(unbroken, num_windows=400).finish()
        assert index.rows() == unbroken.rows()


def test_a_full_disk_is_named_and_the_last_window_is_kept(tmp_path):
    path = tmp_path / "x.db"
    with SqliteIndex(path) as index:
        sink = index.begin(CLIP, "c")
        ((pages,),) = index.fetch("PRAGMA page_count")
        index.fetch(f"PRAGMA max_page_count = {pages + 8}")
        results = sample_results(CLIP.path, 400)
        with pytest.raises(StoreError, match=r"disk is full.*before item \d+ is kept; free some"):
            write_all(sink, results)
        done = int(index.checkpoint(CLIP.id))
        assert [w.block.stop for w in index.windows(CLIP.id)][-1] == done
    with SqliteIndex(path) as index, SqliteIndex(tmp_path / "unbroken.db") as unbroken:
        assert index.fetch("PRAGMA integrity_check") == [("ok",)]
        sink = index.begin(CLIP, "c")
        write_all(sink, results[done // 10 :])
        sink.finish()
        fill(unbroken, num_windows=400).finish()
        assert index.rows() == unbroken.rows()


_LIMITED = """
import resource, sys
from streamdyn.errors import StoreError
from streamdyn.index import MediaRow, SqliteIndex
from streamdyn.testing.sinks import sample_results

with SqliteIndex(sys.argv[1]) as index:
    sink = index.begin(MediaRow("clip.mp4"), "c")
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    try:
        for result in sample_results("clip.mp4", 1000):
            sink.write(result, b"%d" % result.window.stop)
    except StoreError as exc:
        print(exc)
"""


def test_a_write_that_the_system_refuses_leaves_the_last_window(tmp_path):
    path = tmp_path / "x.db"
    child = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(path)], check=True, capture_output=True, text=True
    )
    assert "cannot write items" in child.stdout
    assert "is kept" in child.stdout
    with SqliteIndex(path, mode="read") as index:
        assert index.fetch("PRAGMA integrity_check") == [("ok",)]
        done = int(index.checkpoint(CLIP.id))
        assert [w.block.stop for w in index.windows(CLIP.id)][-1] == done


def test_a_reading_command_makes_no_file(tmp_path):
    path = tmp_path / "x.db"
    with pytest.raises(StoreError, match=r"no index at .*x\.db; make one with streamdyn"):
        SqliteIndex(path, mode="read")
    assert not path.exists()
    path.touch()
    with pytest.raises(StoreError, match="the file is empty"):
        SqliteIndex(path, mode="read")
    assert path.stat().st_size == 0


@pytest.mark.parametrize("mode", ["read", "write"])
@pytest.mark.parametrize("content", [b"hello", b"x" * 5000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, mode, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="not an index or is damaged"):
        SqliteIndex(path, mode=mode)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_index_is_named(tmp_path):
    path = tmp_path / "x.db"
    with SqliteIndex(path) as index:
        fill(index, num_windows=50).finish()
    content = bytearray(path.read_bytes())
    content[4096:-4096] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"), SqliteIndex(path, mode="read") as index:
        index.rows()


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE media (a)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="database of another program; give the index a file"):
        SqliteIndex(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "x.db"
    with SqliteIndex(path) as index:
        index.fetch(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(SchemaTooNew, match=f"has version {SCHEMA_VERSION + 1}.*update streamdyn"):
        SqliteIndex(path)


def test_places_where_no_index_can_be_are_named(tmp_path):
    with pytest.raises(StoreError, match="it is a folder; name a file"):
        SqliteIndex(tmp_path)
    with pytest.raises(StoreError, match="does not exist; make it first"):
        SqliteIndex(tmp_path / "missing" / "x.db")
    if Path("/proc").is_dir():
        with pytest.raises(StoreError, match=r"cannot be written.*put the index elsewhere"):
            SqliteIndex("/proc/x.db")


@pytest.fixture
def unprivileged():
    """A user who cannot write everywhere; root can."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_an_index_in_a_read_only_folder_can_be_read_and_not_written(unprivileged):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder) / "x.db"
        with SqliteIndex(path) as index:
            fill(index).finish()
            rows = index.rows()
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        with SqliteIndex(path, mode="read") as index:
            assert not index.writable
            assert index.rows() == rows
        with pytest.raises(StoreError, match="cannot be written"):
            SqliteIndex(path)
        Path(folder).chmod(0o755)


def test_two_processes_may_write_side_by_side(tmp_path):
    path = tmp_path / "x.db"
    with SqliteIndex(path) as left, SqliteIndex(path) as right:
        a = left.begin(MediaRow("a.mp4"), "c")
        b = right.begin(MediaRow("b.mp4"), "c")
        for x, y in zip(sample_results("a.mp4"), sample_results("b.mp4"), strict=True):
            a.write(x, b"a")
            b.write(y, b"b")
        a.finish()
        b.finish()
        assert left.rows() == right.rows()
        assert [m.status for m in left.media()] == ["done", "done"]
