"""`streamdyn index` on real small clips: what is stored, printed, refused and gone on with."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
from command import PROGRAM, one_error, streamdyn, streamdyn_process

from streamdyn.index import SqliteIndex
from streamdyn.index.schema import SCHEMA_VERSION

FAST = ("--recognizer", "brightness", "--policy", "bisect", "--jobs", "1")
GOOD = ("h264_bframes", "vp9", "mpeg4_avi")


@pytest.fixture
def folder(tmp_path, clip_path):
    """Three good clips."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in GOOD:
        shutil.copy(clip_path(name), videos)
    return videos


def index(folder, *more):
    return streamdyn("index", folder, "--into", folder.parent / "x.db", *FAST, *more)


def test_a_folder_is_indexed_and_summed_up(folder):
    result = index(folder)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert "3 files indexed, 0 unchanged, 0 failed" in result.stdout
    assert "180" in result.stdout
    assert "Estimate: a full pass would have taken" in result.stdout
    with SqliteIndex(folder.parent / "x.db", mode="read") as store:
        assert [(m.path, m.status, m.num_items) for m in store.media()] == [
            ("videos/h264_bframes.mp4", "done", 60),
            ("videos/mpeg4_avi.avi", "done", 60),
            ("videos/vp9.webm", "done", 60),
        ]


def test_json_is_one_document_that_adds_up(folder):
    result = index(folder, "--json", "--audit", "0.5")
    document = json.loads(result.stdout)
    assert document["call"]["num_indexed"] == 3
    whole = document["whole_index"]
    assert whole["num_items"] == 180
    calls = whole["receipt"]["num_processed"]
    assert whole["share_recognized"] == pytest.approx(calls / 180)
    assert whole["agreement"]["num_audits"] > 10
    assert 0 <= whole["agreement"]["low"] <= whole["agreement"]["estimate"] <= 1
    full = whole["estimated_full_pass_ms"]
    assert full["total_ms"] == pytest.approx(sum(v for k, v in full.items() if k != "total_ms"))


def test_the_audits_of_all_files_are_summed(folder):
    index(folder, "--audit", "0.5")
    listed = [
        json.loads(line)
        for line in streamdyn("list", "--in", folder.parent / "x.db", "--json").stdout.splitlines()
    ]
    again = index(folder, "--audit", "0.5", "--json")
    whole = json.loads(again.stdout)["whole_index"]
    assert whole["agreement"]["num_audits"] == sum(entry["num_audits"] for entry in listed)
    assert json.loads(again.stdout)["call"] == {
        "num_files": 3,
        "num_indexed": 0,
        "num_unchanged": 3,
        "wall_seconds": pytest.approx(0, abs=60),
        "failures": {},
    }


def test_without_audits_no_agreement_is_claimed(folder):
    result = index(folder, "--audit", "0")
    assert "not measured: nothing was audited" in result.stdout
    assert json.loads(index(folder, "--audit", "0", "--json").stdout)["whole_index"][
        "agreement"
    ] is None  # fmt: skip


