"""Stream jobs: what is stored and told is the same whatever fails and is killed on the way."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamdyn.delivery.courier import Courier, DeliveryError
from streamdyn.errors import ConfigError, StoreError
from streamdyn.index import SqliteIndex
from streamdyn.index.live_book import LiveBook, Message, Retention
from streamdyn.job import JobConfig, load_job
from streamdyn.ops.metrics import JobMetrics
from streamdyn.ops.server import OpsServer
from streamdyn.pipelines.stream_job import StreamJob
from streamdyn.pipelines.stream_parts import task_of
from streamdyn.run.stream_worker import Stored, StreamWorker
from tests.cameras import Numbers, cameras, write_units, write_video
from tests.playlists import Playlist
from tests.stream_parts import Breaking

COUNT = 200


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "numbered.mp4", COUNT)


def write_job(folder: Path, url: str | Path, **more: Any) -> Path:
    """A job of one stream called `gate`."""
    table = {
        "index": "live.db",
        "policy": {"name": "stride", "every": 4, "lookahead": 10},
        "recognizer": {"name": "numbers"},
        "source": {"pace": "fast", "max_block_items": 8, "retry_seconds": 0.01},
        "streams": {"gate": {"url": str(url)}},
        "events": {"min_score": 0.5, "end_after_seconds": 0},
        "sinks": [{"kind": "jsonl", "path": "all.jsonl", "send": "all"}],
        "ops": {"port": 0},
        **more,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(table))
    return path


def run_job(path: Path) -> None:
    StreamJob(load_job(path)).run()


def rows(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"{(folder / 'live.db').as_uri()}?mode=ro", uri=True)) as database:
        return database.execute(sql).fetchall()


def outcomes(folder: Path) -> list[tuple[int, int, str]]:
    return rows(folder, "SELECT ordinal, ticks, label FROM outcomes ORDER BY ordinal")


def events(folder: Path) -> list[Any]:
    return rows(folder, "SELECT id, label, start_ticks, stop_ticks, is_over FROM events ORDER BY 3")


def told(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "all.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [m["number"] for m in found] == sorted({m["number"] for m in found})
    return [{k: v for k, v in m.items() if k != "number"} for m in found]


HLS: dict[str, Any] = {
    "source": {"max_block_items": 8, "retry_seconds": 0.01, "stall_seconds": 0.4,
               "max_lag_seconds": 3600},
    "load": {"target_lag_seconds": 3600},
}  # fmt: skip
"""Nothing depends on how late it is."""
CUTS = st.dictionaries(st.integers(0, COUNT // 25 - 1), st.integers(1, 2), max_size=3)
"""Segments → how often they break off, or stall."""


def hls_playlist(folder: Path) -> Playlist:
    """A recording on demand, of which it is known when it was filmed."""
    return Playlist(folder, num_segments=COUNT // 25, is_live=False, dated=1_790_000_000.0)


def cut(playlist: Playlist, cuts: dict[int, int], stall_seconds: float) -> None:
    playlist.cuts.clear()
    playlist.cuts.update({f"{segment:05d}.ts": times for segment, times in cuts.items()})
    playlist.stall_seconds = stall_seconds


@pytest.fixture(scope="module")
def playlist(tmp_path_factory) -> Iterator[Playlist]:
    with hls_playlist(tmp_path_factory.mktemp("playlist")) as found:
        yield found


@pytest.fixture(scope="module")
def unbroken_hls(playlist, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken_hls")
    run_job(write_job(folder, playlist.url, **HLS))
    return folder


@pytest.fixture(scope="module")
def unbroken(video, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    run_job(write_job(folder, video))
    return folder


def assert_same(folder: Path, unbroken: Path) -> None:
    assert outcomes(folder) == outcomes(unbroken)
    assert events(folder) == events(unbroken)
    assert told(folder) == told(unbroken)


def test_a_stream_becomes_rows_events_and_messages(unbroken):
    found = outcomes(unbroken)
    assert [(ordinal, label) for ordinal, _, label in found] == [
        (n, str(n)) for n in range(0, COUNT, 4)
    ]
    assert [label for _, label, *_ in events(unbroken)] == [str(n) for n in range(0, COUNT, 4)]
    phases = [m["phase"] for m in told(unbroken) if m["type"] == "event"]
    assert phases.count("start") == COUNT // 4
    assert phases.count("end") == COUNT // 4 - 1
    ids = [m["id"] for m in told(unbroken)]
    assert len(set(ids)) == len(ids)
    with SqliteIndex(unbroken / "live.db", mode="read") as index:
        assert {media.status for media in index.media()} == {"done"}


class Silent:
    """Is told, and says nothing."""

    def window(self, stored: Stored) -> None:
        """It is stored."""


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    broken=st.sets(st.integers(1, 25), max_size=5),
    aborts=st.lists(st.integers(1, 12), max_size=4),
    sink_fails=st.sets(st.integers(1, 10), max_size=4),
    cuts=CUTS,
    stall_seconds=st.sampled_from([0.0, 0.6]),
)
def test_joined_output_is_that_of_an_unbroken_run(
    playlist, unbroken_hls, tmp_path_factory, broken, aborts, sink_fails, cuts, stall_seconds
):
    """At random calls the recognizer and the sink fail, the server breaks off or stalls, and all is
    dropped and begun anew."""
    folder = tmp_path_factory.mktemp("broken")
    cut(playlist, cuts, stall_seconds)
    job = load_job(write_job(folder, playlist.url, **HLS))
    recognizer = Breaking(broken)
    for windows in [*aborts, 10**6]:
        book = LiveBook(job.index, topics=job.topics())
        outlet = StreamJob.outlets_of(job)[0]
        courier = Courier(book, outlet)
        worker = StreamWorker(task_of(job, "gate", recognizer), book, recognizer, Silent())
        stop_after(worker, book, windows)
        try:
            worker.run()
        except Abort:
            # As if the process had been killed: nothing is closed in good order.
            worker.hang_up()
            deliver_some(courier, sink_fails)
        else:
            while deliver_some(courier, sink_fails):
                continue
        outlet.close()
        book.close()
    assert_same(folder, unbroken_hls)
    assert not +playlist.cuts


def test_a_budget_is_kept_across_kills(video, tmp_path_factory):
    """What was spent before counts afterwards too."""
    more = {"policy": {"name": "full", "lookahead": 10}, "budget": {"share": 0.13}}
    whole, broken = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("broken")
    run_job(write_job(whole, video, **more))
    job = load_job(write_job(broken, video, **more))
    for windows in (3, 1, 7, 10**6):
        with closing(LiveBook(job.index, topics=job.topics())) as book:
            worker = StreamWorker(task_of(job, "gate", Numbers()), book, Numbers(), Silent())
            stop_after(worker, book, windows)
            with suppress(Abort):
                worker.run()
            worker.hang_up()
    assert 0 < len(outcomes(whole)) <= 0.13 * COUNT
    assert outcomes(broken) == outcomes(whole)


class Abort(ConfigError):
    """Ends a worker at once, since it is no fault that it waits out."""


def stop_after(worker: StreamWorker, book: LiveBook, windows: int) -> None:
    left = iter(range(windows))

    def window(stored: Stored) -> None:
        if next(left, None) is None:
            raise Abort("enough")

    worker.told = type("Told", (), {"window": staticmethod(window)})()


def deliver_some(courier: Courier, fails: set[int]) -> int:
    """One batch; in tries of these numbers the sink takes it and fails before it is noted."""
    deliver_some.count = getattr(deliver_some, "count", 0) + 1  # type: ignore[attr-defined]
    if deliver_some.count % 11 in fails:  # type: ignore[attr-defined]
        messages = courier.book.messages(courier.outlet.key, 7)
        if messages:
            courier.outlet.send(messages)
        return 1
    return courier.deliver()


class Child:
    """A `streamdyn watch` in a process of its own."""

    def __init__(self, *arguments: str | Path, log: Path, **variables: str) -> None:
        self._log = log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.stream_child", "watch", *map(str, arguments)],
            stdout=self._log, stderr=self._log, cwd=Path(__file__).parent.parent,
            env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        )  # fmt: skip

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self, seconds: float = 60) -> int:
        code = self.process.wait(seconds)
        self._log.close()
        return code


def wait_until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not in {seconds} s"
        time.sleep(0.05)


def num_outcomes(folder: Path) -> int:
    try:
        return rows(folder, "SELECT count(*) FROM outcomes")[0][0]
    except sqlite3.Error:
        return 0


def test_a_killed_process_goes_on_where_it_was(video, unbroken, tmp_path):
    path = write_job(tmp_path, video, recognizer={"name": "numbers", "milliseconds": 40})
    draw = random.Random(1)
    for _ in range(3):
        before = num_outcomes(tmp_path)
        child = Child(path, log=tmp_path / "log")
        more = draw.randint(3, 14)
        wait_until(lambda enough=before + more: num_outcomes(tmp_path) >= enough)
        child.end(signal.SIGKILL)
    assert num_outcomes(tmp_path) < COUNT // 4
    child = Child(path, log=tmp_path / "log")
    assert child.wait() == 0
    assert outcomes(tmp_path) == outcomes(unbroken)
    assert told(tmp_path) == told(unbroken)


@contextmanager
def running(job: StreamJob) -> Iterator[StreamJob]:
    thread = threading.Thread(target=job.run)
    thread.start()
    try:
        wait_until(lambda: job.ops is not None)
        yield job
    finally:
        job.stop()
        thread.join(30)
        assert not thread.is_alive()


def ask(job: StreamJob, path: str, *, post: bool = False) -> tuple[int, str]:
    assert job.ops is not None
    request = urllib.request.Request(f"{job.ops.address}/{path}", data=b"" if post else None)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read().decode()


def frames(job: StreamJob) -> int:
    return sum(stream["frames"] for stream in job.status()["streams"])


def test_a_job_answers_and_obeys(video, tmp_path):
    path = write_job(tmp_path, video, source={"pace": "real", "loop": True})
    with running(StreamJob(load_job(path), file=path)) as job:
        wait_until(lambda: frames(job) > 20)
        assert ask(job, "healthz") == (200, "ok\n")
        assert ask(job, "readyz") == (200, "ok\n")
        code, text = ask(job, "metrics")
        assert code == 200
        assert 'streamdyn_frames_total{action="skip",stream="gate"}' in text
        assert 'streamdyn_stream_up{stream="gate"} 1.0' in text
        assert ask(job, "nothing")[0] == 404
        assert ask(job, "pause?stream=gate", post=True)[0] == 200
        wait_until(lambda: job.status()["streams"][0]["state"] == "paused")
        held = frames(job)
        time.sleep(0.5)
        assert frames(job) == held
        assert ask(job, "resume", post=True)[0] == 200
        wait_until(lambda: frames(job) > held + 20)
        code, text = ask(job, "pause?stream=gaet", post=True)
        assert code == 400
        assert "did you mean 'gate'" in json.loads(text)["error"]
        write_job(
            tmp_path, video, source={"pace": "real", "loop": True},
            streams={"yard": {"url": str(video)}},
        )  # fmt: skip
        code, text = ask(job, "reload", post=True)
        assert json.loads(text) == {"begun": ["yard"], "ended": ["gate"], "changed": []}
        wait_until(lambda: frames(job) > 20)
        path.write_text("index: [")
        code, text = ask(job, "reload", post=True)
        assert code == 400
        assert "job.yaml:1" in text
        assert [s["stream"] for s in job.status()["streams"]] == ["yard"]
        ask(job, "stop", post=True)


def test_sigterm_drains(video, tmp_path):
    path = write_job(tmp_path, video, source={"pace": "real", "loop": True})
    child = Child(path, log=tmp_path / "log")
    wait_until(lambda: num_outcomes(tmp_path) > 5)
    assert child.end(signal.SIGTERM) == 0
    found = [ordinal for ordinal, _, _ in outcomes(tmp_path)]
    assert found == list(range(0, 4 * len(found), 4))
    assert len([m for m in told(tmp_path) if m["type"] == "outcome"]) == len(found)
    assert "ended" in (tmp_path / "log").read_text()
    with SqliteIndex(tmp_path / "live.db", mode="read") as index:
        (media,) = index.media()
        assert media.status == "running"
        assert len(index.segments(media.id)) == len(found)
    assert not (tmp_path / "live.db.state" / "ops.json").exists()


def test_the_recognizer_fails_while_a_camera_goes_on(tmp_path):
    """What a camera sends while a failure is waited out is watched afterwards."""
    units = write_units(tmp_path / "numbered.units")
    with cameras(gate=units) as server:
        path = write_job(
            tmp_path, server.url("gate"), source={"retry_seconds": 1.0},
            policy={"name": "full", "lookahead": 8}, load={"target_lag_seconds": 60},
            recognizer={"name": "breaking", "at": [4, 9]},
        )  # fmt: skip
        job = StreamJob(load_job(path))
        with running(job):
            wait_until(lambda: frames(job) > 150)
            assert job.status()["streams"][0]["restarts"] == 2
    numbers = [int(label) for _, _, label in outcomes(tmp_path)]
    assert len(numbers) > 150
    assert {(b - a) % 250 for a, b in pairwise(numbers)} == {1}
    assert job.status()["streams"][0]["drop"] == 0


def test_under_load_the_budget_shrinks_before_anything_is_dropped(video, tmp_path):
    path = write_job(
        tmp_path, video,
        recognizer={"name": "numbers", "milliseconds": 60},
        policy={"name": "full", "lookahead": 8},
        source={"pace": "real", "loop": True, "max_lag_seconds": 20},
        load={"target_lag_seconds": 1.0},
    )  # fmt: skip
    with running(StreamJob(load_job(path))) as job:
        wait_until(lambda: frames(job) > 250)
        status = job.status()["streams"][0]
    assert status["drop"] == 0
    assert status["budget_share"] < 1
    assert 0 < status["process"] < status["frames"]


@contextmanager
def watched_in_chapters(folder: Path, video: Path, **options: Any) -> Iterator[LiveBook]:
    job = load_job(write_job(folder, video))
    with closing(LiveBook(job.index, chapter_seconds=2.0, **options)) as book:
        StreamWorker(task_of(job, "gate", Numbers()), book, Numbers(), Silent()).run()
        assert [media.path for media in book.index.media()] == [
            f"gate/{second:08d}.000s" for second in (0, 2, 4, 6)
        ]
        assert {media.status for media in book.index.media()} == {"done"}
        yield book


def test_chapters_are_kept_by_age(video, tmp_path):
    now = [2.0]
    retention = Retention(seconds=4.0)
    with watched_in_chapters(tmp_path, video, retention=retention, now=lambda: now[0]) as book:
        now[0] = 5.0
        assert book.clean() == 0
        now[0] = 7.0
        assert book.clean() == 4
        assert outcomes(tmp_path) == []
        # The last one is not over: its end is in no chapter.
        assert len(events(tmp_path)) <= 1


def test_chapters_are_kept_by_size(video, tmp_path):
    with watched_in_chapters(tmp_path, video, retention=Retention(num_bytes=1000)) as book:
        assert book.clean() == 4
        assert book.clean() == 0


def test_a_changed_configuration_goes_on_after_what_is_there(video, tmp_path):
    path = write_job(tmp_path, video, source={"pace": "fast", "max_block_items": 8})
    job = load_job(path)
    with closing(LiveBook(job.index, topics=job.topics())) as book:
        worker = StreamWorker(task_of(job, "gate", Numbers()), book, Numbers(), Silent())
        stop_after(worker, book, 5)
        with pytest.raises(Abort):
            worker.run()
        worker.hang_up()
    held = outcomes(tmp_path)
    assert 0 < len(held) < COUNT // 4
    write_job(tmp_path, video, policy={"name": "stride", "every": 10, "lookahead": 10})
    run_job(path)
    found = outcomes(tmp_path)
    assert found[: len(held)] == held
    assert [n for n, _, _ in found[len(held) :]] == list(range(60, COUNT, 10))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"polcy": {"name": "stride"}}, r"line 1?\d: polcy: no such key"),
        ({"audit": 2}, r"line \d+: audit: Input should be less than or equal to 1"),
        ({"streams": {}}, r"line \d+: streams: Dictionary should have at least 1 item"),
        ({"streams": {"a b": {"url": "x"}}}, "streams.a b"),
        ({"index": "${HOME}.db"}, r"line \d+: \$\{HOME\} can only stand in url"),
        ({"streams": {"gate": {"url": "${NO_SUCH}"}}}, "no variable NO_SUCH"),
        ({"sinks": [{"kind": "pigeon"}]}, r"line \d+: sinks.0"),
        ({"sinks": [{"kind": "jsonl", "path": "x", "rotate": 1}]}, "rotate: no such key"),
        ({"ray": {}, "workers": 2}, "line 1: workers are of threads; with ray say"),
        (
            {"ray": {}, "streams": {"in": {"url": "-", "kind": "text"}}},
            "input cannot be read by an",
        ),
    ],
)
def test_wrong_job_files_are_explained_with_lines(video, tmp_path, change, says):
    path = write_job(tmp_path, video, **change)
    with pytest.raises(ConfigError, match=says):
        load_job(path)


def test_lines_are_those_of_the_mistakes(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("index: a.db\nstreams:\n  gate:\n    url: x\n    evnts: {}\nindex: b.db\n")
    with pytest.raises(ConfigError, match=r"line 6: index stands twice.*line 5: .*evnts: no such"):
        load_job(path)
    path.write_text("index: a.db\nstreams: {gate: {url: x}\n")
    with pytest.raises(ConfigError, match=r"job.yaml:3"):
        load_job(path)


def test_secrets_come_from_the_environment(video, tmp_path):
    path = write_job(tmp_path, video, streams={"gate": {"url": "rtsp://${WHO}:${WORD}@10.0.0.1/x"}})
    job = load_job(path, {"WHO": "me", "WORD": "secret"})
    assert job.config.streams["gate"].url == "rtsp://me:secret@10.0.0.1/x"
    task = task_of(job, "gate", Numbers())
    assert task.source.name == "rtsp://***@10.0.0.1/x"


def test_the_schema_of_job_files_knows_all_keys():
    schema = JobConfig.model_json_schema()
    assert set(schema["properties"]) == set(JobConfig.model_fields)


def test_a_policy_that_wants_the_whole_stream_is_refused(video, tmp_path):
    job = load_job(write_job(tmp_path, video, policy={"name": "uniform_k", "k": 3}))
    with pytest.raises(ConfigError, match="stream gate: policy uniform_k wants to see a stream"):
        StreamJob(job)


def test_a_server_open_to_others_needs_a_token():
    with pytest.raises(ConfigError, match=r"ops\.token is empty"):
        OpsServer(None, "0.0.0.0", 0)  # type: ignore[arg-type]


def test_one_process_at_a_time_has_the_state(video, tmp_path):
    path = write_job(tmp_path, video, source={"pace": "real", "loop": True})
    first = StreamJob(load_job(path))
    with running(first), pytest.raises(StoreError, match="another process uses"):
        StreamJob(load_job(path))
    StreamJob(load_job(write_job(tmp_path, video))).run()


def test_an_index_of_another_kind_is_refused(video, tmp_path):
    (tmp_path / "live.db").write_text("no database")
    with pytest.raises(StoreError, match="not an index or is damaged"):
        StreamJob(load_job(write_job(tmp_path, video)))


def test_messages_wait_for_a_sink_that_fails(video, tmp_path):
    class Failing:
        name = key = "failing"
        topics = frozenset({"event"})
        num_fails = 3

        def __init__(self) -> None:
            self.taken: list[Message] = []

        def send(self, messages: list[Message]) -> int:
            if self.num_fails:
                self.num_fails -= 1
                raise DeliveryError("not now")
            self.taken += messages[:2]
            return min(2, len(messages))

        def close(self) -> None:
            """Nothing to close."""

    outlet = Failing()
    job = StreamJob(load_job(write_job(tmp_path, video)), outlets=[outlet])
    job.run()
    assert outlet.num_fails == 0
    ids = [message.id for message in outlet.taken]
    assert ids == [m["id"] for m in told(tmp_path) if m["type"] == "event"]


DEPLOY = Path(__file__).parent.parent / "deploy"


def test_the_dashboard_shows_metrics_that_are_there():
    there = set(re.findall(r"# HELP (streamdyn_\w+)", JobMetrics().exposition().decode()))
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    asked = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    named = {name for text in asked for name in re.findall(r"streamdyn_\w+", text)}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in named} <= there
    page = (DEPLOY.parent / "docs" / "live.md").read_text()
    assert set(re.findall(r"`(streamdyn_\w+)\{", page)) <= there


def test_the_files_for_operators_name_commands_that_exist():
    unit = (DEPLOY / "streamdyn.service").read_text()
    docker = (DEPLOY / "Dockerfile").read_text()
    assert re.findall(r"^ExecStart=(\S+) (\w+)", unit, re.MULTILINE) == [
        ("/opt/streamdyn/bin/streamdyn", "watch")
    ]
    assert 'ENTRYPOINT ["streamdyn"]' in docker


def test_a_restart_and_a_quick_resume_do_not_end_a_job(video, tmp_path):
    path = write_job(tmp_path, video, source={"pace": "real", "loop": True})
    with running(StreamJob(load_job(path), file=path)) as job:
        wait_until(lambda: frames(job) > 10)
        assert ask(job, "restart", post=True)[0] == 200
        wait_until(lambda: frames(job) > 10)
        for _ in range(3):
            ask(job, "pause", post=True)
            ask(job, "resume", post=True)
            held = frames(job)
            wait_until(lambda held=held: frames(job) > held + 10)
        write_job(
            tmp_path, video, source={"pace": "real", "loop": True},
            policy={"name": "stride", "every": 5, "lookahead": 10},
        )  # fmt: skip
        assert json.loads(ask(job, "reload", post=True)[1])["changed"] == ["gate"]
        wait_until(lambda: frames(job) > 10)


def test_sinks_that_look_the_same_are_told_apart_and_equal_ones_refused(video, tmp_path):
    hooks = [{"kind": "webhook", "url": f"http://127.0.0.1:1/?token={t}"} for t in "ab"]
    job = load_job(write_job(tmp_path, video, sinks=hooks))
    one, two = StreamJob.outlets_of(job)
    assert one.name == two.name
    assert one.key != two.key
    with pytest.raises(ConfigError, match="two sinks are the same"):
        StreamJob(load_job(write_job(tmp_path, video, sinks=[hooks[0], hooks[0]])))


def test_another_file_needs_another_name(video, tmp_path):
    run_job(write_job(tmp_path, video))
    other = write_video(tmp_path / "other.mp4", 30)
    with pytest.raises(ConfigError, match="give this one another name"):
        run_job(write_job(tmp_path, other))


def test_a_sink_that_raises_anything_is_tried_again(video, tmp_path):
    class Odd:
        name = key = "odd"
        topics = frozenset({"event"})
        num_calls = 0

        def send(self, messages: list[Message]) -> int:
            self.num_calls += 1
            if self.num_calls == 1:
                raise KeyError("https://bob:s3cret@host")
            return len(messages)

        def close(self) -> None:
            """Nothing to close."""

    odd = Odd()
    job = StreamJob(load_job(write_job(tmp_path, video)), outlets=[odd])
    job.run()
    sinks = {sink["name"]: sink for sink in job.status()["sinks"]}
    assert sinks["odd"]["sent"] == COUNT // 2 - 1
    assert "s3cret" not in json.dumps(job.status())
