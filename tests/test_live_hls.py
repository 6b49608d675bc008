"""HLS: every picture of every segment, once, at the time it was filmed."""

from __future__ import annotations

import logging
import secrets
import time
from contextlib import closing
from itertools import pairwise
from typing import Any

import av
import pytest

from streamdyn.protocols import Position
from streamdyn.sources.live import Live
from streamdyn.sources.live.urls import request_of
from tests.cameras import write_video
from tests.playlists import Playlist
from tests.test_live import Watched

FILMED_AT = 1_790_000_000.0


def test_hls_is_read_from_its_oldest_segment_and_nothing_comes_twice(tmp_path):
    with Playlist(tmp_path, num_segments=4) as playlist:
        source = Live(playlist.url, stall_seconds=2, retry_seconds=0.1, spool=tmp_path / "spool")
        with closing(source.open()) as cursor:
            watched = Watched(cursor)
            watched.until(lambda: len(watched.numbers) >= 40)
            playlist.refuse = True
            playlist.advance(2)
            watched.until(lambda: len(watched.numbers) >= 48)
            time.sleep(0.5)
            playlist.refuse = False
            watched.until(lambda: len(watched.numbers) >= 100)
            position = watched.position()
        playlist.advance(2)
        with closing(source.open(position)) as cursor:
            second = Watched(cursor)
            second.until(lambda: len(second.numbers) >= 50)
        numbers = watched.numbers + second.numbers
        assert numbers == list(range(len(numbers)))


def test_a_segment_that_cannot_be_had_is_left_out_in_the_end(tmp_path):
    with Playlist(tmp_path, num_segments=4) as playlist:
        playlist.missing = {"00002.ts"}
        source = Live(playlist.url, stall_seconds=2, retry_seconds=0.05, longest_retry_seconds=0.1)
        with closing(source.open()) as cursor:
            watched = Watched(cursor)
            watched.until(lambda: len(watched.numbers) >= 75)
        assert watched.numbers[:75] == [*range(50), *range(75, 100)]


def test_a_recording_on_demand_ends(tmp_path):
    with Playlist(tmp_path, num_segments=3, is_live=False) as playlist:
        source = Live(playlist.url, stall_seconds=2)
        with closing(source.open()) as cursor:
            assert Watched(cursor).to_the_end().numbers == list(range(75))


@pytest.mark.parametrize("stall_seconds", [0.0, 1.5], ids=["breaks off", "stalls"])
def test_a_segment_that_breaks_off_is_had_again(tmp_path, stall_seconds):
    with Playlist(tmp_path, num_segments=6, is_live=False) as playlist:
        playlist.cuts.update({"00002.ts": 2, "00004.ts": 1})
        playlist.stall_seconds = stall_seconds
        source = Live(playlist.url, stall_seconds=0.8, retry_seconds=0.05)
        with closing(source.open()) as cursor:
            assert Watched(cursor).to_the_end().numbers == list(range(150))
        assert playlist.cuts.total() == 0


def test_pictures_are_of_the_time_that_the_playlist_says(tmp_path):
    with Playlist(tmp_path, num_segments=30, window=4, dated=FILMED_AT) as playlist:
        source = Live(playlist.url, stall_seconds=2, spool=tmp_path / "spool")
        with closing(source.open()) as cursor:
            watched = Watched(cursor)
            watched.until(lambda: len(watched.numbers) >= 50)
            position = watched.position()
        assert watched.numbers[0] >= 26 * 25  # The oldest that it names.
        with closing(source.open(position)) as cursor:
            again = Watched(cursor)
            again.until(lambda: len(again.numbers) >= 25)
    numbers = watched.numbers + again.numbers
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    for number, ticks in zip(numbers, watched.ticks + again.ticks, strict=True):
        assert ticks / 90_000 == pytest.approx(FILMED_AT + number / 25, abs=0.002)


