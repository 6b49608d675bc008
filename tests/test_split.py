"""Long files cut into ranges: the same items, and the same rows whoever watches them."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from clips import CLIPS
from command import one_error, streamdyn
from index_runs import (
    BISECT,
    PART,
    TUNING,
    check_ended_and_run_again,
    config_of,
    rows_of,
)
from scene_clips import drawn_scenes, write_folder, write_scenes

from streamdyn.config import RunConfig
from streamdyn.errors import ConfigError, SourceError
from streamdyn.index import SqliteIndex
from streamdyn.index.schema import APPLICATION_ID, STEPS
from streamdyn.index.search import search
from streamdyn.items import Block, FrameSpec
from streamdyn.pipelines import video_index
from streamdyn.pipelines.process_index import ProcessIndexJob
from streamdyn.pipelines.video_index import IndexJob, Stopped, find_videos
from streamdyn.protocols import WHOLE_FILE, Cursor, MediaRange, Position
from streamdyn.run.file_worker import FileTask
from streamdyn.sources.video_av import VideoAv

SECONDS = 2.5
KEYFRAME = {"name": "keyframe"}
_FACTS = ("pts", "keyframe", "num_bytes", "disposable", "gop", "reach")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of 20, 10 and 2 seconds."""
    return write_folder(tmp_path_factory.mktemp("split") / "videos", (500, 250, 50))


@pytest.fixture(autouse=True)
def part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PART))
    import touchy  # noqa: F401 - registers it here.


def split(config: RunConfig, seconds: float = SECONDS) -> RunConfig:
    return config.model_copy(update={"split_seconds": seconds})


def blocks(cursor: Cursor) -> Iterator[Block]:
    while (block := cursor.next_block()) is not None:
        yield block


@pytest.mark.parametrize("name", CLIPS)
def test_ranges_have_the_items_of_the_file(name: str, tmp_path: Path) -> None:
    check_ranges(CLIPS[name].make(tmp_path), 0.2)


