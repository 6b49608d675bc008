"""What a live source is made of, without a server: times, addresses, waits, the spool."""

from __future__ import annotations

import errno
import threading
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdyn.errors import ConfigError, StoreError
from streamdyn.sources.live import spool as spool_module
from streamdyn.sources.live.cursor import LagRule
from streamdyn.sources.live.packets import TICKS_PER_SECOND as SECOND
from streamdyn.sources.live.packets import LivePacket, Section
from streamdyn.sources.live.reconnect import Reconnect
from streamdyn.sources.live.spool import Spool, SpoolReader
from streamdyn.sources.live.spool_records import Record
from streamdyn.sources.live.timekeeper import WRAP, Timekeeper
from streamdyn.sources.live.urls import Address, redacted


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_000_000.0, 50.0

    def keeper(self, *, from_zero: bool = False, is_repeatable: bool = False) -> Timekeeper:
        return Timekeeper(from_zero, is_repeatable, lambda: self.wall, lambda: self.steady)

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def test_a_camera_is_anchored_to_the_clock_at_every_connection():
    clock = Clock()
    keeper = clock.keeper()
    keeper.begin(0)
    first = keeper.ticks(0)
    assert first == 1_000_000 * SECOND
    clock.wait(95)
    keeper.begin(0)
    assert keeper.ticks(0) - first == 95 * SECOND


def test_a_clock_that_is_set_back_does_not_take_the_timeline_with_it():
    clock = Clock()
    keeper = clock.keeper()
    keeper.begin(0)
    last = keeper.ticks(10 * SECOND)
    clock.wall -= 3600
    keeper.begin(0)
    assert keeper.ticks(0) == last + 1


def test_what_hls_sends_again_gets_the_times_it_had():
    clock = Clock()
    keeper = clock.keeper(is_repeatable=True)
    keeper.begin(500 * SECOND)
    seen = [keeper.ticks(t * SECOND) for t in range(500, 520)]
    clock.wait(40)
    keeper.begin(510 * SECOND)
    assert [keeper.ticks(t * SECOND) for t in range(510, 520)] == seen[10:]


def test_hls_that_begins_anew_is_anchored_anew():
    clock = Clock()
    keeper = clock.keeper(is_repeatable=True)
    keeper.begin(900_000 * SECOND)
    last = keeper.ticks(900_000 * SECOND)
    clock.wait(40)
    keeper.begin(0)
    assert keeper.ticks(0) - last == 40 * SECOND


def test_a_file_that_loops_goes_on_after_its_end():
    keeper = Clock().keeper(from_zero=True, is_repeatable=True)
    keeper.begin(0)
    last = keeper.ticks(4 * SECOND)
    keeper.begin(0, loops=True)
    assert keeper.ticks(0) == last + SECOND // 25


def test_33_bits_that_wrap_are_no_jump():
    clock = Clock()
    keeper = clock.keeper()
    start = WRAP - 2 * SECOND
    keeper.begin(start)
    times = []
    for second in range(5):
        source = (start + second * SECOND) % WRAP
        assert not keeper.is_jump(source)
        times.append(keeper.ticks(source))
        clock.wait(1)
    assert [b - a for a, b in pairwise(times)] == [SECOND] * 4


@pytest.mark.parametrize(
    ("step_seconds", "waited_seconds", "is_jump"),
    [(0.04, 0.04, False), (30, 0.04, True), (-30, 0.04, True), (30, 30, False), (0.04, 30, False)],
)
def test_times_that_jump_begin_a_section(step_seconds, waited_seconds, is_jump):
    clock = Clock()
    keeper = clock.keeper()
    keeper.begin(100 * SECOND)
    assert not keeper.is_jump(100 * SECOND)
    clock.wait(waited_seconds)
    assert keeper.is_jump(round((100 + step_seconds) * SECOND)) is is_jump


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("rtsp://cam/1", "rtsp"),
        ("https://x/live/index.m3u8?token=1", "hls"),
        ("udp://@:1234", "mpegts"),
        ("rtmp://x/app", "rtmp"),
        ("http://x/cam.mjpg", "http"),
        ("/dev/video0", "device"),
        ("clip.mp4", "file"),
    ],
)
def test_kinds_of_addresses(url, kind):
    assert Address(url).kind == kind


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:p@ss:w0rd@10.0.0.7/main", "rtsp://***@10.0.0.7/main"),
        ("cannot open rtsp://a:b@c/d: no", "cannot open rtsp://***@c/d: no"),
        ("https://x/i.m3u8?a=1&token=abc&b=2", "https://x/i.m3u8?a=1&token=***&b=2"),
        ("https://x/i.m3u8?X-Amz-Signature=abc", "https://x/i.m3u8?X-Amz-Signature=***"),
        ("rtsp://10.0.0.7/main", "rtsp://10.0.0.7/main"),
    ],
)
def test_nothing_secret_is_printed(text, shown):
    assert redacted(text) == shown


