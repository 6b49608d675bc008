"""A job that is killed, interrupted or out of disk goes on to the same rows as an unbroken one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scene_clips import write_folder

from streamdyn.config import load_config
from streamdyn.errors import ConfigError, StoreError
from streamdyn.index import SqliteIndex
from streamdyn.pipelines.video_index import IndexJob, Stopped, find_videos, outcome_hash
from streamdyn.recognizers.brightness import Brightness
from streamdyn.registry import policy, recognizer
from streamdyn.testing.scripted import ScriptedPolicy, read_plan

CONFIGS = {
    "bisect": {
        "recognizer": {"name": "brightness"},
        "policy": {"name": "bisect", "max_doubt": 15.0, "lookahead": 40},
        "audit": 0.1,
    },
    "agreement": {
        "recognizer": {"name": "brightness"},
        "policy": {"name": "agreement", "target": 0.9, "options": {"lookahead": 40}},
        "audit": 0.15,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("crash") / "videos")


@pytest.fixture(scope="module")
def unbroken(folder, tmp_path_factory):
    """Name of a configuration → rows, tuning and number of windows of an unbroken run."""
    found = {}
    for name, config in CONFIGS.items():
        path = folder.parent / f"{name}.db"
        with SqliteIndex(path) as index:
            job_of(index, config, jobs=1).run(find_videos([str(folder)]))
            found[name] = what_is_in(path, config)
    return found


def job_of(index, config, **options):
    return IndexJob(index, load_config(None, config), **options)


def what_is_in(path, config):
    with SqliteIndex(path, mode="read") as index:
        return index.rows(), index.tuning(outcome_hash(load_config(None, config)))


def run_child(folder, path, config, *, jobs, after=0, sends="SIGKILL"):
    """Run a job in a process; answers how it ended and how many windows it reported."""
    order = {
        "folder": str(folder),
        "index": str(path),
        "jobs": jobs,
        "config": config,
        "after": after,
        "signal": sends,
    }
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("index_child.py")), json.dumps(order)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done, len(done.stdout.split())


@pytest.mark.parametrize(
    ("name", "jobs"), [("bisect", 1), ("bisect", 2), ("agreement", 1), ("agreement", 2)]
)
def test_a_job_killed_twice_ends_with_the_rows_of_an_unbroken_one(
    folder, unbroken, tmp_path, name, jobs
):
    path, config = folder.parent / f"{tmp_path.name}.db", CONFIGS[name]
    total = len(unbroken[name][0]["windows"])
    for after in (3, total // 2):
        done, num_windows = run_child(folder, path, config, jobs=jobs, after=after)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert after <= num_windows <= after + jobs
    rows, _ = what_is_in(path, config)
    assert 0 < len(rows["windows"]) < total
    done, num_windows = run_child(folder, path, config, jobs=jobs)
    assert done.returncode == 0, done.stderr
    assert 0 < num_windows < total
    assert what_is_in(path, config) == unbroken[name]


def test_the_tuned_run_has_a_prefix_and_more(unbroken):
    """Otherwise the tests of a tuning policy would not show what they are for."""
    rows, (num_audits, state) = unbroken["agreement"]
    assert state is not None
    assert 20 <= num_audits < len(rows["audits"])


def test_control_c_stops_after_the_windows_in_work_and_keeps_what_was_done(
    folder, unbroken, tmp_path
):
    path, config = folder.parent / f"{tmp_path.name}.db", CONFIGS["bisect"]
    done, _ = run_child(folder, path, config, jobs=2, after=4, sends="SIGINT")
    assert done.returncode != 0
    assert "KeyboardInterrupt" in done.stderr
    rows, _ = what_is_in(path, config)
    assert len(rows["windows"]) >= 4
    done, _ = run_child(folder, path, config, jobs=2)
    assert done.returncode == 0, done.stderr
    assert what_is_in(path, config) == unbroken["bisect"]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_job_told_to_stop_says_so_and_can_be_gone_on_with(folder, unbroken, tmp_path, name, jobs):
    path, config, seen = folder.parent / f"{tmp_path.name}.db", CONFIGS[name], []

    def stop(progress):
        seen.append(progress)
        if len(seen) == 5:
            job.stop()

    with SqliteIndex(path) as index:
        job = job_of(index, config, jobs=jobs, on_progress=stop)
        with pytest.raises(Stopped):
            job.run(find_videos([str(folder)]))
        assert len(seen) <= 5 + jobs
        assert not job.report.failures
        job_of(index, config, jobs=jobs).run(find_videos([str(folder)]))
    assert what_is_in(path, config) == unbroken[name]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_full_disk_stops_the_job_with_its_reason_and_keeps_the_rows(
    folder, unbroken, tmp_path, jobs
):
    path, config, seen = folder.parent / f"{tmp_path.name}.db", CONFIGS["bisect"], []

    def fill_up(progress):
        seen.append(progress)
        if len(seen) == 4:
            ((pages,),) = index.fetch("PRAGMA page_count")
            index.fetch(f"PRAGMA max_page_count = {pages}")

    with SqliteIndex(path) as index:
        job = job_of(index, config, jobs=jobs, on_progress=fill_up)
        with pytest.raises(StoreError, match="the disk is full"):
            job.run(find_videos([str(folder)]))
        assert job.report.wall_seconds > 0
    rows, _ = what_is_in(path, config)
    assert 0 < len(rows["windows"]) < len(unbroken["bisect"][0]["windows"])
    with SqliteIndex(path) as index:
        assert index.fetch("PRAGMA integrity_check") == [("ok",)]
        job_of(index, config, jobs=jobs).run(find_videos([str(folder)]))
    assert what_is_in(path, config) == unbroken["bisect"]


def test_the_mistake_that_ends_a_job_is_raised_though_others_were_stopped_by_it(
    folder, tmp_path, own_registry
):
    @recognizer("choosy")
    class Choosy(Brightness):
        name = "choosy"

        def recognize(self, selection, hidden):
            if selection.items[0].stream.endswith("b.mp4"):
                raise ConfigError("b is not for me")
            return super().recognize(selection, hidden)

    def wait(progress):
        job._stop.wait(60)

    config = {**CONFIGS["bisect"], "recognizer": {"name": "choosy"}}
    with SqliteIndex(tmp_path / "x.db") as index:
        job = job_of(index, config, jobs=2, on_progress=wait)
        with pytest.raises(ConfigError, match="b is not for me"):
            job.run([str(folder / name) for name in ("a.mp4", "b.mp4")])
        assert job.report.num_indexed == 0
        assert index.rows()["windows"]


def test_without_resume_nothing_of_the_earlier_run_is_left(folder, tmp_path, own_registry):
    @policy("leaver")
    class Leaver(ScriptedPolicy):
        plans = ()

        def __init__(self):
            super().__init__(self.plans, lookahead=10)

    config = {**CONFIGS["bisect"], "policy": {"name": "leaver"}}

    def stop(progress):
        if progress.items_done >= 100:
            job.stop()

    with SqliteIndex(tmp_path / "x.db") as index:
        job = job_of(index, config, jobs=1, on_progress=stop)
        with pytest.raises(Stopped):
            job.run([str(folder / "a.mp4")])
        Leaver.plans = (read_plan("P" * 10, stop=True),)
        job_of(index, config, jobs=1, resume=False).run([str(folder / "a.mp4")])
        (media,) = index.media()
        assert [window.block.stop for window in index.windows(media.id)] == [10]


def test_without_resume_an_unfinished_file_starts_afresh(folder, unbroken, tmp_path):
    path, config, items = folder.parent / f"{tmp_path.name}.db", CONFIGS["bisect"], []

    def stop(progress):
        if progress.items_done > 100:
            job.stop()

    with SqliteIndex(path) as index:
        job = job_of(index, config, jobs=1, on_progress=stop)
        with pytest.raises(Stopped):
            job.run(find_videos([str(folder)]))
        again = job_of(
            index, config, jobs=1, resume=False, on_progress=lambda p: items.append(p.items_done)
        )
        again.run(find_videos([str(folder)]))
    assert items[0] <= 40
    assert what_is_in(path, config) == unbroken["bisect"]
