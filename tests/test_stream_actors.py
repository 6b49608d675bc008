"""Stream jobs on real Ray processes: what is stored and told is that of threads, whoever dies."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from streamdyn.delivery.courier import DeliveryError, Outlet
from streamdyn.errors import ConfigError
from streamdyn.index.live_book import LiveBook
from streamdyn.job import Job, load_job
from streamdyn.pipelines.stream_actors import ActorRunner
from streamdyn.pipelines.stream_job import StreamJob
from streamdyn.run.ray_live import LiveWriter
from tests.cameras import write_video
from tests.playlists import Playlist
from tests.stream_parts import PART
from tests.test_stream_job import (
    CUTS,
    HLS,
    Child,
    ask,
    assert_same,
    cut,
    frames,
    hls_playlist,
    num_outcomes,
    outcomes,
    run_job,
    running,
    wait_until,
    write_job,
)

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("ResourceWarning", "DeprecationWarning", "FutureWarning")
]
COUNT = 160
ROOT = Path(__file__).parent.parent
SLOW = {"name": "numbers", "milliseconds": 15}
TEXT = {
    "policy": {"name": "idf", "share": 0.2, "lookahead": 64},
    "recognizer": {"name": "recurrent", "model": "movie-sentiment"},
    "source": {},
}
"""With a state of the recognizer, which goes to and fro."""
WHO = ("stream", "recognizer", "writer")


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "numbered.mp4", COUNT)


@pytest.fixture(scope="module")
def unbroken(video, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    run_job(write_job(folder, video, recognizer=SLOW))
    return folder


@pytest.fixture(scope="module")
def playlist(tmp_path_factory) -> Iterator[Playlist]:
    with hls_playlist(tmp_path_factory.mktemp("playlist")) as found:
        yield found


@pytest.fixture(scope="module")
def unbroken_hls(playlist, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken_hls")
    run_job(write_job(folder, playlist.url, recognizer=SLOW, **HLS))
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """In processes of its own, which know the tests' recognizers."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{PART}"
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR",
        object_store_memory=80 << 20, log_to_driver=False,
    )  # fmt: skip
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        ray.shutdown()
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


def on_ray(folder: Path, url: str | Path, **more: Any) -> Path:
    return write_job(folder, url, **{"recognizer": SLOW, "ray": {}, **more})


def kill(job: StreamJob, who: str) -> None:
    """Its process, at once; Ray or the job makes another."""
    runner = job.runner
    assert isinstance(runner, ActorRunner)
    handle = {
        "stream": lambda: job.workers["gate"].actor,  # type: ignore[attr-defined]
        "recognizer": lambda: runner.hosts[0],
        "writer": lambda: runner.writer,
    }[who]()
    if handle is not None:
        ray.kill(handle, no_restart=False)