def test_an_unknown_scheme_is_named():
    with pytest.raises(ConfigError, match="scheme 'gopher'"):
        Address("gopher://x/1").check()


@given(st.integers(1, 40), st.floats(0, 0.999))
def test_waits_grow_to_a_limit(num_failures, draw):
    rule = Reconnect(first_seconds=1, longest_seconds=30, jitter=0.3)
    wait = rule.wait_seconds(num_failures, draw)
    assert 0.7 * min(30, 2 ** (num_failures - 1)) - 1e-9 <= wait <= min(30, 2 ** (num_failures - 1))


def test_what_is_dropped_and_when():
    rule = LagRule("drop_oldest", 4.0)
    assert not rule.is_dropping(4.0, was=False)
    assert rule.is_dropping(4.1, was=False)
    assert rule.is_dropping(2.1, was=True)
    assert not rule.is_dropping(2.0, was=True)
    assert LagRule("newest_only", 1.0).is_dropping(0.1, was=True)
    assert not LagRule("wait", 1.0).is_dropping(500, was=True)


def test_a_gap_in_which_nothing_came_is_no_media_that_waits(tmp_path, open_spool):
    spool = open_spool(tmp_path, file_bytes=300)
    spool.begin(SECTION)
    times = [0, 1, 2, 3 * SECOND, 3 * SECOND + 10, 90 * SECOND, 90 * SECOND + 10]
    for ticks in times:
        assert spool.append(replace(packet(0), ticks=ticks, dts=ticks))
    assert spool.waiting_seconds == pytest.approx(2 + 22 / SECOND)
    spool.done(3 * SECOND)
    assert spool.waiting_seconds == pytest.approx(1 + 20 / SECOND)
    waiting = spool.waiting_seconds
    spool.close()
    again = open_spool(tmp_path)
    again.done(3 * SECOND)
    assert again.waiting_seconds == waiting
    again.done(times[-1])
    assert again.waiting_seconds == 0


def test_a_folder_is_one_writers_alone(tmp_path, open_spool, monkeypatch):
    monkeypatch.setattr(spool_module, "CLAIM_SECONDS", 0.3)
    first = open_spool(tmp_path)
    with pytest.raises(StoreError, match="another process uses"):
        open_spool(tmp_path)
    threading.Timer(0.1, first.close).start()
    open_spool(tmp_path)


@pytest.fixture
def open_spool():
    spools: list[Spool] = []

    def open_one(folder: Path, **options: Any) -> Spool:
        spools.append(Spool(folder, **options))
        return spools[-1]

    yield open_one
    for spool in spools:
        spool.close()


def packet(number: int, *, gop: int = 5, size: int = 100) -> LivePacket:
    return LivePacket(
        number, number, number % gop == 0, False, True, 1.5, bytes([number % 251]) * size
    )


SECTION = Section(1, "h264", b"\x01\x02", 640, 360, 77, goes_back=False)


def read_all(reader: SpoolReader) -> list[Record]:
    records = []
    with closing(reader):
        while (record := reader.next(0.01, lambda: False)) is not None:
            records.append(record)
    return records


def packets_of(records: list[Record]) -> list[LivePacket]:
    return [record for record in records if isinstance(record, LivePacket)]


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 60),
    after=st.integers(-1, 60),
    cut=st.integers(0, 400),
    file_bytes=st.integers(200, 3000),
)
def test_a_spool_that_was_cut_short_holds_all_before_the_cut(
    tmp_path_factory, count, after, cut, file_bytes
):
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, file_bytes=file_bytes)
    spool.begin(SECTION)
    written = [packet(number) for number in range(count)]
    assert all(spool.append(one) for one in written)
    spool.close()
    files = sorted(folder.glob("*.spool"))
    if files:
        with files[-1].open("rb+") as file:
            file.truncate(max(0, files[-1].stat().st_size - cut))
    again = Spool(folder, file_bytes=file_bytes)
    found = packets_of(read_all(SpoolReader(again)))
    assert found == written[: len(found)]
    assert len(found) >= count - cut // 100 - 1
    rest = packets_of(read_all(SpoolReader(again, after)))
    # From a keyframe on, so that what comes after can be decoded.
    assert [p for p in rest if p.ticks > after] == [p for p in found if p.ticks > after]
    assert not rest or rest[0].keyframe
    again.close()


