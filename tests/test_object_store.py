"""Videos in an S3 store: a real server (moto's), reached as any other through the environment."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import free_port, one_error, streamdyn
from index_runs import BISECT, config_of
from object_stores import BUCKET, serving
from scene_clips import drawn_scenes, write_folder, write_scenes

from streamdyn.errors import MissingExtra, SourceError
from streamdyn.index import SqliteIndex
from streamdyn.pipelines.process_index import ProcessIndexJob
from streamdyn.pipelines.video_index import IndexJob, find_videos
from streamdyn.sources import remote
from streamdyn.sources.video_av import VideoAv

s3fs = pytest.importorskip("s3fs", reason="the extra 's3' is not installed")
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("ResourceWarning", "DeprecationWarning")
]
FOLDER = f"{BUCKET}/of/today"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("store") / "videos", (250, 180, 90))


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[Any]:
    """With the folder in it."""
    with serving() as made:
        made.put(str(folder), FOLDER, recursive=True)
        made.pipe(f"{FOLDER}/notes.txt", b"not a video")
        yield made


def seen(path: Path) -> dict[str, Any]:
    """Name of a file → what was seen in it; paths and ids differ between a disk and a store."""
    with SqliteIndex(path, mode="read") as index:
        return {
            Path(media.path).name: (
                media.status,
                media.num_items,
                [(o.ordinal, o.pts, o.label, o.score) for o in index.outcomes(media.id)],
                [(s.start_ticks, s.stop_ticks, s.label) for s in index.segments(media.id)],
                [(a.ordinal, a.agreement) for a in index.audits(media.id)],
            )
            for media in index.media()
        }


def test_a_store_is_indexed_as_a_folder_is(store: Any, folder: Path, tmp_path: Path) -> None:
    videos = find_videos([FOLDER])
    assert videos == [f"{FOLDER}/{name}.mp4" for name in "abc"]
    assert find_videos([f"{FOLDER}/b.mp4"]) == [f"{FOLDER}/b.mp4"]
    # What is audited is drawn by the name of the stream, which is another one.
    config = config_of(BISECT).model_copy(update={"audit": 0.0})
    with SqliteIndex(tmp_path / "disk.db") as index:
        IndexJob(index, config).run(find_videos([str(folder)]))
    for name, kind in (("threads", IndexJob), ("processes", ProcessIndexJob)):
        path = tmp_path / f"{name}.db"
        with SqliteIndex(path) as index:
            report = kind(index, config, jobs=2).run(videos)
            assert (report.num_indexed, report.failures) == (3, {})
            again = kind(index, config, jobs=2).run(videos)
            assert again.num_unchanged == 3
        assert seen(path) == seen(tmp_path / "disk.db")


def test_a_file_that_was_replaced_is_watched_again(
    store: Any, folder: Path, tmp_path: Path
) -> None:
    there = f"{FOLDER}/changing.mp4"
    store.put(str(folder / "a.mp4"), there)
    with SqliteIndex(tmp_path / "x.db") as index:
        assert IndexJob(index, config_of()).run([there]).num_indexed == 1
        other = write_scenes(tmp_path / "other.mp4", drawn_scenes(77, 100))
        store.put(str(other), there)
        assert IndexJob(index, config_of()).run([there]).num_indexed == 1
        (media,) = index.media()
        assert media.num_items == 100
    store.rm(there)


def test_ranges_of_a_file_in_a_store(store: Any, folder: Path) -> None:
    there, here = VideoAv(f"{FOLDER}/a.mp4"), VideoAv(folder / "a.mp4")
    assert there.ranges(2.0) == here.ranges(2.0)
    assert len(there.ranges(2.0)) > 2


def test_the_command_line_takes_its_urls(store: Any, tmp_path: Path) -> None:
    into = tmp_path / "x.db"
    asked = ["index", "--into", into, "--recognizer", "brightness"]
    asked += ["--policy", "bisect:max_doubt=15,lookahead=40"]
    done = streamdyn(*asked, FOLDER)
    assert done.exit_code == 0, done.stderr
    assert "3 files indexed" in done.stdout
    # What needs pictures finds them in the store.
    page = tmp_path / "page.html"
    done = streamdyn("report", "--in", into, "--out", page)
    assert done.exit_code == 0, done.stderr
    assert page.read_text().count("data:image/jpeg") > 3
    missing = streamdyn(*asked, "s3://videos/of/yesterday")
    assert missing.exit_code == 1
    assert "cannot index s3://videos/of/yesterday: no such file or folder" in one_error(missing)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("s3://videos/gone.mp4", "no such file; check the path"),
        ("s3://no-bucket/gone.mp4", "no such file; check the path"),
    ],
)
def test_what_is_not_there_is_said(store: Any, path: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        remote.facts_of(path)
    with pytest.raises(SourceError, match=message):
        VideoAv(path).open()


def test_a_store_that_goes_away_is_said(
    store: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(SourceError, match=r"check the network, the credentials and the endpoint"):
        remote.facts_of(f"{FOLDER}/a.mp4")
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_store_whose_package_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingExtra, match=r"pip install 'streamdyn\[gcs\]'"):
        remote.facts_of("gs://videos/a.mp4")
    assert remote.is_remote("gs://videos/a.mp4")
    assert not remote.is_remote("rtsp://camera/1")
    assert not remote.is_remote("s3/a.mp4")
