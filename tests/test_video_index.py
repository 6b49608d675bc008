"""What a call of the index job does with a folder of small real videos."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import av
import pytest
from damaged_clips import DAMAGED, REFUSED
from scene_clips import drawn_scenes, write_folder, write_scenes

from streamdyn.config import load_config
from streamdyn.errors import ConfigError, SourceError, UnknownName
from streamdyn.index import SqliteIndex
from streamdyn.pipelines.video_index import IndexJob, Stopped, find_videos
from streamdyn.recognizers.brightness import BUCKETS, Brightness
from streamdyn.recording import RecordedRecognizer
from streamdyn.registry import recognizer
from streamdyn.replay import RecordedStream
from streamdyn.run.local import run_stream
from streamdyn.timeline import Reason

BISECT = {
    "recognizer": {"name": "brightness"},
    "policy": {"name": "bisect", "max_doubt": 15.0, "lookahead": 40},
    "audit": 0.1,
}
FULL = {"recognizer": {"name": "brightness"}, "policy": {"name": "stride", "every": 1}, "audit": 0}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("index") / "videos", (150, 90, 120))


@pytest.fixture
def folder(videos, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(videos, tmp_path / "videos")


@pytest.fixture
def index(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        yield index


def run(index, folder, config=BISECT, **options):
    return IndexJob(index, load_config(None, config), **options).run(find_videos([str(folder)]))


def media_of(index, name):
    return next(media for media in index.media() if media.path.endswith(name))


@pytest.mark.parametrize(
    "config",
    [
        BISECT,
        {**BISECT, "policy": {"name": "agreement", "options": {"lookahead": 40}}},
        {**BISECT, "budget": {"share": 0.05}},
        {**BISECT, "propagation": "forward"},
    ],
    ids=["bisect", "agreement", "budget", "forward"],
)
def test_the_rows_do_not_depend_on_the_number_of_workers(folder, tmp_path, config):
    rows = []
    for jobs in (1, 2, 5):
        with SqliteIndex(tmp_path / f"{jobs}.db") as index:
            run(index, folder, config, jobs=jobs)
            rows.append(index.rows())
    assert rows[0]["outcomes"]
    assert rows[0]["audits"]
    assert rows[1] == rows[2] == rows[0]


def test_a_full_pass_finds_the_scenes_that_were_filmed(folder, index):
    report = run(index, folder, FULL)
    assert (report.num_files, report.num_indexed, report.failures) == (3, 3, {})
    assert report.receipt.num_items == report.receipt.num_processed == 150 + 90 + 120
    for seed, (name, n) in enumerate((("a.mp4", 150), ("b.mp4", 90), ("c.mp4", 120))):
        filmed = [BUCKETS[level // 32] for level, m in drawn_scenes(seed, n) for _ in range(m)]
        assert [o.label for o in index.outcomes(media_of(index, name).id)] == filmed


def test_a_file_is_not_looked_at_again(folder, index):
    run(index, folder)
    before, seen = index.rows(), []
    report = run(index, folder, on_progress=seen.append)
    assert (report.num_files, report.num_unchanged, report.num_indexed) == (3, 3, 0)
    assert (seen, report.receipt.num_items) == ([], 0)
    assert index.rows() == before


def test_a_file_that_changed_is_indexed_again_and_the_others_are_not(folder, index, tmp_path):
    run(index, folder)
    write_scenes(folder / "b.mp4", [(16, 30), (240, 70)])
    report = run(index, folder)
    assert (report.num_indexed, report.num_unchanged) == (1, 2)
    media = media_of(index, "b.mp4")
    assert media.num_items == 100
    assert [s.label for s in index.segments(media.id)] == ["black", "white"]
    with SqliteIndex(tmp_path / "fresh.db") as fresh:
        run(fresh, folder)
        assert fresh.rows() == index.rows()


def test_another_configuration_indexes_everything_again(folder, index, tmp_path):
    run(index, folder)
    report = run(index, folder, FULL)
    assert report.num_indexed == 3
    with SqliteIndex(tmp_path / "fresh.db") as fresh:
        run(fresh, folder, FULL)
        assert fresh.rows() == index.rows()


def test_a_new_file_is_indexed_beside_the_old_ones(folder, index):
    run(index, folder)
    write_scenes(folder / "z.mp4", [(16, 20)])
    report = run(index, folder)
    assert (report.num_indexed, report.num_unchanged) == (1, 3)


def test_bad_files_are_listed_with_their_reason_and_the_others_are_done(folder, index):
    bad = {str(clip.make(folder)): clip.reason for clip in REFUSED.values()}
    job = IndexJob(index, load_config(None, BISECT), jobs=2)
    report = job.run(find_videos([str(folder), *bad]))
    assert report.failures.keys() == bad.keys()
    assert (report.num_indexed, report.num_files) == (3, 3 + len(bad))
    for path, reason in bad.items():
        assert re.search(reason, report.failures[path])
        media = media_of(index, Path(path).name)
        assert (media.status, media.error) == ("failed", report.failures[path])


def test_a_failed_file_is_left_alone_until_told_otherwise(folder, index):
    (folder / "text.mp4").write_text("not a video")
    run(index, folder)
    report = run(index, folder)
    assert (report.num_left_failed, report.num_unchanged, report.failures) == (1, 3, {})
    report = run(index, folder, retry_failed=True)
    assert report.num_left_failed == 0
    assert list(report.failures) == [str(folder / "text.mp4")]
    write_scenes(folder / "text.mp4", [(16, 20)])
    report = run(index, folder)
    assert (report.num_indexed, report.failures) == (1, {})
    assert media_of(index, "text.mp4").error == ""


STRICT = {**FULL, "source": {"name": "video_av", "on_corrupt": "raise"}}


def test_a_file_that_fails_in_the_middle_keeps_what_was_seen_and_can_still_be_read(index, folder):
    broken = DAMAGED["vp9_flipped"].make(folder)
    config = {**STRICT, "policy": {"name": "stride", "every": 1, "lookahead": 4}}
    report = run(index, folder, config)
    assert list(report.failures) == [str(broken)]
    assert "open it with on_corrupt='skip'" in report.failures[str(broken)]
    media = media_of(index, broken.name)
    assert (media.status, media.codec, media.width) == ("failed", "vp9", 96)
    outcomes = list(index.outcomes(media.id))
    assert outcomes
    assert [o.ordinal for o in outcomes] == list(range(len(outcomes)))
    assert outcomes[-1].pts == media.pts(outcomes[-1].pts.ticks)
    report = run(index, folder, config, retry_failed=True)
    assert list(report.failures) == [str(broken)]
    assert len(list(index.outcomes(media.id))) == len(outcomes)


def test_pictures_that_cannot_be_decoded_are_errors_of_a_file_that_is_done(index, folder):
    broken = DAMAGED["vp9_flipped"].make(folder)
    report = run(index, folder, FULL)
    assert report.failures == {}
    media = media_of(index, broken.name)
    errors = index.errors(media.id)
    assert errors
    reasons = [r for window in index.windows(media.id) for r in window.reasons]
    failed = [i for i, reason in enumerate(reasons) if reason == Reason.FAILED]
    assert failed == [error.ordinal for error in errors]
    assert report.receipt.num_errors == len(errors)


def test_a_recognizer_that_fails_on_one_file_stops_that_file_only(
    folder, index, caplog, own_registry
):
    @recognizer("afraid_of_white")
    class AfraidOfWhite(Brightness):
        name = "afraid_of_white"

        def recognize(self, selection, hidden):
            outcomes, hidden = super().recognize(selection, hidden)
            1 / (not any(o.label == "white" for o in outcomes))
            return outcomes, hidden

    write_scenes(folder / "d.mp4", [(80, 20), (240, 20)])
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_scenes(folder / name, [(80, 30)])
    report = run(index, folder, {**FULL, "recognizer": {"name": "afraid_of_white"}})
    assert report.failures == {str(folder / "d.mp4"): "ZeroDivisionError: division by zero"}
    assert report.num_indexed == 3
    assert "unexpected error while indexing" in caplog.text
    caplog.clear()


def test_a_file_named_twice_is_indexed_once(folder, index, monkeypatch):
    monkeypatch.chdir(folder)
    job = IndexJob(index, load_config(None, BISECT), jobs=2)
    report = job.run(["./a.mp4", "a.mp4", str(folder / "a.mp4")])
    assert (report.num_indexed, report.failures) == (1, {})
    assert len(index.media()) == 1


def test_a_file_that_is_gone_when_its_turn_comes_is_listed(folder, index):
    found = find_videos([str(folder)])
    (folder / "b.mp4").unlink()
    report = IndexJob(index, load_config(None, BISECT)).run(found)
    assert list(report.failures) == [str(folder / "b.mp4")]
    assert report.num_indexed == 2


def test_progress_is_told_after_every_stored_window(folder, index):
    seen = []
    run(index, folder, jobs=1, on_progress=seen.append)
    done = {}
    for progress in seen:
        assert progress.items_done > done.get(progress.path, 0)
        assert progress.receipt.num_items == progress.items_done
        done[progress.path] = progress.items_done
    assert list(done.values()) == [150, 90, 120]
    assert {p.items_expected for p in seen} == {150, 90, 120}


def test_traces_are_written_and_can_be_replayed(folder, index, tmp_path):
    report = run(index, folder, trace_folder=tmp_path / "traces" / "deep")
    traces = sorted((tmp_path / "traces" / "deep").iterdir())
    assert len(traces) == report.num_indexed == 3
    for name, path in zip(("a.mp4", "b.mp4", "c.mp4"), traces, strict=True):
        assert path.name.startswith(f"videos_{name}.")
        media = media_of(index, name)
        recorded = RecordedStream(path)
        assert recorded.stream == media.stream
        assert sum(map(len, recorded.blocks)) == media.num_items
        header = json.loads(path.read_text().splitlines()[0])
        assert (header["policy"], header["recognizer"]) == ("bisect/1", "brightness")
        stand_in, chosen = RecordedRecognizer(recorded, Brightness()), []
        policy = load_config(None, BISECT).build_policy()
        run_stream(recorded, policy, stand_in, on_window=chosen.append)
        again = [o.id for result in chosen for o in result.outcomes]
        assert again == [o.id for o in index.outcomes(media.id)]
        assert stand_in.num_assumed == 0


def test_a_trace_of_a_file_that_was_left_unfinished_is_whole(folder, index, tmp_path):
    def stop(progress):
        if progress.items_done > 60:
            job.stop()

    job = IndexJob(index, load_config(None, BISECT), jobs=1, on_progress=stop)
    with pytest.raises(Stopped):
        job.run(find_videos([str(folder)]))
    run(index, folder, trace_folder=tmp_path / "t")
    with SqliteIndex(tmp_path / "fresh.db") as fresh:
        run(fresh, folder)
        assert fresh.rows() == index.rows()
    (path,) = (tmp_path / "t").glob("videos_a.mp4.*")
    assert sum(map(len, RecordedStream(path).blocks)) == 150


def test_a_part_that_cannot_be_built_stops_the_call_before_anything_is_written(folder, index):
    for wrong, said in (
        ({"recognizer": {"name": "lite9"}}, "no recognizer is called 'lite9'"),
        ({"policy": {"name": "bisekt"}}, "no policy is called 'bisekt'"),
    ):
        with pytest.raises(UnknownName, match=said):
            run(index, folder, {**BISECT, **wrong})
    assert index.media() == []


def test_a_policy_that_does_not_suit_the_run_stops_the_call(folder, index):
    config = {**BISECT, "policy": {"name": "agreement"}, "audit": 0}
    with pytest.raises(ConfigError, match="tunes from audits and this run has none"):
        run(index, folder, config)


def test_jobs_is_at_least_one(index):
    with pytest.raises(ConfigError, match="jobs must be at least 1, got 0"):
        IndexJob(index, load_config(None, BISECT), jobs=0)


def test_videos_are_found_by_suffix_below_a_folder(tmp_path):
    deep = tmp_path / "x" / "y"
    deep.mkdir(parents=True)
    for name in ("b.MP4", "a.mkv", "notes.txt", "c.webm"):
        (deep / name).touch()
    (deep / "folder.mp4").mkdir()
    named = tmp_path / "notes.bin"
    named.touch()
    found = find_videos([str(tmp_path), str(named), "rtsp://camera/1", str(deep / "a.mkv")])
    expected = [*(str(deep / name) for name in ("a.mkv", "b.MP4", "c.webm")), str(named)]
    assert found == sorted([*expected, "rtsp://camera/1"])


def test_a_path_that_does_not_exist_or_has_no_video_is_named(tmp_path):
    with pytest.raises(SourceError, match=f"cannot index {tmp_path}/no: no such file or folder"):
        find_videos([str(tmp_path / "no")])
    with pytest.raises(SourceError, match=r"no video file in it or below; .*\.mp4, .*name others"):
        find_videos([str(tmp_path)])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_listed(folder, index):
    (folder / "a.mp4").chmod(0)
    report = run(index, folder)
    assert "Permission denied" in report.failures[str(folder / "a.mp4")]
    assert report.num_indexed == 2


def test_a_file_that_ends_before_its_header_says_is_done_and_has_a_note(index, tmp_path, caplog):
    whole = write_scenes(tmp_path / "whole.mp4", [(16, 250)])
    with (
        av.open(str(whole)) as source,
        av.open(str(tmp_path / "first.mp4"), "w", options={"movflags": "+faststart"}) as target,
    ):
        video = source.streams.video[0]
        copy = target.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    content = (tmp_path / "first.mp4").read_bytes()
    (tmp_path / "first.mp4").write_bytes(content[: len(content) * 2 // 3])
    run(index, tmp_path)
    assert media_of(index, "whole.mp4").note == ""
    cut = media_of(index, "first.mp4")
    assert cut.status == "done"
    assert 0 < cut.num_items < 200
    assert "its header says 10.0 s: it may be cut off" in cut.note
    assert cut.note in caplog.text
