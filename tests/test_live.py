"""The live source against real servers: RTSP cameras, HLS over HTTP, MPEG-TS over TCP, files."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from streamdyn.errors import ConfigError
from streamdyn.items import FrameSpec
from streamdyn.protocols import Position
from streamdyn.sources.live import Live, LivePictureCursor
from streamdyn.sources.live.packets import LivePacket
from streamdyn.sources.live.spool import Spool
from streamdyn.testing.sources import check_source
from tests.cameras import RATE, SIZE, cameras, free_port, number_in, write_units, write_video

GREY = FrameSpec(*SIZE, "gray")


@pytest.fixture(scope="module")
def units(tmp_path_factory) -> Path:
    return write_units(tmp_path_factory.mktemp("units") / "numbered.units")


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "numbered.mp4", 200)


class Watched:
    """Numbers and times of what a cursor hands out."""

    def __init__(self, cursor: LivePictureCursor) -> None:
        self._cursor = cursor
        self.numbers: list[int] = []
        self.ticks: list[int] = []
        self.num_errors = 0

    def step(self) -> bool:
        block = self._cursor.next_block()
        if block is None:
            return False
        items, errors = self._cursor.materialize(range(block.first, block.stop), GREY)
        self.num_errors += len(errors)
        self.numbers += [number_in(item.data) for item in items]
        self.ticks += block.pts.tolist()
        self._cursor.release(block.stop)
        return True

    def until(self, is_enough: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not is_enough():
            assert time.monotonic() < deadline, f"not in {seconds} s: {self.numbers[-5:]}"
            assert self.step(), "the stream has ended"

    def to_the_end(self) -> Watched:
        while self.step():
            continue
        return self

    def position(self) -> Position:
        return Position(len(self.ticks), self.ticks[-1])


def test_a_file_read_fast_is_whole_and_in_order(video, tmp_path):
    with closing(Live(video, pace="fast", spool=tmp_path).open()) as cursor:
        watched = Watched(cursor).to_the_end()
    assert watched.numbers == list(range(200))
    assert watched.ticks == [n * 90_000 // RATE for n in range(200)]


def test_the_contract_of_sources_holds(video, tmp_path):
    def open_it(position: Position | None) -> LivePictureCursor:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        return Live(video, pace="fast", spool=folder).open(position)

    check_source(open_it)


def test_a_file_that_loops_goes_on(video):
    with closing(Live(video, pace="fast", loop=True).open()) as cursor:
        watched = Watched(cursor)
        watched.until(lambda: len(watched.numbers) > 450)
    assert watched.numbers[:450] == [n % 200 for n in range(450)]
    assert {b - a for a, b in pairwise(watched.ticks)} == {90_000 // RATE}


def test_a_file_is_paced(video):
    with closing(Live(video, pace="real").open()) as cursor:
        began = time.monotonic()
        watched = Watched(cursor)
        watched.until(lambda: len(watched.numbers) >= 50)
        assert time.monotonic() - began > 1.5


@pytest.mark.parametrize("where", [1, 37, 100, 199])
@pytest.mark.parametrize("keeps_spool", [True, False])
def test_a_file_is_gone_on_with(video, tmp_path, where, keeps_spool):
    source = Live(video, pace="fast", spool=tmp_path / "a", max_block_items=7)
    with closing(source.open()) as cursor:
        first = Watched(cursor)
        first.until(lambda: len(first.numbers) >= where)
    source = Live(video, pace="fast", spool=tmp_path / ("a" if keeps_spool else "b"))
    with closing(source.open(first.position())) as cursor:
        second = Watched(cursor).to_the_end()
    assert first.numbers + second.numbers == list(range(200))


def test_a_run_that_ended_with_a_gop_loses_none_of_it(video, tmp_path, monkeypatch):
    """The last pictures of the GOP were not handed out yet, and nothing of it is read again."""
    append, num_stored = Spool.append, 0

    def append_some(spool: Spool, packet: LivePacket) -> bool:
        nonlocal num_stored
        if num_stored == 125:
            time.sleep(0.2)
            return False
        num_stored += 1
        return append(spool, packet)

    source = Live(video, pace="fast", spool=tmp_path, max_block_items=7)
    monkeypatch.setattr(Spool, "append", append_some)
    with closing(source.open()) as cursor:
        first = Watched(cursor)
        first.until(lambda: num_stored == 125)
    monkeypatch.undo()
    with closing(source.open(first.position())) as cursor:
        second = Watched(cursor).to_the_end()
    assert first.numbers + second.numbers == list(range(200))


def test_a_camera_that_goes_and_comes(units):
    with (
        cameras(gate=units) as server,
        closing(Live(server.url("gate"), stall_seconds=2, retry_seconds=0.2).open()) as cursor,
    ):
        watched = Watched(cursor)
        watched.until(lambda: len(watched.numbers) >= 30)
        server.kill()
        gone_at = len(watched.numbers)
        server.revive()
        watched.until(lambda: len(watched.numbers) >= gone_at + 60)
        assert watched.num_errors == 0
        assert sum(cursor.ingest.status.reconnects.values()) >= 1
        steps = [b - a for a, b in pairwise(watched.numbers) if (b - a) % 250 != 1]
        assert len(steps) == 1, f"one gap, where it was gone: {steps}"
        assert all(b > a for a, b in pairwise(watched.ticks))
        assert abs(watched.ticks[-1] / 90_000 - time.time()) < 5


def test_a_camera_that_stalls_and_one_that_sends_rubbish(units):
    with (
        cameras(gate=units) as server,
        closing(Live(server.url("gate"), stall_seconds=1.5, retry_seconds=0.2).open()) as cursor,
    ):
        watched = Watched(cursor)
        watched.until(lambda: len(watched.numbers) >= 20)
        server.tell("stall gate")
        threading.Timer(4, lambda: server.tell("go gate")).start()
        held = len(watched.numbers)
        watched.until(lambda: len(watched.numbers) >= held + 60)
        assert cursor.ingest.status.reconnects["stalled"] >= 1
        assert watched.num_errors == 0
        server.tell("garbage gate 10")
        held = len(watched.numbers)
        watched.until(lambda: watched.num_errors > 0)
        watched.until(lambda: len(watched.numbers) >= held + 60)
        # What could be decoded is right; what could not is an error, not another picture.
        assert all(0 <= number < 250 for number in watched.numbers)


def test_a_camera_that_changes_its_resolution(units, tmp_path):
    larger = write_units(tmp_path / "larger.units", 100, size=(320, 192))
    with (
        cameras(gate=units) as server,
        closing(Live(server.url("gate"), retry_seconds=0.2).open()) as cursor,
    ):
        watched = Watched(cursor)
        watched.until(lambda: len(watched.numbers) >= 20)
        server.tell(f"use gate {larger}")
        sizes = set()
        deadline = time.monotonic() + 20
        while (320, 192) not in sizes and time.monotonic() < deadline:
            block = cursor.next_block()
            assert block is not None
            items, errors = cursor.materialize([block.first], FrameSpec(None, None, "gray"))
            sizes |= {item.data.shape[::-1] for item in items}
            assert not errors
            cursor.release(block.stop)
        assert sizes == {SIZE, (320, 192)}


def test_mpegts_over_tcp(tmp_path):
    path = write_video(tmp_path / "numbered.ts", 100)
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as listener:

        def serve() -> None:
            for _ in range(2):  # It hangs up, and begins again.
                client, _ = listener.accept()
                with client:
                    client.sendall(path.read_bytes())

        threading.Thread(target=serve, daemon=True).start()
        source = Live(f"tcp://127.0.0.1:{port}", retry_seconds=0.1, stall_seconds=2)
        with closing(source.open()) as cursor:
            watched = Watched(cursor)
            watched.until(lambda: len(watched.numbers) >= 200)
            assert watched.numbers[:200] == [*range(100), *range(100)]
            assert all(b > a for a, b in pairwise(watched.ticks))


@pytest.mark.parametrize("overload", ["drop_oldest", "newest_only"])
def test_what_is_late_is_dropped_by_the_rule_and_counted(video, overload):
    source = Live(video, pace="real", overload=overload, max_lag_seconds=0.8)
    with closing(source.open()) as cursor:
        watched = Watched(cursor)
        watched.step()
        time.sleep(2)
        watched.until(lambda: watched.numbers[-1] >= 80)
        cursor.ingest.hang_up()
        watched.to_the_end()
        dropped = cursor.take_receipt().num_dropped
        assert len(watched.numbers) + dropped == cursor.ingest.status.num_packets
    assert dropped > 20
    assert all(b > a for a, b in pairwise(watched.numbers))


def test_what_comes_while_too_much_waits_is_refused_and_counted(video):
    source = Live(video, pace="real", overload="drop_newest", max_lag_seconds=0.8)
    with closing(source.open()) as cursor:
        watched = Watched(cursor)
        watched.step()
        time.sleep(2)
        while len(watched.numbers) < 60:
            assert watched.step()
            cursor.spool.done(watched.ticks[-1])
        cursor.ingest.hang_up()
        watched.to_the_end()
        dropped = cursor.take_receipt().num_dropped
        assert len(watched.numbers) + dropped == cursor.ingest.status.num_packets
    assert dropped > 0
    assert watched.numbers[:13] == list(range(13))
    assert watched.numbers[-1] > 60


def test_waiting_drops_nothing(video):
    with closing(Live(video, pace="real", overload="wait").open()) as cursor:
        time.sleep(2)
        assert Watched(cursor).to_the_end().numbers == list(range(200))
        assert cursor.take_receipt().num_dropped == 0


def test_threads_end_with_the_cursor(video):
    before = threading.active_count()
    for _ in range(5):
        with closing(Live(video, pace="fast").open()) as cursor:
            Watched(cursor).step()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"overload": "panic"}, "overload must be one of wait"),
        ({"pace": "slow"}, "pace must be real or fast"),
        ({"stall_seconds": 0}, "stall_seconds must be above 0"),
        ({"path": "gone.mp4"}, "no such file"),
    ],
)
def test_wrong_options_are_named(options, says):
    with pytest.raises(ConfigError, match=says):
        Live(**{"path": "rtsp://127.0.0.1:1/x", **options})


@pytest.mark.parametrize("suffix", ["mkv", "avi", "ts", "webm", "mpg"])
def test_pictures_are_those_of_the_file(tmp_path, suffix):
    """Whatever the codec: a decoder made from what the spool holds is as good as the file's own."""
    codec = {"avi": "msmpeg4", "webm": "libvpx", "mpg": "mpeg2video"}.get(suffix, "libx264")
    path = write_video(tmp_path / f"numbered.{suffix}", 60, codec=codec)
    with closing(Live(path, pace="fast").open()) as cursor:
        watched = Watched(cursor).to_the_end()
    assert watched.num_errors == 0
    assert watched.numbers == list(range(60))


