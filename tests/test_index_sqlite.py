import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from index_samples import CLIP, fill

from streamdyn.errors import SourceError, StoreError
from streamdyn.index import MediaRow, SqliteIndex
from streamdyn.protocols import SourceInfo
from streamdyn.testing.sinks import (
    FIRST_TICKS,
    TICKS,
    TIME_BASE,
    sample_outcome,
    sample_results,
    sample_window,
)


@pytest.fixture
def index(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        yield index


def test_outcomes_come_back_as_they_were_written(index):
    fill(index)
    written = [o for r in sample_results(CLIP.path, 4) for o in r.outcomes]
    read = list(index.outcomes(CLIP.id))
    names = ["id", "stream", "ordinal", "pts", "recognizer", "labels", "scores", "text", "boxes"]
    for a, b in zip(written, read, strict=True):
        assert [getattr(a, n) for n in names] == [getattr(b, n) for n in names]
        assert b.embedding.dtype == np.float16
        np.testing.assert_array_equal(a.embedding, b.embedding)
    assert all(o.embedding is None for o in index.outcomes(CLIP.id, embeddings=False))


def test_windows_come_back_as_they_were_written(index):
    fill(index)
    for a, b in zip(sample_results(CLIP.path, 4), index.windows(CLIP.id), strict=True):
        assert (a.window.stream, a.window.first) == (b.block.stream, b.block.first)
        assert a.window.time_base == b.block.time_base
        for name in ("pts", "keyframe", "num_bytes", "disposable", "gop", "reach"):
            was, now = getattr(a.window, name), getattr(b.block, name)
            assert was.dtype == now.dtype, name
            np.testing.assert_array_equal(was, now)
        np.testing.assert_array_equal(a.reasons, b.reasons)
        np.testing.assert_array_equal(a.scores, b.scores)


def test_audits_errors_and_receipts_come_back(index):
    fill(index)
    results = sample_results(CLIP.path, 4)
    assert index.audits(CLIP.id) == [a for r in results for a in r.audits]
    assert index.errors(CLIP.id) == [e for r in results for e in r.errors]
    assert index.receipt(CLIP.id) == sum((r.receipt for r in results[1:]), results[0].receipt)
    assert index.receipt(CLIP.id, "audit").num_processed == 2


def test_writing_a_window_again_changes_nothing_not_even_the_receipt(index):
    sink = fill(index)
    before, receipt = index.rows(), index.receipt(CLIP.id)
    for result in sample_results(CLIP.path, 4)[1:3]:
        sink.write(result, None)
    assert index.rows() == before
    assert index.receipt(CLIP.id) == receipt
    assert index.checkpoint(CLIP.id) == b"40"


def test_a_window_cut_differently_replaces_those_it_overlaps(index):
    sink = fill(index)
    outcome = sample_outcome(CLIP.path, 17, "bird")
    sink.write(sample_window(CLIP.path, 15, (outcome,), num_items=10), None)
    assert [w.block.first for w in index.windows(CLIP.id)] == [0, 15, 30]
    assert [o.ordinal for o in index.outcomes(CLIP.id)] == [0, 6, 17]


def test_finish_makes_segments_of_propagated_labels(index):
    fill(index).finish()
    # cat at 0, dog at 6, cat at 20, dog at 26 of 40 items; nearer neighbour, earlier on a tie.
    segments = index.segments(CLIP.id)
    assert [(s.label, s.start_ordinal, s.stop_ordinal) for s in segments] == [
        ("cat", 0, 4),
        ("dog", 4, 14),
        ("cat", 14, 24),
        ("dog", 24, 40),
    ]
    assert [(s.num_observed, s.num_propagated) for s in segments] == [
        (1, 3),
        (1, 9),
        (1, 9),
        (1, 15),
    ]
    assert segments[0].start_ticks == FIRST_TICKS
    assert segments[0].stop_ticks == segments[1].start_ticks == FIRST_TICKS + 4 * TICKS
    assert segments[-1].stop_ticks == FIRST_TICKS + 40 * TICKS
    media = index.get(CLIP.id)
    assert (media.status, media.propagation, media.num_items) == ("done", "two-sided", 40)
    assert (media.start_ticks, media.stop_ticks) == (FIRST_TICKS, FIRST_TICKS + 40 * TICKS)
    assert index.checkpoint(CLIP.id) is None


def test_forward_propagation_leaves_what_came_before_unobserved(index):
    sink = index.begin(CLIP, "c")
    sink.write(sample_window(CLIP.path, 0, (sample_outcome(CLIP.path, 4, "cat"),)), None)
    sink.finish("forward")
    assert [(s.start_ordinal, s.stop_ordinal) for s in index.segments(CLIP.id)] == [(4, 10)]
    sink.finish("two-sided")
    assert [(s.start_ordinal, s.stop_ordinal) for s in index.segments(CLIP.id)] == [(0, 10)]


def test_a_segment_has_the_best_observed_score_and_its_outcome(index):
    outcomes = tuple(
        sample_outcome(CLIP.path, i, "cat", s) for i, s in ((2, 0.5), (4, 0.9), (6, 0.7))
    )
    sink = index.begin(CLIP, "c")
    sink.write(sample_window(CLIP.path, 0, outcomes), None)
    sink.finish()
    (segment,) = index.segments(CLIP.id)
    assert (segment.score, segment.best_outcome_id) == (0.9, outcomes[1].id)
    assert (segment.num_observed, segment.num_propagated) == (3, 7)


def test_text_without_labels_makes_the_segments(index):
    def read(ordinal, text):
        outcome = sample_outcome(CLIP.path, ordinal, "")
        return replace(outcome, labels=(), scores=(), text=text, boxes=())

    sink = index.begin(CLIP, "c")
    outcomes = (read(0, "EXIT"), read(4, "EXIT"), read(8, ""))
    sink.write(sample_window(CLIP.path, 0, outcomes), None)
    sink.finish()
    found = [(s.label, s.text, s.start_ordinal, s.stop_ordinal) for s in index.segments(CLIP.id)]
    assert found == [("EXIT", "EXIT", 0, 7), ("", "", 7, 10)]


def test_each_recognizer_has_segments_of_its_own(index):
    outcomes = (
        sample_outcome(CLIP.path, 0, "cat", recognizer="a/1"),
        sample_outcome(CLIP.path, 5, "roof", recognizer="b/1"),
    )
    sink = index.begin(CLIP, "c")
    sink.write(sample_window(CLIP.path, 0, outcomes), None)
    sink.finish()
    found = [
        (s.recognizer, s.label, s.start_ordinal, s.stop_ordinal) for s in index.segments(CLIP.id)
    ]
    assert found == [("a/1", "cat", 0, 10), ("b/1", "roof", 0, 10)]


def test_a_file_with_nothing_observed_is_done_and_has_no_segments(index):
    sink = index.begin(CLIP, "c")
    sink.write(sample_window(CLIP.path, 0, ()), None)
    sink.finish()
    assert index.segments(CLIP.id) == []
    assert index.get(CLIP.id).num_items == 10


def test_a_file_of_one_item_ends_by_its_rate(index):
    info = SourceInfo(CLIP.path, "frame", "h264", TIME_BASE, 64, 48, Fraction(25))
    sink = index.begin(CLIP.described(info), "c")
    window = sample_window(CLIP.path, 0, (sample_outcome(CLIP.path, 0, "cat"),), num_items=2)
    sink.write(replace(window, window=window.window.slice(0, 1)), None)
    sink.finish()
    (segment,) = index.segments(CLIP.id)
    assert segment.stop_ticks - segment.start_ticks == 1200
    assert index.get(CLIP.id).rate == 25


def test_only_an_unchanged_finished_file_is_current(index):
    assert index.state(CLIP, "c") == "new"
    index.register(CLIP, "c")
    assert index.state(CLIP, "c") == "pending"
    sink = fill(index)
    assert index.state(CLIP, "c") == "running"
    sink.fail("the packet at 3.2 s is broken")
    assert index.state(CLIP, "c") == "failed"
    assert index.get(CLIP.id).error == "the packet at 3.2 s is broken"
    assert len(list(index.outcomes(CLIP.id))) == 4
    fill(index).finish()
    assert index.is_current(CLIP, "c")
    assert index.get(CLIP.id).error == ""
    assert not index.is_current(CLIP, "other configuration")
    for change in ({"bytes": 11}, {"mtime_ns": 6}, {"fingerprint": "abd"}):
        assert index.state(replace(CLIP, **change), "c") == "changed"


def test_registering_a_file_leaves_what_is_known_of_it(index):
    fill(index)
    before = index.rows()
    index.register(CLIP, "c")
    assert index.rows() == before
    index.register(CLIP, "other configuration")
    assert index.get(CLIP.id).status == "pending"
    assert list(index.outcomes(CLIP.id)) == []


def test_a_changed_file_is_indexed_afresh_and_its_words_go(index):
    fill(index).finish()
    other = replace(CLIP, path="other.mp4")
    fill(index, other).finish()
    index.begin(replace(CLIP, bytes=11), "c")
    rows = index.rows()
    assert {row[0] for row in rows["outcomes"]} == {other.id}
    assert {row[0] for row in rows["segments"]} == {other.id}
    assert len(rows["words"]) == len(rows["segments"]) + 1
    index.remove(CLIP.id)
    index.remove(other.id)
    assert not any(index.rows().values())
    assert index.fetch("SELECT count(*) FROM words WHERE words MATCH 'cat'") == [(0,)]
    assert index.fetch("SELECT count(*) FROM receipts") == [(0,)]


def test_beginning_again_keeps_what_the_checkpoint_covers_and_no_more(index):
    results = sample_results(CLIP.path, 4)
    sink = index.begin(CLIP, "c")
    sink.write(results[0], None)
    sink.write(results[1], b"go on at 20")
    sink.write(results[2], None)
    index.begin(CLIP, "c")
    assert [w.block.first for w in index.windows(CLIP.id)] == [0, 10]
    assert index.checkpoint(CLIP.id) == b"go on at 20"
    assert [a.ordinal for a in index.audits(CLIP.id)] == [9]


def test_two_streams_may_not_share_a_file(index):
    sink = fill(index)
    with pytest.raises(StoreError, match="one sink a stream"):
        sink.write(sample_results("another")[0], None)


def test_two_files_may_not_share_a_stream(index):
    fill(index)
    sink = index.begin(MediaRow("copy.mp4"), "c")
    with pytest.raises(StoreError, match="give each file a stream id of its own"):
        sink.write(sample_results(CLIP.path)[0], None)
    assert len(list(index.outcomes(CLIP.id))) == 4
    assert list(index.windows(sink.media.id)) == []


def test_an_outcome_outside_its_window_is_refused(index):
    result = sample_results(CLIP.path)[0]
    stray = replace(result, outcomes=(sample_outcome(CLIP.path, 12, "cat"),))
    with pytest.raises(StoreError, match=r"outcomes of items \[12\]; hand each"):
        index.begin(CLIP, "c").write(stray, None)


def test_a_window_with_another_time_base_is_refused(index):
    info = SourceInfo(CLIP.path, "frame", "h264", Fraction(1, 25))
    sink = index.begin(CLIP.described(info), "c")
    with pytest.raises(StoreError, match="one time base"):
        sink.write(sample_results(CLIP.path)[0], None)


def test_describe_tells_a_changed_file(index, tmp_path):
    path = tmp_path / "a" / "clip.bin"
    path.parent.mkdir()
    path.write_bytes(bytes(200_000))
    before = index.describe(path)
    assert before.path == "a/clip.bin"
    assert index.locate(before) == str(path)
    with path.open("r+b") as file:
        file.seek(199_999)
        file.write(b"x")
    os.utime(path, ns=(before.mtime_ns, before.mtime_ns))
    after = index.describe(path)
    assert (before.bytes, before.mtime_ns) == (after.bytes, after.mtime_ns)
    assert before.fingerprint != after.fingerprint


def test_describe_says_why_a_file_cannot_be_read(index, tmp_path):
    with pytest.raises(SourceError, match=r"missing\.mp4: No such file"):
        index.describe(tmp_path / "missing.mp4")
    with pytest.raises(SourceError, match="not valid UTF-8; rename the file"):
        index.describe(tmp_path / os.fsdecode(b"\xff.mp4"))
    assert index.describe("rtsp://camera/1").path == "rtsp://camera/1"


def test_an_index_moves_with_its_files(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "videos").mkdir(parents=True)
    (old / "videos" / "clip.mp4").write_bytes(b"data")
    with SqliteIndex(old / "x.db", root=old / "videos") as index:
        media = index.describe(old / "videos" / "clip.mp4")
        fill(index, media).finish()
    assert sorted(p.name for p in old.iterdir()) == ["videos", "x.db"]
    old.rename(new)
    with SqliteIndex(new / "x.db", mode="read") as index:
        assert index.locate(media) == str(new / "videos" / "clip.mp4")
        assert index.is_current(index.describe(new / "videos" / "clip.mp4"), "c")
    with SqliteIndex(new / "x.db", root=tmp_path, mode="read") as index:
        assert index.locate(media) == str(tmp_path / "clip.mp4")


def test_a_run_is_noted(index):
    first = index.start_run("streamdyn index a", {"policy": "stride", "root": Path("a")})
    assert index.start_run("streamdyn index a", {}) == first + 1
    rows = index.fetch("SELECT command, config FROM runs WHERE id = ?", first)
    assert rows == [("streamdyn index a", '{"policy": "stride", "root": "a"}')]
