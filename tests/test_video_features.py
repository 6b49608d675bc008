"""A full pass over videos, kept: it says what the recognizer said, and is made once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import clips
import numpy as np
import pytest
from command import streamdyn

from streamdyn.clips.features import load_features, save_features
from streamdyn.errors import SourceError, StoreError
from streamdyn.items import FrameSpec
from streamdyn.pipelines.video_features import (
    features_file,
    video_features,
    watch,
)
from streamdyn.recording import RecordedRecognizer
from streamdyn.registry import build
from streamdyn.run.local import run_stream
from streamdyn.sources.video_av import VideoAv

RECOGNIZER = "brightness"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.CLIPS["h264_bframes"].make(tmp_path_factory.mktemp("video"))


@pytest.fixture
def recognizer():
    made = build("recognizer", RECOGNIZER)
    made.setup("cpu")
    return made


def test_features_are_what_a_full_pass_says(video: Path, recognizer) -> None:
    found = watch(video, recognizer)
    outcomes = []
    run_stream(
        VideoAv(video), build("policy", "full"), recognizer,
        on_window=lambda window: outcomes.extend(window.outcomes),
    )  # fmt: skip
    assert len(found) == len(outcomes) == 60
    for row, wanted in enumerate(outcomes):
        outcome = found.outcome(row)
        assert outcome.id == wanted.id
        assert outcome.labels == wanted.labels
        np.testing.assert_allclose(outcome.scores, wanted.scores, rtol=1e-6)
        assert (outcome.embedding is None) == (wanted.embedding is None)
    assert np.flatnonzero(found.block.keyframe).tolist() == [0, 30]
    assert all(found.milliseconds[stage] > 0 for stage in found.milliseconds)


def test_the_small_pictures_belong_to_their_items(video: Path, recognizer) -> None:
    found = watch(video, recognizer)
    for row in (0, 17, 59):
        whole = clips.picture(int(found.ordinals[row]))
        # Luma weighs the colours differently than their mean does.
        assert abs(float(found.luma[row].mean()) - float(whole.mean())) < 12
    assert found.luma.shape == (60, 24, 32)
    assert len({found.luma[row].tobytes() for row in range(60)}) == 60


def test_what_is_stored_is_what_was_found(video: Path, recognizer, tmp_path: Path) -> None:
    found = watch(video, recognizer)
    save_features(found, tmp_path / "f.npz")
    again = load_features(tmp_path / "f.npz")
    assert (again.path, again.recognizer) == (found.path, found.recognizer)
    assert again.label_names == found.label_names
    assert again.block.pts.tolist() == found.block.pts.tolist()
    assert again.milliseconds == found.milliseconds
    for name in ("ordinals", "labels", "scores", "embeddings", "luma"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    assert [p.name for p in tmp_path.iterdir()] == ["f.npz"]


def test_a_file_is_watched_once_whatever_it_is_called(
    video: Path, recognizer, tmp_path: Path
) -> None:
    watched: list[str] = []
    copy = tmp_path / "h264_bframes.mp4"
    copy.write_bytes(video.read_bytes())
    for path in (video, copy):
        (found,) = video_features(
            [str(path)], tmp_path / "f", recognizer, on_file=lambda p, n: watched.append(p)
        )
        assert found.path == found.block.stream == str(path)
    assert set(watched) == {str(video)}


def test_another_recognizer_has_files_of_its_own(video: Path, tmp_path: Path) -> None:
    names = {
        features_file(video, tmp_path, build("recognizer", "lite0", **options))
        for options in ({}, {"top_k": 3}, {"resolution": 128})
    }
    assert len(names) == 3


@pytest.mark.parametrize("damage", ["cut", "other", "format"])
def test_damaged_features_are_named(video: Path, recognizer, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "f.npz"
    save_features(watch(video, recognizer), path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "other":
        path.write_bytes(b"something else")
    else:
        with np.load(path) as arrays:
            kept = dict(arrays)
        np.savez(path, **{**kept, "format": 99})
    with pytest.raises(SourceError, match=r"cannot read features from .*remove the file"):
        load_features(path)


def test_files_that_cannot_be_read_are_told_and_the_others_go_on(
    video: Path, recognizer, tmp_path: Path
) -> None:
    text = tmp_path / "no.mp4"
    text.write_text("no video")
    told: dict[str, str] = {}
    paths = [str(tmp_path / "missing.mp4"), str(text), str(video)]
    found = list(video_features(paths, tmp_path / "f", recognizer, on_failure=told.__setitem__))
    assert [entry.path for entry in found] == [str(video)]
    assert list(told) == paths[:2]
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(StoreError, match=r"cannot write .*file: File exists"):
        list(video_features([str(video)], blocked, recognizer))


def test_the_command_goes_on_where_it_stopped(video: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    command = (
        "features", video, broken, tmp_path / "missing.mp4",
        "--out", tmp_path / "f", "--recognizer", RECOGNIZER, "--json",
    )  # fmt: skip
    first = streamdyn(*command)
    assert first.exit_code == 1
    made = json.loads(first.stdout)
    assert [(entry["path"], entry["items"]) for entry in made["files"]] == [(str(video), 60)]
    assert sorted(made["failures"]) == sorted([str(broken), str(tmp_path / "missing.mp4")])
    assert f"{video}: watching" in first.stderr
    second = streamdyn(*command)
    assert f"{video}: watching" not in second.stderr
    assert json.loads(second.stdout) == made


@pytest.mark.parametrize(
    "name",
    [
        "bisect",
        "learned_bisect",
        "frame_exit",
        "scsampler",
        "ocsampler",
        "adaframe",
        "ffnet",
        "stride",
    ],
)
def test_a_policy_does_over_features_what_it_does_over_the_file(
    name: str, video: Path, recognizer
) -> None:
    recording = watch(video, recognizer).recording()
    stand_in = RecordedRecognizer(recording, recognizer)
    seen: list[list[str]] = []
    for source, model in (
        (VideoAv(video, stream=recording.stream), recognizer),
        (recording, stand_in),
    ):
        outcomes = []
        run_stream(
            source, build("policy", name), model,
            on_window=lambda window, kept=outcomes: kept.extend(window.outcomes),
        )  # fmt: skip
        seen.append([outcome.id for outcome in outcomes])
    assert seen[0] == seen[1]
    assert 0 < len(seen[0]) <= 60


def test_what_could_not_be_decoded_is_an_error_over_features_too(video: Path, recognizer) -> None:
    found = watch(video, recognizer)
    fewer = dataclasses.replace(
        found,
        ordinals=found.ordinals[1:],
        labels=found.labels[1:],
        scores=found.scores[1:],
        embeddings=found.embeddings[1:],
        luma=found.luma[1:],
    )
    items, errors = fewer.recording().open().materialize([0, 1], FrameSpec(None, None))
    assert [item.ordinal for item in items] == [1]
    assert [(error.ordinal, error.reason) for error in errors] == [
        (0, "could not be decoded when it was recorded")
    ]
