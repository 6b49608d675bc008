"""The report: one page that stands alone, says what the index says, and obeys no file name."""

from __future__ import annotations

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from big_index import add_long_file
from command import one_error, streamdyn
from PIL import Image

from streamdyn.errors import ConfigError, StoreError
from streamdyn.index import MediaRow, SqliteIndex
from streamdyn.index.overview import FullPass, overview
from streamdyn.receipt import Receipt
from streamdyn.report import write_report
from streamdyn.report.figures import axis_label, duration
from streamdyn.report.timeline import MAX_EXACT_ITEMS, nice_step

HOSTILE = "a <script>alert(1)</script> \"quoted\" 'single' & {{ 7 * 7 }} \u202egnp.mp4"


class Page(HTMLParser):
    """What a browser would make of it: tags with attributes, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._in = tag

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        if self._in not in ("script", "style"):
            self.text += data

    def all(self, tag, **wanted):
        return [a for t, a in self.tags if t == tag and wanted.items() <= a.items()]

    def classed(self, name):
        return [a for _, a in self.tags if name in (a.get("class") or "").split()]

    def figure(self, name):
        """The number in a tile of the overview."""
        return re.search(rf'data-figure="{name}">([^<]*)<', self.rawdata_all).group(1)


def page_of(index, tmp_path, **how):
    path = write_report(index, tmp_path / "report.html", **how)
    text = path.read_text("utf-8")
    page = Page(text)
    page.rawdata_all = text
    return page


@pytest.fixture
def clips_index(tmp_path, clip_path):
    """Two real clips and a text that claims to be a third."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("h264_bframes", "vp9", "text_as_mp4"):
        shutil.copy(clip_path(name), videos)
    streamdyn(
        "index", videos, "--into", tmp_path / "x.db", "--recognizer", "brightness",
        "--policy", "stride:every=4", "--audit", "0.5", "--quiet",
    )  # fmt: skip
    with SqliteIndex(tmp_path / "x.db", mode="read") as index:
        yield index


def test_the_page_stands_alone(clips_index, tmp_path):
    page = page_of(clips_index, tmp_path)
    assert "://" not in re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", page.rawdata_all)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        source = attributes.get("src")
        assert source is None or source.startswith("data:image/jpeg;base64,")
        target = attributes.get("href")
        assert target is None or target.startswith("#")
    assert "@import" not in page.rawdata_all
    assert "url(" not in page.rawdata_all
    assert "prefers-color-scheme: dark" in page.rawdata_all
    assert page.all("meta", name="viewport")


def test_the_figures_are_those_of_the_index(clips_index, tmp_path):
    page, over = page_of(clips_index, tmp_path), overview(clips_index)
    assert page.figure("files") == "3"
    assert page.figure("items") == "120"
    assert page.figure("share") == f"{100 * over.share_recognized:.1f} %"
    assert page.figure("agreement") == f"{over.agreement.estimate:.3f}"
    assert f"from {over.tally.num_audits} audits" in page.text
    assert "2 done, 1 failed" in page.text
    assert "estimate" in page.text


def test_every_file_has_its_marks_and_its_segments(clips_index, tmp_path):
    page = page_of(clips_index, tmp_path)
    sections = page.rawdata_all.split('<section class="panel file"')[1:]
    done = [media for media in clips_index.media() if media.status == "done"]
    assert len(sections) == len(done) == 2
    for media, section in zip(done, sections, strict=True):
        drawn = dict(re.findall(r'lane (\w+)"[^>]*><path d="([^"]*)"', section))
        looked_at = sum(1 for _ in clips_index.outcomes(media.id))
        assert drawn["processed"].count("M") == looked_at
        audits = clips_index.audits(media.id)
        marks = drawn.get("agree", "").count("M") + drawn.get("disagree", "").count("M")
        assert marks == len(audits) > 0
        keyframes = sum(int(w.block.keyframe.sum()) for w in clips_index.windows(media.id))
        assert drawn["keyframe"].count("M") == keyframes
        assert section.count('class="band ') == len(clips_index.segments(media.id))


def test_a_failed_file_is_listed_with_its_reason(clips_index, tmp_path):
    page = page_of(clips_index, tmp_path)
    (failed,) = [media for media in clips_index.media() if media.status == "failed"]
    assert failed.path in page.text
    assert failed.error in page.text


def test_thumbnails_are_pictures_of_the_segments(clips_index, tmp_path):
    page = page_of(clips_index, tmp_path)
    pictures = [a["src"].partition(",")[2] for a in page.all("img")]
    num_segments = sum(len(clips_index.segments(m.id)) for m in clips_index.media())
    assert len(pictures) == min(num_segments, 120)
    image = Image.open(io.BytesIO(base64.b64decode(pictures[0])))
    assert image.size == (224, 149)


def test_thumbnails_are_shared_out_and_the_rest_is_counted(clips_index, tmp_path):
    num_segments = sum(len(clips_index.segments(m.id)) for m in clips_index.media())
    page = page_of(clips_index, tmp_path, max_thumbnails=num_segments - 1)
    assert len(page.all("img")) == num_segments - 1 > 0
    assert "Segments without one: 1;" in page.text
    assert not page_of(clips_index, tmp_path, max_thumbnails=0).all("img")


def test_only_the_files_asked_for_are_shown(clips_index, tmp_path):
    page = page_of(clips_index, tmp_path, names=["vp9.webm"])
    assert page.figure("files") == "1"
    assert "h264_bframes" not in page.text
    with pytest.raises(ConfigError, match=r"no such file; it has videos/h264_bframes\.mp4"):
        page_of(clips_index, tmp_path, names=["p9.webm"])