@pytest.mark.parametrize("suffix", [".mpg", ".ts", ".mkv"])
def test_ranges_of_containers_that_seek_otherwise(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, options={"g": "12", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(200):
            picture = np.full((48, 64, 3), number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture).reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert len(VideoAv(path).ranges(1.0)) > 5
    check_ranges(path, 1.0)


def check_ranges(path: Path, seconds: float) -> None:
    """Blocks and pictures are those of the file."""
    source = VideoAv(path)
    ranges = source.ranges(seconds) or [WHOLE_FILE]
    spec = FrameSpec(32, 32)
    with closing(source.open()) as cursor:
        whole = [(b, cursor.materialize(range(b.first, b.stop), spec)) for b in blocks(cursor)]
    parts = []
    for media_range in ranges:
        with closing(source.open_range(media_range)) as cursor:
            found = [(b, cursor.materialize(range(b.first, b.stop), spec)) for b in blocks(cursor)]
        assert found[0][0].first == media_range.first
        assert found[-1][0].stop == media_range.stop or media_range == WHOLE_FILE
        parts += found
    assert len(parts) == len(whole)
    for (block, (items, errors)), (expected, (their_items, their_errors)) in zip(
        parts, whole, strict=True
    ):
        assert (block.first, errors) == (expected.first, their_errors)
        for fact in _FACTS:
            np.testing.assert_array_equal(getattr(block, fact), getattr(expected, fact))
        for item, their in zip(items, their_items, strict=True):
            assert (item.ordinal, item.pts) == (their.ordinal, their.pts)
            np.testing.assert_array_equal(item.data, their.data)


def test_cuts_are_keyframes_about_so_far_apart(tmp_path: Path) -> None:
    path = write_scenes(tmp_path / "x.mp4", drawn_scenes(1, 500), keyint=24)
    ranges = VideoAv(path).ranges(2.0)
    assert [r.first for r in ranges] == [0, 72, 144, 216, 288, 360, 432]
    assert [r.stop for r in ranges] == [72, 144, 216, 288, 360, 432, 500]
    # Nothing but the start of the file is read from the start.
    assert [bool(r.hint) for r in ranges] == [False, True, True, True, True, True, True]
    # A last one of less than half stays with the one before.
    assert [r.first for r in VideoAv(path).ranges(12.0)] == [0, 312]
    assert VideoAv(path).ranges(15.0) == []


def test_a_range_reads_little_more_than_itself(tmp_path: Path) -> None:
    path = write_scenes(tmp_path / "x.mp4", drawn_scenes(1, 500), keyint=24)
    source = VideoAv(path)
    media_range = source.ranges(2.0)[4]
    with closing(source.open_range(media_range)) as cursor:
        list(blocks(cursor))
        assert cursor.take_receipt().num_demuxed <= 72 + 2 * 24 + 1
    with closing(source.open_range(media_range, Position(300, None))) as cursor:
        assert next(blocks(cursor)).first == 300


def test_a_file_that_changed_since_is_said(tmp_path: Path) -> None:
    path = write_scenes(tmp_path / "x.mp4", drawn_scenes(1, 200))
    media_range = VideoAv(path).ranges(2.0)[-1]
    other = write_scenes(tmp_path / "y.mp4", drawn_scenes(2, 200), keyint=17)
    with pytest.raises(SourceError, match="the file has changed since it was split"):
        VideoAv(other).open_range(media_range)


@pytest.mark.parametrize(
    "policy", [BISECT, TUNING, KEYFRAME], ids=["bisect", "one that tunes itself", "keyframe"]
)
def test_rows_are_the_same_whoever_watches(folder: Path, tmp_path: Path, policy: Any) -> None:
    config = split(config_of(policy))
    seen: list[Any] = []
    one = rows_of(folder, tmp_path / "one.db", config, jobs=1, on_progress=seen.append)
    assert one[1] == {}
    assert rows_of(folder, tmp_path / "two.db", config, jobs=2) == one
    assert rows_of(folder, tmp_path / "far.db", config, ProcessIndexJob, jobs=2) == one
    latest = {(progress.path, progress.first): progress.items_done for progress in seen}
    assert sum(latest.values()) == 800
    assert len(latest) > 8
    with SqliteIndex(tmp_path / "one.db", mode="read") as index:
        assert {media.status for media in index.media()} == {"done"}
        assert sum(media.num_items for media in index.media()) == 800
        assert index.fetch("SELECT * FROM checkpoints") == []


def test_a_policy_without_a_memory_answers_as_if_nothing_were_cut(
    folder: Path, tmp_path: Path
) -> None:
    whole, _ = rows_of(folder, tmp_path / "whole.db", config_of(KEYFRAME))
    ranges, _ = rows_of(folder, tmp_path / "ranges.db", split(config_of(KEYFRAME)))
    for table in ("outcomes", "segments", "words"):
        assert ranges[table] == whole[table], table


def test_whoever_is_killed_leaves_no_trace(folder: Path, tmp_path: Path) -> None:
    fuse = tmp_path / "fuse"
    config = split(config_of(fuse=str(fuse)))
    here = rows_of(folder, tmp_path / "here.db", config)
    fuse.touch()
    assert rows_of(folder, tmp_path / "there.db", config, ProcessIndexJob, jobs=2) == here
    assert not fuse.exists()


def test_a_job_told_to_stop_goes_on_in_every_range(folder: Path, tmp_path: Path) -> None:
    config, path = split(config_of()), tmp_path / "there.db"
    here = rows_of(folder, tmp_path / "here.db", config)
    for windows_to_do in (3, 5, 8):
        seen: list[Any] = []
        with SqliteIndex(path, root=folder.parent) as index:
            job = IndexJob(index, config, jobs=2)
            job._on_progress = partial(stop_after, windows_to_do, seen, job)
            with pytest.raises(Stopped):
                job.run(find_videos([str(folder)]))
    assert rows_of(folder, path, config) == here


def stop_after(windows_to_do: int, seen: list[Any], job: IndexJob, progress: Any) -> None:
    seen.append(progress)
    if len(seen) == windows_to_do:
        job.stop()


def test_a_job_killed_when_all_ranges_were_done_has_little_left(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = split(config_of()), tmp_path / "there.db"
    here = rows_of(folder, tmp_path / "here.db", config)

    def killed(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(SqliteIndex, "finish", killed)
        with pytest.raises(Stopped):
            rows_of(folder, path, config, jobs=1)
    with SqliteIndex(path, root=folder.parent) as index:
        report = IndexJob(index, config).run([str(folder / "a.mp4")])
        assert (report.num_indexed, report.receipt.num_items) == (1, 0)
    assert rows_of(folder, path, config) == here


@pytest.mark.parametrize("kind", [IndexJob, ProcessIndexJob])
def test_a_range_that_fails_fails_its_file_and_is_tried_again(
    folder: Path, tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = split(config_of()), tmp_path / "x.db"
    here = rows_of(folder, tmp_path / "here.db", config)
    broken = split(config_of(poison="a.mp4")) if kind is ProcessIndexJob else config
    with monkeypatch.context() as patch:
        if kind is IndexJob:
            open_range = VideoAv.open_range

            def broken_at(
                self: VideoAv, media_range: MediaRange, position: Position | None = None
            ) -> Any:
                if media_range.first > 100 and self.path.endswith("a.mp4"):
                    raise SourceError("the disk is gone")
                return open_range(self, media_range, position)

            patch.setattr(VideoAv, "open_range", broken_at)
        _, failures = rows_of(folder, path, broken, kind, jobs=2)
    (failed,) = failures
    assert failed.endswith("a.mp4")
    with SqliteIndex(path, mode="read") as index:
        states = {Path(media.path).name: media.status for media in index.media()}
        assert states == {"a.mp4": "failed", "b.mp4": "done", "c.mp4": "done"}
    if kind is IndexJob:
        assert rows_of(folder, path, config, kind, jobs=2)[1] == {}  # Left alone.
        assert rows_of(folder, path, config, kind, jobs=2, retry_failed=True) == here


@pytest.mark.parametrize("runner", ["local", "processes"])
def test_the_command_line_killed_and_run_again(folder: Path, tmp_path: Path, runner: str) -> None:
    def kill(process: Any) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL

    check_ended_and_run_again(folder, tmp_path, runner, kill, "--split", "2")


def test_a_process_killed_in_a_run_that_starts_afresh(folder: Path, tmp_path: Path) -> None:
    fuse, path = tmp_path / "fuse", tmp_path / "x.db"
    config = split(config_of(fuse=str(fuse)))
    here = rows_of(folder, path, config)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE media SET status = 'running'")
    fuse.touch()
    assert rows_of(folder, path, config, ProcessIndexJob, jobs=2, resume=False) == here
    assert not fuse.exists()


def test_afresh_means_afresh(folder: Path, tmp_path: Path) -> None:
    config, path = split(config_of()), tmp_path / "x.db"
    here = rows_of(folder, path, config)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE media SET status = 'running'")
    with SqliteIndex(path, root=folder.parent) as index:
        report = IndexJob(index, config, resume=False).run(find_videos([str(folder)]))
        assert report.receipt.num_items == 800
        assert (index.rows(), {}) == here


def test_another_split_is_another_configuration(folder: Path, tmp_path: Path) -> None:
    config, path = config_of(), tmp_path / "x.db"
    assert config.hash != split(config).hash != split(config, 5.0).hash
    rows_of(folder, path, split(config))
    assert rows_of(folder, path, config) == rows_of(folder, tmp_path / "whole.db", config)


def test_a_damaged_file_fails_as_it_does_whole(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "videos" / "broken.mp4"
    broken.parent.mkdir()
    broken.write_bytes((folder / "a.mp4").read_bytes()[:5000])
    _, whole = rows_of(broken.parent, tmp_path / "whole.db", config_of())
    _, ranges = rows_of(broken.parent, tmp_path / "ranges.db", split(config_of()))
    assert ranges == whole != {}


@pytest.mark.parametrize("error", [SourceError("the network is down"), IndexError("odd")])
def test_a_file_that_cannot_be_cut_has_failed_and_the_others_go_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, caplog: Any
) -> None:
    config, path = split(config_of()), tmp_path / "x.db"
    here = rows_of(folder, tmp_path / "here.db", config)
    ranges = VideoAv.ranges

    def broken(self: VideoAv, seconds: float) -> Any:
        if self.path.endswith("b.mp4"):
            raise error
        return ranges(self, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(VideoAv, "ranges", broken)
        _, failures = rows_of(folder, path, config, jobs=2)
    caplog.clear()  # What is unexpected is logged, too.
    expected = str(error) if isinstance(error, SourceError) else "IndexError: odd"
    assert list(failures.values()) == [expected]
    with SqliteIndex(path, mode="read") as index:
        assert [media.status for media in index.media()] == ["done", "failed", "done"]
    assert rows_of(folder, path, config, retry_failed=True) == here


def test_what_an_unfinished_run_over_the_whole_file_left_is_dropped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = split(config_of()), tmp_path / "x.db"
    here = rows_of(folder, tmp_path / "here.db", config)
    with monkeypatch.context() as patch, SqliteIndex(path, root=folder.parent) as index:
        patch.setattr(VideoAv, "ranges", lambda *_: [])
        job = IndexJob(index, config, jobs=1, on_progress=lambda progress: job.stop())
        with pytest.raises(Stopped):
            job.run(find_videos([str(folder)]))
        assert index.rows()["windows"]
    assert rows_of(folder, path, config) == here


def test_a_job_can_be_stopped_while_it_cuts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = split(config_of()), tmp_path / "x.db"
    here = rows_of(folder, tmp_path / "here.db", config)
    ranges = VideoAv.ranges

    def stopping(self: VideoAv, seconds: float) -> Any:
        job.stop()
        return ranges(self, seconds)

    with monkeypatch.context() as patch, SqliteIndex(path, root=folder.parent) as index:
        patch.setattr(VideoAv, "ranges", stopping)
        job = IndexJob(index, config, jobs=1)
        with pytest.raises(Stopped):
            job.run(find_videos([str(folder)]))
        # What was cut is kept.
        assert index.fetch("SELECT count(DISTINCT media_id) FROM ranges") == [(1,)]
    assert rows_of(folder, path, config) == here


def test_a_process_that_dies_when_its_range_is_done_has_done_it(
    folder: Path, tmp_path: Path
) -> None:
    with SqliteIndex(tmp_path / "x.db", root=folder.parent) as index:
        job = ProcessIndexJob(index, split(config_of()), jobs=1)
        job.run(find_videos([str(folder)]))
        media = index.media()[0]
        media_range, _ = index.ranges(media.id)[1]
        task = FileTask(media.path, media, media_range)
        dead: Any = SimpleNamespace(task=task, end=lambda: None, exit_code=-9)
        job._processes, job._ranges_left[media.id] = [dead], 2
        assert job._died(dead, Counter()) == []
        assert job._ranges_left[media.id] == 1


def test_a_done_range_that_is_begun_again_is_not_done(folder: Path, tmp_path: Path) -> None:
    config, path = split(config_of()), tmp_path / "x.db"
    here = rows_of(folder, path, config)
    with SqliteIndex(path, root=folder.parent) as index:
        media = index.media()[0]
        media_range, _ = index.ranges(media.id)[1]
        index.fail(media.id, "its disk broke")
        index.begin(media, media.config_hash, media_range)
        assert [is_done for _, is_done in index.ranges(media.id)].count(False) == 1
    assert rows_of(folder, path, config) == here


def test_what_cannot_be_split_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    asked = ["index", folder, "--into", tmp_path / "x.db", "--recognizer", "brightness"]
    for more, message in (
        (["--split", "0"], "split_seconds"),
        (["--split", "5", "--source", "video_decord"], "source video_decord cannot be split"),
        (["--split", "5", "--trace", tmp_path / "t"], "leave out --split or --trace"),
        (["--split", "5", "--budget-items", "9"], "leave out --split, or give a share instead"),
    ):
        done = streamdyn(*asked, *more)
        assert done.exit_code == 2
        assert message in one_error(done)
    with pytest.raises(ConfigError, match="cannot be split"):
        video_index._check_split(
            split(RunConfig.model_validate({"source": {"name": "audio"}})), None
        )


def test_an_index_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(STEPS[0])
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("INSERT INTO meta VALUES ('root', '.')")
        connection.execute(
            "INSERT INTO media (id, path, stream, bytes, mtime_ns, fingerprint, codec, width, "
            "height, note, status, error, config_hash) VALUES ('m', 'm.mp4', '', 0, 0, '', '', 0, "
            "0, '', 'running', '', '')"
        )
        connection.execute("INSERT INTO checkpoints VALUES ('m', 64, X'01')")
    # Who upgrades can search at once, and reading changes nothing.
    with SqliteIndex(path, mode="read") as index:
        assert [media.path for media in index.media()] == ["m.mp4"]
        assert search(index, "cat", mode="text") == []
        assert index.fetch("PRAGMA user_version") == [(1,)]
    with SqliteIndex(path) as index:
        assert index.checkpoint("m") == b"\x01"
        assert index.ranges("m") == []