def test_pictures_that_cannot_be_decoded_are_a_reason_to_connect_again(units):
    with (
        cameras(gate=units) as server,
        closing(Live(server.url("gate"), retry_seconds=0.1).open()) as cursor,
    ):
        watched = Watched(cursor)
        watched.until(lambda: len(watched.numbers) >= 10)
        cursor.ingest.connect_again()
        held = len(watched.numbers)
        watched.until(lambda: cursor.ingest.status.reconnects["no pictures"] == 1)
        watched.until(lambda: len(watched.numbers) >= held + 30)


def test_packets_wait_in_memory_while_the_disk_is_full(video, monkeypatch):
    from streamdyn.sources.live.spool import Spool

    is_full = threading.Event()
    write = Spool._write
    monkeypatch.setattr(
        Spool, "_write", lambda spool, record: not is_full.is_set() and write(spool, record)
    )
    with closing(Live(video, pace="real").open()) as cursor:
        watched = Watched(cursor)
        watched.until(lambda: len(watched.numbers) >= 30)
        is_full.set()
        time.sleep(1.5)
        assert "no room for packets" in cursor.ingest.status.last_error
        is_full.clear()
        watched.until(lambda: len(watched.numbers) >= 100)
        assert watched.numbers[:100] == list(range(100))
        assert cursor.take_receipt().num_dropped == 0