def test_the_command_prints_where_the_page_is(clips_index, tmp_path):
    out = tmp_path / "out.html"
    result = streamdyn("report", "--in", clips_index.path, "--out", out, "--file", "vp9.webm")
    assert (result.exit_code, result.stdout.strip()) == (0, str(out))
    nowhere = streamdyn("report", "--in", clips_index.path, "--out", tmp_path / "no" / "out.html")
    assert nowhere.exit_code == 1
    assert "cannot write" in one_error(nowhere)


def test_a_hostile_file_name_stays_text(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        add_long_file(index, HOSTILE, num_items=2000)
        index.begin(MediaRow(f"second {HOSTILE}"), "c").fail(f"cannot open {HOSTILE}")
        page = page_of(index, tmp_path)
    assert HOSTILE in page.text
    assert len(page.all("script")) == 1
    assert "alert" not in re.search(r"<script>(.*)</script>", page.rawdata_all, re.DOTALL).group(1)
    assert "49" not in page.text.partition("a <")[2][:80]
    assert not page.all("slice"), "neither are reasons of errors"
    assert not page.all("worked"), "nor the note of a file"


def test_a_file_that_is_gone_has_no_thumbnails_and_the_page_says_so(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        add_long_file(index, "gone.mp4", num_items=2000)
        page = page_of(index, tmp_path)
    assert not page.all("img")
    assert "no thumbnails: cannot open" in page.text


def test_everything_that_can_become_of_an_item_is_drawn_and_counted(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        add_long_file(index, "x.mp4", num_items=1000, window_items=1000)
        section = page_of(index, tmp_path).rawdata_all
    counts = re.findall(r"<span>([\w ]+)</span><b>(\d+)</b></span><svg", section)
    assert dict(counts) == {
        "looked at": "25", "not decodable": "2", "over budget": "10", "hopped over": "30",
        "audit agrees": "1", "audit disagrees": "1", "keyframes": "4",
    }  # fmt: skip


def test_a_long_file_is_gathered_into_columns_and_the_page_says_so(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        add_long_file(index, "x.mp4")
        page = page_of(index, tmp_path)
    paths = [a["d"] for a in page.all("path")]
    assert max(path.count("M") for path in paths) <= 1000
    assert len(page.classed("band")) < 400
    assert len(page.rawdata_all) < 200_000
    assert "A mark stands for up to 200 items" in page.text
    assert "1,000 columns" in page.text
    assert f"{MAX_EXACT_ITEMS:,} items a file" in page.text


def test_neighbours_have_different_colours(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        add_long_file(index, "x.mp4")
        page = page_of(index, tmp_path)
    classes = [a["class"] for a in page.classed("band")]
    pairs = [(a, b) for a, b in pairwise(classes) if "mixed" not in a + b]
    assert len(pairs) > 20
    assert all(left != right for left, right in pairs)


def test_many_files_share_the_columns(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        for number in range(3):
            add_long_file(index, f"{number}.mp4", num_items=4000)
        page = page_of(index, tmp_path)
    assert len(page.classed("file")) == 3
    assert len(page.all("a")) == 3


def test_an_empty_index_makes_a_page(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        page = page_of(index, tmp_path)
    assert page.figure("items") == "0"
    assert "not measured" in page.text
    assert "no estimate" in page.text


def test_a_file_that_broke_off_is_shown_as_far_as_it_was_read(tmp_path):
    with SqliteIndex(tmp_path / "x.db") as index:
        media = add_long_file(index, "x.mp4", num_items=2000)
        with index.transaction("break off") as connection:
            connection.execute(
                "UPDATE media SET status = 'failed', error = 'it broke', stop_ticks = NULL"
            )
        page = page_of(index, tmp_path)
        assert index.get(media.id).status == "failed"
    assert "Only a part was read: it broke" in page.text
    assert page.classed("processed")


def test_the_old_page_stays_when_the_new_one_cannot_be_written(tmp_path):
    (tmp_path / "report.html").mkdir()
    with SqliteIndex(tmp_path / "x.db") as index, pytest.raises(StoreError, match="unchanged"):
        page_of(index, tmp_path)
    assert not list(tmp_path.glob("*.part"))


def test_the_full_pass_is_charged_what_a_packet_a_picture_and_a_call_cost():
    spent = Receipt(
        num_decoded=100, num_converted=10, num_processed=10,
        demux_ms=3.0, decode_ms=200.0, convert_ms=20.0, recognize_ms=50.0,
    )  # fmt: skip
    full = FullPass.estimate(1000, spent)
    assert full == FullPass(3.0, 2000.0, 2000.0, 5000.0)
    assert full.total_ms == 9003.0
    assert FullPass.estimate(1000, Receipt()) is None
    assert FullPass.estimate(1000, Receipt(num_converted=9, num_processed=9, num_decoded=4)) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.05, "0.05 s"), (12.5, "12.5 s"), (60, "1:00"), (90, "1:30"), (62.5, "1:02.5"),
     (3600, "1:00:00"), (3725, "1:02:05"), (59.999, "1:00"), (-2, "-2 s"), (-90, "-1:30")],
)  # fmt: skip
def test_axis_labels_leave_out_what_is_zero(seconds, text):
    assert axis_label(seconds) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0.25, "0.2 ms"), (12, "12 ms"), (999.4, "999 ms"), (3400, "3.4 s"), (42_000, "42 s"),
     (125_000, "2 min 05 s"), (3_720_000, "1 h 02 min")],
)  # fmt: skip
def test_durations_are_as_people_read_them(milliseconds, text):
    assert duration(milliseconds) == text


def test_steps_of_the_axis_are_those_that_people_count_in():
    assert [nice_step(s) for s in (0.001, 0.3, 3, 21, 400, 5000, 1e9)] == [
        0.01, 0.5, 5, 30, 600, 7200, 86_400,
    ]  # fmt: skip