def test_a_server_that_begins_again_is_followed_by_its_dates(tmp_path):
    (tmp_path / "new").mkdir()

    def opened(playlist: Playlist, position: Position | None = None) -> closing[Any]:
        spool = tmp_path / "spool"
        source = Live(playlist.url, stall_seconds=2, spool=spool, retry_seconds=0.05)
        return closing(source.open(position))

    with Playlist(tmp_path, num_segments=3, dated=FILMED_AT) as old, opened(old) as cursor:
        watched = Watched(cursor)
        watched.until(lambda: len(watched.numbers) >= 50)
    later, at = FILMED_AT + 500, watched.position()
    with Playlist(tmp_path / "new", num_segments=3, dated=later) as new, opened(new, at) as cursor:
        again = Watched(cursor)
        again.until(lambda: later * 90_000 in again.ticks)
    assert again.ticks == sorted({*again.ticks})


def write_again_from_zero(playlist: Playlist, number: int, time_number: int) -> None:
    """A segment of the playlist's folder whose times are those of another one."""
    folder = playlist.folder
    part = folder / "part.ts"
    with (
        av.open(str(folder / f"{number:05d}.ts")) as read,
        av.open(str(part), "w", format="mpegts", options={"mpegts_copyts": "1"}) as write,
    ):
        stream = write.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.pts -= (number - time_number) * 90_000
                packet.dts -= (number - time_number) * 90_000
                packet.stream = stream
                write.mux(packet)
    part.replace(folder / f"{number:05d}.ts")


@pytest.mark.parametrize("dated", [None, FILMED_AT], ids=["undated", "dated"])
def test_a_discontinuity_is_no_reason_to_lose_or_repeat(tmp_path, dated):
    """Times begin again in the middle of the playlist, and the connection breaks twice."""
    with Playlist(tmp_path, num_segments=8, is_live=False, dated=dated) as playlist:
        for number in range(4, 8):
            write_again_from_zero(playlist, number, number - 3)
        path = tmp_path / "hls" / "live.m3u8"
        path.write_text(
            path.read_text()
            .replace("#EXTINF:1.000,\n00004", "#EXT-X-DISCONTINUITY\n#EXTINF:1.000,\n00004")
            .replace("#EXT-X-ENDLIST\n", "")
        )
        source = Live(playlist.url, stall_seconds=0.5, retry_seconds=0.05, spool=tmp_path / "spool")
        with closing(source.open()) as cursor:
            watched = Watched(cursor)
            watched.until(lambda: len(watched.numbers) >= 120)
            time.sleep(3.5)  # It stands still, which is a stall.
            playlist.refuse = True
            time.sleep(1)
            playlist.refuse = False
            path.write_text(path.read_text() + "#EXT-X-ENDLIST\n")
            watched.to_the_end()
    assert watched.numbers == list(range(200))
    assert watched.ticks == sorted({*watched.ticks})
    steps = {b - a for a, b in pairwise(watched.ticks)}
    assert steps == {3600}


def test_a_dated_stream_goes_on_where_its_packets_are_not(tmp_path):
    with Playlist(tmp_path, num_segments=6, is_live=False, dated=FILMED_AT) as playlist:
        with closing(Live(playlist.url, spool=tmp_path / "one").open()) as cursor:
            watched = Watched(cursor)
            watched.until(lambda: len(watched.numbers) >= 64)
        position = watched.position()
        with closing(Live(playlist.url, spool=tmp_path / "other").open(position)) as cursor:
            again = Watched(cursor).to_the_end()
    assert watched.numbers + again.numbers == list(range(150))


def test_segments_that_went_by_are_counted(tmp_path):
    with Playlist(tmp_path, num_segments=4, window=4, is_live=True) as playlist:
        source = Live(playlist.url, stall_seconds=1, retry_seconds=0.05, spool=tmp_path / "spool")
        with closing(source.open()) as cursor:
            watched = Watched(cursor)
            watched.until(lambda: len(watched.numbers) >= 96)
        playlist.advance(8)
        with closing(source.open(watched.position())) as cursor:
            again = Watched(cursor)
            again.until(lambda: len(again.numbers) >= 50)
            assert cursor.ingest.status.num_lost_segments >= 3
    assert again.numbers[:4] == watched.numbers[-1:] or again.numbers[0] > watched.numbers[-1]
    assert len({*watched.numbers, *again.numbers}) == len(watched.numbers) + len(again.numbers)
    # No discontinuity: the times of before go on.
    first = watched.ticks[0] - watched.numbers[0] * 3600
    assert [t - n * 3600 for n, t in zip(again.numbers, again.ticks, strict=True)] == [first] * len(
        again.numbers
    )


