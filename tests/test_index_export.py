import json
import re
import sys
from dataclasses import replace

import pytest

from streamdyn.errors import MissingExtra, StoreError, UnknownName
from streamdyn.index import MediaRow, SqliteIndex
from streamdyn.index.export import export, segment_records
from streamdyn.protocols import SourceInfo
from streamdyn.testing.sinks import TIME_BASE, sample_outcome, sample_results, sample_window

PATHS = ("a.mp4", "sub folder/b.mp4", "../outside/c.mp4")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    with SqliteIndex(tmp_path_factory.mktemp("export") / "x.db") as index:
        for path in PATHS:
            info = SourceInfo(path, "frame", "h264", TIME_BASE, 200, 100)
            sink = index.begin(MediaRow(path).described(info), "c")
            for result in sample_results(path):
                sink.write(result, b"")
            sink.finish()
        index.begin(MediaRow("unfinished.mp4"), "c").write(
            sample_results("unfinished.mp4")[0], b"checkpoint"
        )
        yield index


def test_jsonl_has_a_line_a_segment(index, tmp_path):
    target = tmp_path / "out.jsonl"
    assert export(index, "jsonl", target) == [target]
    records = [json.loads(line) for line in target.read_text().splitlines()]
    assert records == list(segment_records(index))
    assert [r["path"] for r in records] == sorted(PATHS * 4)
    first = next(r for r in records if r["path"] == "a.mp4")
    assert (first["label"], first["start_ticks"], first["stop_ticks"]) == ("cat", 2002, 6006)
    assert first["start_seconds"] == 2002 / 30_000
    assert (first["num_observed"], first["num_propagated"]) == (1, 3)


def test_parquet_has_the_same_records(index, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    target = tmp_path / "out.parquet"
    assert export(index, "parquet", target) == [target]
    assert pq.read_table(target).to_pylist() == list(segment_records(index))


def test_parquet_of_an_empty_index_has_its_columns(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    with SqliteIndex(tmp_path / "x.db") as index:
        export(index, "parquet", tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.num_rows == 0
    assert "start_seconds" in table.column_names


def test_parquet_without_pyarrow_says_what_to_install(index, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'streamdyn\[parquet\]'"):
        export(index, "parquet", tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []


def test_webvtt_has_a_file_a_video_and_a_cue_a_segment(index, tmp_path):
    written = export(index, "webvtt", tmp_path / "vtt")
    assert sorted(p.relative_to(tmp_path).as_posix() for p in written) == [
        "vtt/a.mp4.vtt",
        "vtt/outside/c.mp4.vtt",
        "vtt/sub folder/b.mp4.vtt",
    ]
    text = (tmp_path / "vtt" / "a.mp4.vtt").read_text()
    head, *cues = text.split("\n\n")
    assert head == "WEBVTT"
    assert cues[0] == ("00:00:00.067 --> 00:00:00.200\ncat (0.50)\n&lt;sign cat&gt; &amp; ünïcode")
    assert len(cues) == 4
    stops = [re.match(r"\S+ --> (\S+)\n", cue)[1] for cue in cues]
    starts = [re.match(r"\S+", cue)[0] for cue in cues]
    assert starts[1:] == stops[:-1]


def test_webvtt_leaves_out_what_was_not_there_and_keeps_cues_whole(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        sink = index.begin(MediaRow("a.mp4"), "c")
        read = replace(sample_outcome("a.mp4", 0, ""), labels=(), scores=(), text="A\n\nB --> C")
        absent = replace(sample_outcome("a.mp4", 8, ""), labels=(), scores=(), text="")
        sink.write(sample_window("a.mp4", 0, (read, absent)), None)
        sink.finish()
        (path,) = export(index, "webvtt", tmp_path)
    assert path.read_text().split("\n\n")[1:] == ["00:00:00.067 --> 00:00:00.234\nA\nB --&gt; C\n"]


def test_coco_has_the_observed_items_and_their_boxes_in_pixels(index, tmp_path):
    target = tmp_path / "coco.json"
    assert export(index, "coco", target) == [target]
    coco = json.loads(target.read_text())
    assert len(coco["images"]) == len(coco["annotations"]) == 12
    names = {c["id"]: c["name"] for c in coco["categories"]}
    assert sorted(names.values()) == ["cat", "dog"]
    images = {image["id"]: image for image in coco["images"]}
    for annotation in coco["annotations"]:
        image = images[annotation["image_id"]]
        assert annotation["bbox"] == [50, 25, 100, 25]
        assert annotation["area"] == 2500
        assert names[annotation["category_id"]] == image["streamdyn"]["labels"][0][0]
        assert (image["width"], image["height"]) == (200, 100)
    assert len({image["file_name"] for image in coco["images"]}) == 12


def test_an_export_is_put_in_place_whole_or_not_at_all(index, tmp_path):
    target = tmp_path / "out.jsonl"
    target.mkdir()
    with pytest.raises(StoreError, match=r"cannot write .*out\.jsonl: Is a directory"):
        export(index, "jsonl", target)
    with pytest.raises(StoreError, match="check the folder"):
        export(index, "coco", tmp_path / "missing" / "coco.json")
    assert list(tmp_path.iterdir()) == [target]


def test_exporting_again_replaces_the_file(index, tmp_path):
    target = tmp_path / "out.jsonl"
    target.write_text("old")
    export(index, "jsonl", target)
    once = target.read_bytes()
    export(index, "jsonl", target)
    assert target.read_bytes() == once
    assert list(tmp_path.iterdir()) == [target]


def test_an_unknown_format_lists_the_known_ones(index, tmp_path):
    with pytest.raises(UnknownName, match="no export format is called 'srt'; known: coco, jsonl"):
        export(index, "srt", tmp_path / "x")