def test_a_spool_is_written_on_after_a_restart(tmp_path, open_spool):
    for start in (0, 10):
        spool = open_spool(tmp_path, file_bytes=300)
        spool.begin(SECTION)
        assert all(spool.append(packet(number)) for number in range(start, start + 10))
        spool.close()
    spool = open_spool(tmp_path)
    assert [p.ticks for p in packets_of(read_all(SpoolReader(spool)))] == list(range(20))
    assert spool.section == SECTION
    assert spool.last_ticks == 19


def test_the_oldest_packets_go_and_are_counted_where_nobody_is_done_with_them(tmp_path, open_spool):
    spool = open_spool(tmp_path, max_bytes=2000, file_bytes=500)
    spool.begin(SECTION)
    reader = SpoolReader(spool)
    for number in range(100):
        assert spool.append(packet(number))
    assert spool.num_bytes <= 2000
    found = packets_of(read_all(reader))
    assert found[-1].ticks == 99
    assert spool.num_lost == 100 - len(found)
    spool.done(99)
    lost = spool.num_lost
    for number in range(100, 110):
        assert spool.append(packet(number))
    assert spool.num_lost == lost


def test_many_small_files_are_no_burden(tmp_path, open_spool):
    spool = open_spool(tmp_path)
    for number in range(400):
        spool.begin(replace(SECTION, number=number))
        assert spool.append(packet(number, gop=1))
        spool.done(number)
    assert len(spool.files) <= 257
    assert spool.num_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert spool.num_lost == 0


def test_a_writer_may_wait_for_room(tmp_path, open_spool):
    spool = open_spool(tmp_path, max_bytes=2000, file_bytes=500, may_wait=True)
    spool.begin(SECTION)
    writer = threading.Thread(target=lambda: [spool.append(packet(n)) for n in range(100)])
    writer.start()
    found: list[int] = []
    with closing(SpoolReader(spool)) as reader:
        while len(found) < 100:
            record = reader.next(5, lambda: False)
            assert record is not None
            if isinstance(record, LivePacket):
                found.append(record.ticks)
                spool.done(record.ticks)
    writer.join()
    assert found == list(range(100))
    assert spool.num_lost == 0


def test_a_full_disk_takes_no_packet_and_spoils_none(tmp_path, monkeypatch, open_spool):
    spool = open_spool(tmp_path)
    spool.begin(SECTION)
    assert spool.append(packet(0))

    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self) -> None:
            """Nothing was written."""

        def close(self) -> None:
            """Nothing to close."""

    spool._close_file()
    monkeypatch.setattr(spool, "_file", Full())
    assert not spool.append(packet(1))
    assert spool.append(packet(5))
    assert [p.ticks for p in packets_of(read_all(SpoolReader(spool)))] == [0, 5]


def test_a_spool_that_was_meddled_with_is_refused(tmp_path, open_spool):
    spool = open_spool(tmp_path)
    spool.begin(SECTION)
    assert spool.append(packet(0))
    reader = SpoolReader(spool)
    path = next(tmp_path.glob("*.spool"))
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(StoreError, match="changed from outside"):
        read_all(reader)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=str(Path("file") / "spool")):
        Spool(tmp_path / "file" / "spool")


def test_hls_that_jumps_is_anchored_anew_and_one_that_wrapped_goes_on():
    clock = Clock()
    keeper = clock.keeper(is_repeatable=True)
    keeper.begin(5 * 3600 * SECOND)
    last = keeper.ticks(5 * 3600 * SECOND)
    clock.wait(10)
    keeper.begin(0, jumped=True)
    assert keeper.ticks(0) - last == 10 * SECOND
    keeper = clock.keeper(is_repeatable=True)
    keeper.begin(WRAP - 10 * SECOND)
    seen = keeper.ticks(WRAP - 5 * SECOND)
    assert not keeper.is_jump(WRAP - 1)
    assert not keeper.is_jump(SECOND)
    keeper.ticks(SECOND)
    keeper.begin(WRAP - 5 * SECOND)
    assert keeper.ticks(WRAP - 5 * SECOND) == seen
