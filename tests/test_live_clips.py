"""Clips of events: cut from the spool as it came, with the pictures of the time."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import av
import pytest

from streamdyn.delivery.clips import Clips
from streamdyn.errors import SourceError
from streamdyn.index.live_book import Message
from streamdyn.job import load_job
from streamdyn.pipelines.stream_job import StreamJob
from streamdyn.sources.live import Live
from streamdyn.sources.live.clip import packets_between, write_clip, write_thumbnail
from streamdyn.sources.live.packets import TICKS_PER_SECOND
from tests.cameras import RATE, cameras, number_in, write_units, write_video
from tests.test_stream_job import write_job

CODECS = {"mkv": "libx264", "mp4": "libx264", "ts": "libx264", "webm": "libvpx", "avi": "msmpeg4"}


def spooled(path: Path, folder: Path) -> Path:
    with closing(Live(path, pace="fast", spool=folder).open()) as cursor:
        while cursor.next_block() is not None:
            continue
    return folder


def numbers_of(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [number_in(f.to_ndarray(format="gray")) for f in container.decode(video=0)]


def at(number: int) -> int:
    return number * TICKS_PER_SECOND // RATE


@pytest.mark.parametrize("suffix", CODECS)
def test_a_clip_holds_the_pictures_of_its_time(tmp_path, suffix):
    video = write_video(tmp_path / f"numbered.{suffix}", 150, codec=CODECS[suffix])
    spool = spooled(video, tmp_path / "spool")
    section, packets = packets_between(spool, at(60), at(110))
    clip = write_clip(section, packets, tmp_path / "clip.mp4")
    numbers = numbers_of(clip)
    # From the keyframe before; the last ones are there because others are decoded from them.
    assert 60 - 25 < numbers[0] <= 60
    assert numbers[:-3] == list(range(numbers[0], numbers[-4] + 1))
    assert 106 <= numbers[-4] <= numbers[-1] <= 114
    picture = write_thumbnail(section, packets, at(80), tmp_path / "picture.mp4")
    with av.open(str(picture)) as container:
        (frame,) = container.decode(video=0)
        assert frame.width == 160


def test_what_is_not_there_any_more_is_said(tmp_path):
    spool = spooled(write_video(tmp_path / "numbered.ts", 50), tmp_path / "spool")
    with pytest.raises(SourceError, match=r"not in .* any more"):
        packets_between(spool, at(1000), at(1100))


def test_a_clip_waits_for_what_comes_after_its_event(tmp_path):
    spooled(write_video(tmp_path / "numbered.ts", 100), tmp_path / "packets" / "gate")
    clips = Clips(
        tmp_path / "clips", lambda stream: tmp_path / "packets" / stream, before_seconds=1,
        after_seconds=3,
        longest_seconds=60, keep_bytes=10**9,
    )  # fmt: skip

    def event(phase: str, stop: float) -> Message:
        body = {
            "event": "e" * 20, "phase": phase, "stream": "gate", "label": "dog / cat",
            "start_seconds": 1.0, "stop_seconds": stop, "best_seconds": 1.5,
        }  # fmt: skip
        return Message(1, "x", "event", json.dumps(body))

    assert clips.send([event("start", 1.0), event("end", 3.0)]) == 1
    assert not (tmp_path / "clips").exists()
    assert clips.send([event("end", 1.5)]) == 1
    names = sorted(path.suffix for path in (tmp_path / "clips").iterdir())
    assert names == [".jpg", ".mp4"]


def test_a_job_cuts_clips_of_a_camera(tmp_path):
    units = write_units(tmp_path / "numbered.units")
    with cameras(gate=units) as server:
        path = write_job(
            tmp_path, server.url("gate"), source={"retry_seconds": 0.2},
            policy={"name": "stride", "every": 25, "lookahead": 8},
            sinks=[{"kind": "clips", "path": "clips", "before_seconds": 1, "after_seconds": 1}],
        )  # fmt: skip
        from tests.test_stream_job import running, wait_until

        with running(StreamJob(load_job(path))):
            wait_until(lambda: len([*(tmp_path / "clips").glob("*.jpg")]) >= 2)
    for clip in (tmp_path / "clips").glob("*.mp4"):
        numbers = numbers_of(clip)
        label = int(clip.stem.split("_")[-2])
        assert label in numbers
        assert len(numbers) >= 40
