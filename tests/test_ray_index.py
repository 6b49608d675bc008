"""An index made on real Ray processes has the rows of one made here, whoever is killed."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import urllib.request
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import index_runs
import pytest
import ray
from command import PROGRAM, free_port, streamdyn
from index_runs import BISECT, PART, TUNING, check_ended_and_run_again, config_of
from prometheus_client.parser import text_string_to_metric_families
from ray.cluster_utils import Cluster
from scene_clips import write_folder

from streamdyn.errors import ConfigError
from streamdyn.index import SqliteIndex
from streamdyn.index.overview import overview
from streamdyn.pipelines import ray_index
from streamdyn.pipelines.ray_index import (
    MAX_TRIES,
    RayIndexJob,
)
from streamdyn.pipelines.video_index import Stopped, find_videos
from streamdyn.run import ray_actor
from streamdyn.run.ray_actor import ActorFacts, check_version
from streamdyn.run.ray_batch import Worker
from streamdyn.run.ray_cluster import ClusterOptions, check_shared_memory

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("ResourceWarning", "DeprecationWarning", "FutureWarning")
]
TWO = ClusterOptions(workers=2, worker_cpus=0.5)
SHARED = ClusterOptions(workers=2, worker_cpus=0.5, hosts=1)
METRICS_PORT = free_port()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("ray") / "videos", (250, 180, 260, 90))


@pytest.fixture(scope="module")
def cluster():
    """A head, in processes of its own; the part is on the path of its workers."""
    before, sys_path = os.environ.get("PYTHONPATH"), list(sys.path)
    os.environ["PYTHONPATH"] = str(PART)
    sys.path.insert(0, str(PART))
    import touchy  # noqa: F401 - registers the part here.

    head = {
        "num_cpus": 2, "include_dashboard": False, "object_store_memory": 80 * 1024 * 1024,
        "metrics_export_port": METRICS_PORT, "_system_config": {"metrics_report_interval_ms": 500},
    }  # fmt: skip
    made = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=made.address, logging_level="ERROR", log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()
    del made
    with warnings.catch_warnings():
        # Ray does not wait for the processes that it ends.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    sys.path[:] = sys_path
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


def rows_of(folder, path, config, cluster=None, **options):
    """Here, or on a cluster."""
    if cluster is None:
        return index_runs.rows_of(folder, path, config, jobs=2)
    return index_runs.rows_of(folder, path, config, RayIndexJob, cluster=cluster, **options)


@pytest.mark.parametrize(
    ("policy", "options"), [(BISECT, TWO), (TUNING, TWO), (BISECT, SHARED)],
    ids=["own recognizers", "a policy that tunes itself", "a shared recognizer"],
)  # fmt: skip
def test_rows_are_those_of_threads(cluster, folder, tmp_path, policy, options):
    config, seen = config_of(policy), []
    here = rows_of(folder, tmp_path / "here.db", config)
    there = rows_of(folder, tmp_path / "there.db", config, options, on_progress=seen.append)
    assert there == here
    assert here[1] == {}
    assert {Path(progress.path).name for progress in seen} == {"a.mp4", "b.mp4", "c.mp4", "d.mp4"}


@pytest.mark.parametrize("options", [TWO, SHARED], ids=["a worker", "a shared recognizer"])
def test_who_is_killed_at_work_leaves_no_trace(cluster, folder, tmp_path, options):
    fuse = tmp_path / "fuse"
    config = config_of(fuse=str(fuse))
    here = rows_of(folder, tmp_path / "here.db", config)
    fuse.touch()
    assert rows_of(folder, tmp_path / "there.db", config, options) == here
    assert not fuse.exists()


@pytest.mark.parametrize("kill", [False, True], ids=["", "a worker is killed"])
def test_ranges_of_long_files_go_to_several_workers(cluster, folder, tmp_path, kill):
    fuse, seen = tmp_path / "fuse", []
    config = config_of(fuse=str(fuse)).model_copy(update={"split_seconds": 2.0})
    here = rows_of(folder, tmp_path / "here.db", config)
    if kill:
        fuse.touch()
    # All cores there are.
    full = ClusterOptions(workers=2)
    there = rows_of(folder, tmp_path / "there.db", config, full, on_progress=seen.append)
    assert there == here
    assert here[1] == {}
    assert len({(progress.path, progress.first) for progress in seen}) > 8
    assert not fuse.exists()


class LosesAWorker(RayIndexJob):
    """One of its workers dies before files are cut."""

    def _cut(self, files):
        ray.kill(self._workers.actors[self._workers.free[0]])
        super()._cut(files)


def test_a_worker_that_is_lost_while_files_are_cut_is_made_again(cluster, folder, tmp_path):
    config = config_of().model_copy(update={"split_seconds": 2.0})
    here = rows_of(folder, tmp_path / "here.db", config)
    there = index_runs.rows_of(folder, tmp_path / "there.db", config, LosesAWorker, cluster=TWO)
    assert there == here


@pytest.mark.gpu
def test_a_recognizer_on_a_gpu_sees_what_one_on_the_cpu_does(folder, tmp_path):
    """By the command, in a cluster of its own: the labels are those of the CPU."""
    labels = []
    for name, more in (
        ("cpu", ()),
        ("gpu", ("--runner", "ray", "--recognizers", "1", "--gpus", "0.5", "--device", "cuda")),
    ):
        into = tmp_path / f"{name}.db"
        done = subprocess.run(
            [*PROGRAM, "index", folder, "--into", into, "--policy", "keyframe", *more],
            capture_output=True, text=True, check=False, timeout=400,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        with SqliteIndex(into, mode="read") as index:
            labels.append([o.label for m in index.media() for o in index.outcomes(m.id)])
    assert labels[0] == labels[1] != []


def test_the_writer_is_killed_and_goes_on(cluster, folder, tmp_path):
    config = config_of(seconds=0.02)
    here = rows_of(folder, tmp_path / "here.db", config)
    killed = []
    with SqliteIndex(tmp_path / "there.db", root=folder.parent) as index:

        def kill(progress):
            if not killed:
                killed.append(progress.path)
                ray.kill(job.writer, no_restart=False)

        job = RayIndexJob(index, config, TWO, on_progress=kill)
        assert job.run(find_videos([str(folder)])).failures == {}
        assert (index.rows(), {}) == here
    assert killed


def test_a_file_that_kills_its_worker_is_set_aside(cluster, folder, tmp_path):
    config = config_of(poison="b.mp4")
    rows, failures = rows_of(folder, tmp_path / "x.db", config, TWO)
    (path,) = failures
    assert path.endswith("b.mp4")
    assert f"its worker died {MAX_TRIES} times" in failures[path]
    with SqliteIndex(tmp_path / "x.db", mode="read") as index:
        states = {Path(media.path).name: media.status for media in index.media()}
        assert states == {"a.mp4": "done", "b.mp4": "failed", "c.mp4": "done", "d.mp4": "done"}
    assert rows["segments"]
    again, left = rows_of(folder, tmp_path / "x.db", config, TWO)
    assert (again, left) == (rows, {})


def test_a_node_is_removed_at_work(cluster, folder, tmp_path):
    node = cluster.add_node(num_cpus=2, object_store_memory=80 * 1024 * 1024)
    config = config_of(seconds=0.02)
    here = rows_of(folder, tmp_path / "here.db", config)
    removed = []

    def remove(progress):
        if not removed:
            removed.append(progress.path)
            cluster.remove_node(node)

    options = ClusterOptions(workers=4, worker_cpus=0.9)
    there = rows_of(folder, tmp_path / "there.db", config, options, on_progress=remove)
    assert there == here
    assert removed


def test_a_worker_whose_machine_goes_while_it_starts_is_made_again(cluster):
    made = []

    def make(number, lost):
        made.append(number)
        actor = ray.remote(num_cpus=0.1)(Worker).remote(
            "{}", "", None, None, ".", resume=True, trace_folder=None
        )
        if len(made) <= lost:
            ray.kill(actor)
        return actor

    workers = ray_index._Workers(partial(make, lost=2), 1, {"CPU": 0.1})
    workers.settle(wait=True)
    assert (list(workers.free), made) == ([0], [0, 0, 0])
    ray.kill(workers.actors[0])
    made.clear()
    workers = ray_index._Workers(partial(make, lost=MAX_TRIES), 1, {"CPU": 0.1})
    with pytest.raises(ConfigError, match=f"could not be started, {MAX_TRIES} times"):
        workers.settle(wait=True)


def test_a_job_told_to_stop_goes_on_later(cluster, folder, tmp_path):
    config = config_of(seconds=0.02)
    here = rows_of(folder, tmp_path / "here.db", config)
    with SqliteIndex(tmp_path / "there.db", root=folder.parent) as index:
        job = RayIndexJob(index, config, TWO, on_progress=lambda progress: job.stop())
        with pytest.raises(Stopped):
            job.run(find_videos([str(folder)]))
        assert len(index.rows()["windows"]) < len(here[0]["windows"])
    assert rows_of(folder, tmp_path / "there.db", config, TWO) == here


def test_what_the_cluster_cannot_do_is_said_soon(cluster, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_index, "READY_SECONDS", 3)
    began = time.monotonic()
    for options, message in (
        (
            ClusterOptions(workers=1, worker_cpus=64),
            "no worker could be started in [3-6] s: asked.*with 64 CPU, 0 GPU each",
        ),
        (ClusterOptions(workers=1, host_gpus=1.0), "ask for 1 GPUs each and the cluster has 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            rows_of(folder, tmp_path / "x.db", config_of(), options)
    monkeypatch.setattr(ray_actor, "__version__", "0.0.1")
    with pytest.raises(ConfigError, match=r"have streamdyn .* and this is 0.0.1; install the same"):
        rows_of(folder, tmp_path / "x.db", config_of(), TWO)
    with pytest.raises(ConfigError, match=r"shared recognizers on .* have streamdyn .*"):
        check_version("shared recognizers", ActorFacts("0.0.2", "there"))
    assert time.monotonic() - began < 120


def test_shared_memory_that_is_too_small_is_said(tmp_path):
    check_shared_memory(tmp_path, 1)
    check_shared_memory(tmp_path / "not there", 1 << 60)
    with pytest.raises(ConfigError, match="give the container more with --shm-size"):
        check_shared_memory(tmp_path, 1 << 60)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_the_command_line_ended_with_its_cluster_and_run_again(folder, tmp_path, sent, code):
    """What was stored is gone on with."""

    def end(process):
        os.killpg(process.pid, sent)
        assert process.wait(120) == code

    check_ended_and_run_again(folder, tmp_path, "ray", end)


def test_relative_paths_are_those_of_the_caller(cluster, folder, tmp_path, monkeypatch):
    here = rows_of(folder, tmp_path / "here.db", config_of())
    monkeypatch.chdir(folder)
    with SqliteIndex(tmp_path / "there.db", root=folder.parent) as index:
        job = RayIndexJob(index, config_of(), TWO)
        assert job.run(["a.mp4", "b.mp4", "./c.mp4", "d.mp4", "missing.mp4"]).failures.keys() == {
            "missing.mp4"
        }
        assert (index.rows(), {}) == here


def test_relative_paths_in_options_too(cluster, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = config_of(fuse="fuse")
    here = rows_of(folder, tmp_path / "here.db", config)
    for name, options in (("a worker", TWO), ("a shared recognizer", SHARED)):
        Path("fuse").touch()
        assert rows_of(folder, tmp_path / f"{name}.db", config, options) == here
        assert not Path("fuse").exists()


def test_a_shared_recognizer_says_what_waiting_and_sending_cost(cluster, folder, tmp_path):
    seconds = 0.02
    rows_of(folder, tmp_path / "x.db", config_of(seconds=seconds), SHARED)
    with SqliteIndex(tmp_path / "x.db", mode="read") as index:
        over = overview(index)
        num_requests = len(index.rows()["windows"])
    spent = over.receipt + over.audit_receipt
    # Two workers, one host that sleeps: each waits for the other, and for the other's requests.
    assert spent.recognize_ms > 1000 * seconds
    assert spent.queue_ms > num_requests
    assert 0 < spent.transfer_ms < spent.recognize_ms + spent.queue_ms


def test_prometheus_finds_what_the_actors_did(cluster, folder, tmp_path):
    earlier = set(scraped())
    rows_of(folder, tmp_path / "x.db", config_of(), SHARED)
    with SqliteIndex(tmp_path / "x.db", mode="read") as index:
        over, num_windows = overview(index), len(index.rows()["windows"])
    spent = over.receipt + over.audit_receipt
    expected = {
        ("frames_total", "process"): spent.num_processed,
        ("frames_total", "skip"): spent.num_skipped,
        ("windows_total", ""): num_windows,
        ("files_total", "done"): 4,
    }
    found, until = Counter(), time.monotonic() + 60
    while not (expected.items() <= found.items() and found["batch_size_count", ""]):
        assert time.monotonic() < until, (found, expected)
        time.sleep(0.5)
        found = added_up(earlier)
    assert found["stage_seconds_total", "decode"] > 0
    assert found["batch_size_count", ""] <= found["queue_seconds_count", ""]


def added_up(earlier):
    """(name, label) → value, but of what was there before: actors of other tests."""
    found = Counter()
    for (actor, name, label), value in scraped().items():
        if (actor, name, label) not in earlier:
            found[name, label] += value
    return found


def scraped():
    """(actor, name, action or stage or result) → value."""
    found = Counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=30) as answer:
        for family in text_string_to_metric_families(answer.read().decode()):
            for sample in family.samples:
                name = sample.name.removeprefix("ray_streamdyn_")
                labels = (sample.labels.get(k) for k in ("action", "stage", "result"))
                key = sample.labels.get("WorkerId", ""), name, next(filter(None, labels), "")
                found[key] += sample.value
    return found


def test_a_wrong_call_is_one_sentence(folder, tmp_path):
    asked = ["index", str(folder), "--into", str(tmp_path / "x.db"), "--recognizer", "brightness"]
    wrong = streamdyn(*asked, "--runner", "sparks")
    assert (wrong.exit_code, "local, processes, ray" in wrong.stderr) == (2, True)
    wrong = streamdyn(*asked, "--address", "auto")
    assert (wrong.exit_code, "for --runner ray" in wrong.stderr) == (2, True)
    done = subprocess.run(
        [*PROGRAM, *asked, "--runner", "ray", "--address", "127.0.0.1:1"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert "cannot reach a Ray cluster at 127.0.0.1:1" in done.stderr


def test_the_cluster_file_is_one_of_rays_and_has_what_actors_ask_for():
    import json

    import jsonschema
    import yaml

    cluster = yaml.safe_load((Path(__file__).parents[1] / "ray_cluster.yaml").read_text())
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)
    kinds = cluster["available_node_types"]
    assert cluster["head_node_type"] in kinds
    default = ClusterOptions()
    assert kinds["decode"]["resources"]["CPU"] >= default.worker_cpus
    assert kinds["recognize"]["resources"].keys() == {"CPU", "GPU"}
    assert sum(kind.get("max_workers", 0) for kind in kinds.values()) <= cluster["max_workers"]