class FailingSink:
    """A sink that takes messages and says that it did not."""

    def __init__(self, sink: Any, fails: set[int]) -> None:
        self._sink, self._fails, self._num_calls = sink, fails, 0
        self.name, self.key, self.topics = sink.name, sink.key, sink.topics

    def send(self, messages: Any) -> int:
        self._num_calls += 1
        taken = self._sink.send(messages)
        if self._num_calls in self._fails:
            raise DeliveryError("it is down")
        return taken

    def close(self) -> None:
        self._sink.close()


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)  # fmt: skip
@given(
    kills=st.lists(st.tuples(st.integers(0, COUNT // 4 - 2), st.sampled_from(WHO)), max_size=4),
    sink_fails=st.sets(st.integers(1, 6), max_size=2),
    cuts=CUTS,
    stall_seconds=st.sampled_from([0.0, 0.6]),
)
def test_joined_output_is_that_of_an_unbroken_run(
    cluster, playlist, unbroken_hls, tmp_path_factory, kills, sink_fails, cuts, stall_seconds
):
    """Actors are killed when so much is stored, the sink fails, the server breaks off or stalls."""
    folder = tmp_path_factory.mktemp("broken")
    cut(playlist, cuts, stall_seconds)

    class FailingJob(StreamJob):
        @staticmethod
        def outlets_of(job: Job) -> list[Outlet]:
            return [FailingSink(sink, sink_fails) for sink in StreamJob.outlets_of(job)]

    watched = FailingJob(load_job(on_ray(folder, playlist.url, **HLS)))
    thread = threading.Thread(target=watched.run)
    thread.start()
    wait_until(lambda: bool(watched.workers), 60)
    for at, who in sorted(kills):
        wait_until(lambda enough=at: num_outcomes(folder) >= enough or not thread.is_alive(), 60)
        if thread.is_alive():
            kill(watched, who)
    thread.join(90)
    assert not thread.is_alive()
    assert_same(folder, unbroken_hls)
    assert not +playlist.cuts


@pytest.mark.slow
def test_a_killed_driver_goes_on_where_it_was(video, unbroken, tmp_path):
    """It takes its cluster with it; what its actors still do on the way out changes nothing."""
    path = on_ray(tmp_path, video)
    for enough in (5, 14):
        child = Child(path, log=tmp_path / "log", PYTHONPATH=f"{ROOT}{os.pathsep}{PART}")
        wait_until(lambda enough=enough: num_outcomes(tmp_path) >= enough, 60)
        child.end(signal.SIGKILL)
    assert num_outcomes(tmp_path) < COUNT // 4
    child = Child(path, log=tmp_path / "log", PYTHONPATH=f"{ROOT}{os.pathsep}{PART}")
    assert child.wait() == 0
    assert_same(tmp_path, unbroken)


def test_a_job_answers_and_obeys(cluster, video, tmp_path):
    path = on_ray(
        tmp_path, video, source={"pace": "real", "loop": True},
        recognizer={"name": "breaking", "at": [4]},
    )  # fmt: skip
    with running(StreamJob(load_job(path), file=path)) as job:

        def state() -> dict[str, Any]:
            return job.status()["streams"][0]

        wait_until(lambda: frames(job) > 80)
        assert state()["last_error"] == "RuntimeError: broken at call 4"
        assert state()["restarts"] == 1
        assert ask(job, "readyz") == (200, "ok\n")
        code, text = ask(job, "metrics")
        counted = re.search(r'frames_total{action="process",stream="gate"} (\d+)', text)
        assert (code, counted is not None) == (200, True)
        assert ask(job, "pause?stream=gate", post=True)[0] == 200
        wait_until(lambda: state()["state"] == "paused")
        stored = num_outcomes(tmp_path)
        kill(job, "stream")
        wait_until(lambda: state()["restarts"] == 1 and state()["state"] == "paused")
        time.sleep(0.5)
        assert num_outcomes(tmp_path) == stored
        assert ask(job, "resume", post=True)[0] == 200
        wait_until(lambda: num_outcomes(tmp_path) > stored)
        assert ask(job, "restart", post=True)[0] == 200
        wait_until(lambda: 0 < frames(job) < 80)
    assert state()["state"] == "ended"


def test_text_is_read_as_in_threads(cluster, tmp_path):
    (tmp_path / "words.txt").write_text("A fine film, warm and funny. " * 40)
    for name, more in (("here", {}), ("there", {"ray": {}})):
        (tmp_path / name).mkdir()
        streams = {"words": {"url": str(tmp_path / "words.txt"), "kind": "text"}}
        path = write_job(tmp_path / name, "", streams=streams, **TEXT, **more)
        with running(StreamJob(load_job(path))) as job:
            wait_until(lambda job=job: frames(job) == 320)
    assert len(outcomes(tmp_path / "here")) > 50
    assert_same(tmp_path / "there", tmp_path / "here")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"ray": {"stream_cpus": 3}}, r"1 streams and 1 recognizers ask for 4 cores"),
        ({"ray": {"recognizer_gpus": 1}}, "ask for 1 GPUs each and the cluster has 0"),
    ],
    ids=["cores", "GPUs"],
)
def test_what_cannot_be_run_is_said(cluster, video, tmp_path, more, says):
    job = StreamJob(load_job(on_ray(tmp_path, video, **more)))
    with pytest.raises(ConfigError, match=says):
        job.run()


def test_an_actor_that_was_given_up_writes_nothing_more(tmp_path):
    (tmp_path / "state").mkdir()
    writer = LiveWriter(partial(LiveBook, tmp_path / "live.db"), tmp_path / "state")
    writer.open("gate", "hash", 1)
    writer.open("gate", "hash", 2)
    with pytest.raises(ConfigError, match="another actor now"):
        writer.refresh("gate", "hash", 1)
    writer.refresh("gate", "hash", 2)
    writer.close()
