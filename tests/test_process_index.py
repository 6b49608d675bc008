"""An index made in processes has the rows of one made in threads, whichever of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command import streamdyn
from index_runs import (
    BISECT,
    PART,
    TUNING,
    check_ended_and_run_again,
    config_of,
    rows_of,
)
from scene_clips import write_folder

from streamdyn.errors import ModelError
from streamdyn.index import SqliteIndex
from streamdyn.pipelines.process_index import MAX_TRIES, ProcessIndexJob
from streamdyn.pipelines.video_index import Stopped, find_videos


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("processes") / "videos", (250, 180, 260, 90))


@pytest.fixture(autouse=True)
def part(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes have the part that kills them."""
    monkeypatch.syspath_prepend(str(PART))
    import touchy  # noqa: F401 - registers it here.


def in_processes(folder: Path, path: Path, config, **options):
    return rows_of(folder, path, config, ProcessIndexJob, jobs=2, **options)


@pytest.mark.parametrize("policy", [BISECT, TUNING], ids=["bisect", "one that tunes itself"])
def test_rows_are_those_of_threads(folder: Path, tmp_path: Path, policy: dict) -> None:
    seen: list = []
    here = rows_of(folder, tmp_path / "here.db", config_of(policy), jobs=2)
    there = in_processes(
        folder, tmp_path / "there.db", config_of(policy), on_progress=seen.append
    )  # fmt: skip
    assert there == here
    assert here[1] == {}
    assert {Path(progress.path).name for progress in seen} == {"a.mp4", "b.mp4", "c.mp4", "d.mp4"}


def test_a_process_that_is_killed_leaves_no_trace(folder: Path, tmp_path: Path) -> None:
    fuse = tmp_path / "fuse"
    config = config_of(fuse=str(fuse))
    here = rows_of(folder, tmp_path / "here.db", config)
    fuse.touch()
    assert in_processes(folder, tmp_path / "there.db", config) == here
    assert not fuse.exists()


def test_a_file_that_kills_its_process_is_set_aside(folder: Path, tmp_path: Path) -> None:
    config, path = config_of(poison="b.mp4"), tmp_path / "x.db"
    rows, failures = in_processes(folder, path, config)
    (failed,) = failures
    assert failed.endswith("b.mp4")
    assert f"died {MAX_TRIES} times" in failures[failed]
    assert "exit code -9" in failures[failed]
    with SqliteIndex(path, mode="read") as index:
        states = {Path(media.path).name: media.status for media in index.media()}
    assert states == {"a.mp4": "done", "b.mp4": "failed", "c.mp4": "done", "d.mp4": "done"}
    assert in_processes(folder, path, config) == (rows, {})


def test_a_job_told_to_stop_goes_on_later(folder: Path, tmp_path: Path) -> None:
    config = config_of(seconds=0.02)
    here = rows_of(folder, tmp_path / "here.db", config)
    with SqliteIndex(tmp_path / "there.db", root=folder.parent) as index:
        job = ProcessIndexJob(index, config, jobs=2, on_progress=lambda progress: job.stop())
        with pytest.raises(Stopped):
            job.run(find_videos([str(folder)]))
        assert len(index.rows()["windows"]) < len(here[0]["windows"])
    assert in_processes(folder, tmp_path / "there.db", config) == here


def test_what_is_wrong_with_the_job_ends_it(folder: Path, tmp_path: Path) -> None:
    """A model that is there when the job begins and not when a process needs it."""
    from streamdyn.config import load_config

    model = tmp_path / "bisect.safetensors"
    model.write_bytes(
        (Path(__file__).parents[1] / "streamdyn/models/video/learned_bisect.safetensors")
        .read_bytes()
    )  # fmt: skip
    config = load_config(
        None,
        {"recognizer": {"name": "brightness"},
         "policy": {"name": "learned_bisect", "model": str(model)}},
    )  # fmt: skip
    with SqliteIndex(tmp_path / "x.db", root=folder.parent) as index:
        job = ProcessIndexJob(index, config, jobs=2)
        model.unlink()
        with pytest.raises(ModelError, match="cannot read the weights of learned_bisect"):
            job.run(find_videos([str(folder)]))


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_the_command_line_is_killed_and_run_again(
    folder: Path, tmp_path: Path, sent: int, code: int
) -> None:
    """Its processes end with it; what was stored is gone on with."""

    def end(process: subprocess.Popen) -> None:
        # Only the job is told, not its processes.
        os.kill(process.pid, sent)
        assert process.wait(120) == code
        began = time.monotonic()
        while _in_session(process.pid):
            assert time.monotonic() - began < 30, "its processes outlive it"
            time.sleep(0.05)

    check_ended_and_run_again(folder, tmp_path, "processes", end)


def _in_session(leader: int) -> list[int]:
    """Processes of a session that are not dead."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


def test_a_wrong_call_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    asked = ["index", str(folder), "--into", str(tmp_path / "x.db"), "--runner", "processes"]
    wrong = streamdyn(*asked, "--recognizer", "brightness", "--address", "auto")
    assert (wrong.exit_code, "for --runner ray" in wrong.stderr) == (2, True)
