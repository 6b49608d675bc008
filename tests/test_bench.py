"""`streamdyn bench`: a full pass, policies and hindsight over real files."""

from __future__ import annotations

import json

import pytest
from command import one_error, streamdyn
from scene_clips import write_scenes

SCENES = ((16, 20), (112, 30), (208, 10))
"""60 pictures in three scenes."""


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("bench") / "scenes.mp4", SCENES)


def bench(*arguments):
    return streamdyn("bench", *arguments, "--recognizer", "brightness")


def report(*arguments):
    result = bench(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_agreement_is_exact_and_compared_with_hindsight(video):
    document = report(video, "--policy", "stride:every=20", "--policy", "bisect", "--repeats", "2")
    entry = document["files"][str(video)]
    assert entry["full"]["num_recognized"] == entry["full"]["num_compared"] == 60
    assert entry["full"]["agreement"] == 1
    assert entry["oracle_share"] == 3 / 60
    stride = entry["policies"]["stride:every=20"]
    # Looked at: 0, 20, 40. The nearest of them stands in: wrong for 11 to 19 and 50 to 59.
    assert (stride["num_recognized"], stride["num_agreeing"]) == (3, 60 - 19 + 0)
    assert len(stride["wall_ms"]) == 2
    assert "best stride" in " ".join(document["pooled"]["policies"])


def test_a_budget_holds_for_the_policies_and_not_for_the_full_pass(video):
    entry = report(video, "--policy", "stride:every=2", "--budget-items", "3")["files"][str(video)]
    assert entry["full"]["num_recognized"] == 60
    assert entry["policies"]["stride:every=2"]["num_recognized"] == 3
    (best,) = (run for name, run in entry["policies"].items() if name.startswith("best stride"))
    assert best["agreement"] >= entry["policies"]["stride:every=2"]["agreement"]


def test_a_bad_file_is_left_out_and_the_others_are_compared(video, tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    result = bench(video, tmp_path / "text.mp4", "--policy", "stride:every=5", "--json")
    assert result.exit_code == 1
    assert list(json.loads(result.stdout)["files"]) == [str(video)]
    assert "left out" in result.stderr
    assert "text.mp4" in result.stderr


def test_the_tables_name_every_policy_and_the_plot_is_written(video, tmp_path):
    plot = tmp_path / "plot.svg"
    result = bench(video, "--policy", "stride:every=5", "--plot", plot)
    assert result.exit_code == 0, result.stderr
    for word in ("full pass", "stride:every=5", "best stride", "greedy oracle", "demux only"):
        assert word in result.stdout
    assert "<svg" in plot.read_text()
    assert list(tmp_path.iterdir()) == [plot]


def test_a_plot_of_another_kind_is_refused_before_anything_runs(tmp_path):
    error = one_error(bench(tmp_path / "missing.mp4", "--plot", tmp_path / "plot.gif"))
    assert "must end in .png or .svg" in error


def test_a_plot_that_cannot_be_written_does_not_cost_the_figures(video, tmp_path):
    plot = tmp_path / "missing" / "plot.png"
    result = bench(video, "--policy", "stride:every=5", "--plot", plot, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["files"]
    assert "cannot write" in result.stderr