def test_quiet_says_nothing(folder):
    result = index(folder, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_progress_can_be_read_by_a_program(folder):
    result = index(folder, "--progress", "json")
    assert result.exit_code == 0, result.stderr
    last = json.loads(result.stderr.splitlines()[-1])
    assert (last["files_finished"], last["files"], last["items"]) == (3, 3, 180)
    assert index(folder, "--progress", "none", "--json").stderr == ""
    assert "auto, json, none" in one_error(index(folder, "--progress", "film"))


def test_a_dry_run_lists_and_writes_nothing(folder):
    result = index(folder, "--dry-run", "--json")
    states = [json.loads(line) for line in result.stdout.splitlines()]
    assert [entry["state"] for entry in states] == ["new"] * 3
    assert not (folder.parent / "x.db").exists()
    index(folder)
    (folder / "vp9.webm").write_bytes((folder / "vp9.webm").read_bytes() + b"x")
    states = index(folder, "--dry-run", "--json").stdout.splitlines()
    assert [json.loads(line)["state"] for line in states] == ["done", "done", "changed"]


def test_a_target_wraps_the_policy_that_was_given(folder):
    result = index(folder, "--target-agreement", "0.9")
    assert result.exit_code == 0, result.stderr
    with SqliteIndex(folder.parent / "x.db", mode="read") as store:
        policy = store.run_configs()[0]["policy"]
    assert policy == {"name": "agreement", "inner": "bisect", "options": {}, "target": 0.9}


def test_a_target_needs_a_policy_with_a_knob(folder):
    result = streamdyn(
        "index", folder, "--into", folder.parent / "x.db", "--target-agreement", "0.9",
        "--policy", "uniform_k", "--recognizer", "brightness",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "it has no knob" in one_error(result)


def test_a_budget_is_kept(folder):
    index(folder, "--budget-items", "3", "--policy", "stride:every=1")
    with SqliteIndex(folder.parent / "x.db", mode="read") as store:
        assert [store.receipt(m.id).num_processed for m in store.media()] == [3, 3, 3]


BAD = {
    "text_as_mp4": "not a media file",
    "zero_bytes": "zero bytes",
    "audio_only": "no video stream, only audio",
    "mp4_without_index": "cut off",
}


@pytest.fixture
def mixed(folder, clip_path):
    """The good clips, a picture of one item, a very wide one, and four that cannot be read."""
    for name in (*BAD, "one_frame", "wide"):
        shutil.copy(clip_path(name), folder / f"{name}.mp4")
    return folder


def test_bad_files_are_named_and_the_others_go_on(mixed):
    missing = mixed / "missing.mp4"
    result = streamdyn("index", mixed, missing, "--into", mixed.parent / "x.db", *FAST, "--json")
    assert result.exit_code == 1
    call = json.loads(result.stdout)["call"]
    assert call["num_indexed"] == len(GOOD) + 2
    reasons = {Path(path).stem: reason for path, reason in call["failures"].items()}
    assert reasons.keys() == {*BAD, "missing"}
    assert "no such file" in reasons["missing"]
    for name, words in BAD.items():
        assert words in reasons[name]
        assert name in reasons[name]
        assert ";" in reasons[name], "it says what to do"
    errors = result.stderr.strip().splitlines()
    assert len(errors) == len(BAD) + 1
    assert all(line.startswith("error: ") for line in errors)


def test_failed_files_stay_failed_until_they_are_retried(mixed):
    index(mixed)
    again = index(mixed)
    assert again.exit_code == 1
    assert "5 unchanged, 4 failed" in again.stdout
    assert "4 failed in an earlier call: try again with --retry-failed" in again.stderr
    for name in BAD:
        shutil.copy(mixed / "one_frame.mp4", mixed / f"{name}.mp4")
    (mixed / "zero_bytes.mp4").unlink()
    assert index(mixed, "--retry-failed").exit_code == 0


def test_a_folder_without_video_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no video")
    result = streamdyn("index", tmp_path, "--into", tmp_path / "x.db", *FAST)
    assert result.exit_code == 1
    assert "no video file in it or below" in one_error(result)
    assert not (tmp_path / "x.db").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--policy", "bisekt"), "did you mean 'bisect'?"),
        (("--policy", "bisect:max_dout=3"), "no option of policy bisect is called 'max_dout'"),
        (("--policy", "bisect:max_doubt"), "it has no '='"),
        (("--policy", "bisect:max_doubt=-1"), "max_doubt > 0"),
        (("--recognizer", "lite1"), "did you mean 'lite0'?"),
        (("--source", "video_avi"), "did you mean 'video_av'?"),
        (("--audit", "2"), "audit"),
        (("--budget-share", "7"), "budget share must be in (0, 1]"),
        (("--target-agreement", "1.5"), "target in (0, 1)"),
        (("--config", "nix.toml"), "cannot read the configuration nix.toml"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_code_2(folder, arguments, words):
    result = streamdyn(
        "index", folder, "--into", folder.parent / "x.db", "--recognizer", "brightness", *arguments
    )
    assert result.exit_code == 2
    assert words in one_error(result)


def test_an_index_of_a_newer_schema_is_refused(folder):
    index(folder)
    path = folder.parent / "x.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    for command in (("index", folder, "--into", path), ("list", "--in", path)):
        result = streamdyn(*command)
        assert result.exit_code == 1
        assert "update streamdyn, or make a new index" in one_error(result)


@pytest.mark.parametrize(
    ("name", "words"),
    [("nowhere/x.db", "does not exist; make it first"), ("videos", "it is a folder")],
)
def test_an_index_that_cannot_be_made_is_explained(folder, name, words):
    result = streamdyn("index", folder, "--into", folder.parent / name, *FAST)
    assert result.exit_code == 1
    assert words in one_error(result)


_LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
from streamdyn.cli import main
main()
"""


def test_a_full_disk_ends_the_run_and_the_same_command_goes_on(folder, clip_path):
    for number in range(12):
        shutil.copy(clip_path("vp9"), folder / f"copy{number}.webm")
    arguments = ["index", str(folder), "--into", str(folder.parent / "x.db"), *FAST]
    child = subprocess.run(
        [PROGRAM[0], "-c", _LIMITED, *arguments], capture_output=True, text=True, check=False
    )
    assert child.returncode == 1, child.stderr
    (error,) = child.stderr.strip().splitlines()
    assert "free" in error
    assert "run the same command again" in error
    assert index(folder).exit_code == 0
    unbroken = folder.parent / "unbroken.db"
    streamdyn("index", folder, "--into", unbroken, *FAST)
    with SqliteIndex(folder.parent / "x.db") as left, SqliteIndex(unbroken) as right:
        assert left.rows() == right.rows()


def test_ctrl_c_keeps_what_is_stored_and_the_same_command_goes_on(folder, tmp_path):
    small_windows = (*FAST, "--policy", "stride:every=4,lookahead=16")
    arguments = ["index", str(folder), "--into", str(tmp_path / "x.db"), *small_windows]
    child = subprocess.run(
        [PROGRAM[0], "-c", _INTERRUPTED, *arguments], capture_output=True, text=True, check=False
    )
    assert child.returncode == 130, child.stderr
    assert "every window stored so far is kept" in child.stderr
    assert "run the same command again and it goes on there" in child.stderr
    assert "Traceback" not in child.stderr
    with SqliteIndex(tmp_path / "x.db", mode="read") as store:
        assert store.media()[0].status == "running"
        assert len(list(store.windows(store.media()[0].id))) == 1
    assert streamdyn(*arguments).exit_code == 0
    unbroken = tmp_path / "unbroken.db"
    streamdyn("index", folder, "--into", unbroken, *small_windows)
    with SqliteIndex(tmp_path / "x.db") as left, SqliteIndex(unbroken) as right:
        assert left.rows() == right.rows()


_INTERRUPTED = """
import os, signal, time
from streamdyn.cli import main, progress

class Interrupting(progress.ProgressReport):
    def update(self, done):
        ours = signal.getsignal(signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        while signal.getsignal(signal.SIGINT) is ours:
            time.sleep(0.001)

progress.ProgressReport = Interrupting
main()
"""


def test_the_installed_program_indexes_in_a_process_of_its_own(folder):
    result = streamdyn_process("index", folder, "--into", folder.parent / "x.db", *FAST, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["call"]["num_indexed"] == 3


def test_traces_are_written_and_replayed(folder):
    traces = folder.parent / "traces"
    assert index(folder, "--trace", traces).exit_code == 0
    assert len(list(traces.glob("*.jsonl"))) == 3
    result = streamdyn(
        "replay", traces, "--policy", "stride:every=6", "--policy", "keyframe", "--json"
    )
    replayed = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(replayed) == 2 * 3 + 2
    pooled = {r["policy"]: r for r in replayed if r["stream"] == "all traces"}
    assert pooled["stride:every=6"]["num_processed"] == 30
    assert pooled["stride:every=6"]["num_items"] == 180
    table = streamdyn("replay", traces, "--policy", "keyframe")
    assert "all traces" in table.stdout


def test_a_policy_that_tunes_itself_is_replayed_with_audits(folder):
    traces = folder.parent / "traces"
    assert index(folder, "--trace", traces).exit_code == 0
    refused = streamdyn("replay", traces, "--policy", "agreement")
    assert "set an audit rate (--audit" in one_error(refused)
    result = streamdyn("replay", traces, "--policy", "agreement", "--audit", "1", "--json")
    assert result.exit_code == 0, result.stderr
    pooled = json.loads(result.stdout.splitlines()[-1])
    calls = pooled["num_processed"] + pooled["num_audits"]
    assert pooled["num_audits"] > 0
    assert pooled["share_recognized"] == calls / pooled["num_items"]


def test_files_that_are_not_watched_again_have_no_trace_and_that_is_said(folder):
    assert index(folder).exit_code == 0
    result = index(folder, "--trace", folder.parent / "traces")
    assert result.exit_code == 0
    assert "no trace of 3 unchanged files" in result.stderr


def test_replaying_what_is_no_trace_is_explained(tmp_path, folder):
    assert "no trace in the folder" in one_error(
        streamdyn("replay", tmp_path, "--policy", "bisect")
    )
    video = folder / "vp9.webm"
    result = streamdyn("replay", video, "--policy", "bisect")
    assert result.exit_code == 1
    assert "trace" in one_error(result)