def test_of_several_variants_only_the_best_is_read(tmp_path):
    with Playlist(tmp_path, num_segments=2, is_live=False) as playlist:
        folder = tmp_path / "hls"
        (folder / "small.m3u8").write_text((folder / "live.m3u8").read_text().replace("0000", "s0"))
        (folder / "all.m3u8").write_text(
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\nsmall.m3u8\n"
            "#EXT-X-STREAM-INF:BANDWIDTH=9000\nlive.m3u8\n"
        )
        url = playlist.url.replace("live.m3u8", "all.m3u8")
        with closing(Live(url, stall_seconds=2).open()) as cursor:
            assert Watched(cursor).to_the_end().numbers == list(range(50))
        assert set(playlist.asked) == {"all.m3u8", "live.m3u8", "00000.ts", "00001.ts"}


def test_a_user_and_password_in_the_address_are_used_and_not_printed(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="streamdyn.sources.live.web")
    secret = "anna:p%40ss"
    with Playlist(tmp_path, num_segments=2, is_live=False, password="anna:p@ss") as playlist:
        playlist.cuts["00001.ts"] = 1
        url = playlist.url.replace("://", f"://{secret}@")
        with closing(Live(url, stall_seconds=2).open()) as cursor:
            assert cursor.info is not None
            assert Watched(cursor).to_the_end().numbers == list(range(50))
    assert "00001.ts" in caplog.text
    assert "p%40ss" not in caplog.text
    assert "p@ss" not in caplog.text
    request = request_of("http://h/x", {"A": "b"}, b"", "POST")
    assert (request.full_url, request.get_method(), request.headers) == (
        "http://h/x",
        "POST",
        {"A": "b"},
    )


def test_encrypted_segments_are_read_by_ffmpeg_itself(tmp_path):
    with Playlist(tmp_path, num_segments=1, is_live=False) as playlist:
        folder = tmp_path / "hls"
        (folder / "key").write_bytes(secrets.token_bytes(16))
        base = playlist.url.rpartition("/")[0]
        (folder / "info").write_text(f"{base}/key\n{folder / 'key'}\n")
        video = write_video(tmp_path / "numbered.mp4", 75)
        options = {"hls_key_info_file": str(folder / "info"), "hls_list_size": "0"}
        with (
            av.open(str(video)) as read,
            av.open(str(folder / "secret.m3u8"), "w", format="hls", options=options) as write,
        ):
            stream = write.add_stream_from_template(read.streams.video[0])
            for packet in read.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    write.mux(packet)
        assert "METHOD=AES-128" in (folder / "secret.m3u8").read_text()
        with closing(Live(f"{base}/secret.m3u8", stall_seconds=2).open()) as cursor:
            assert Watched(cursor).to_the_end().numbers == list(range(75))


def test_a_playlist_that_stands_still_is_a_stall(tmp_path, caplog):
    with Playlist(tmp_path, num_segments=3, is_live=False) as playlist:
        text = (tmp_path / "hls" / "live.m3u8").read_text()
        (tmp_path / "hls" / "still.m3u8").write_text(text.replace("#EXT-X-ENDLIST", ""))
        url = playlist.url.replace("live.m3u8", "still.m3u8")
        source = Live(url, stall_seconds=1.0, retry_seconds=0.05)
        with closing(source.open()) as cursor:
            watched = Watched(cursor)
            watched.until(lambda: len(watched.numbers) >= 48)
            deadline = time.monotonic() + 15
            while "names no new segment" not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.1)
        assert "stalled" in caplog.text
        assert watched.numbers == list(range(len(watched.numbers)))
