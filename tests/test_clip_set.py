"""Labelled clips: what is read, and how they are split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from streamdyn.clips.clip_set import Clip, ClipSet, read_clips
from streamdyn.errors import ConfigError, SourceError, StreamdynError


def listed(folder: Path, lines: Sequence[str], header: str = "path,label,group") -> Path:
    """A folder with a table, and an empty file for each path."""
    for line in lines:
        name = line.split(",")[0]
        if name:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (folder / "labels.csv").write_text("\n".join([header, *lines, ""]), "utf-8")
    return folder


def test_a_table_names_clips_their_labels_and_recordings(tmp_path: Path) -> None:
    listed(tmp_path, ["run/1.avi,run,a", "jump/1.avi,jump,b", "x.avi,run,b"])
    found = read_clips(tmp_path)
    assert found.labels == ("jump", "run")
    assert found.targets.tolist() == [1, 0, 1]
    assert found.clips[2] == Clip(tmp_path / "x.avi", "run", "b")


def test_without_a_table_folders_are_classes_and_clips_their_own_recordings(tmp_path: Path) -> None:
    for name in ("run/1.avi", "run/2.MP4", "jump/1.webm", "jump/notes.txt", "stray.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = read_clips(tmp_path)
    assert [(c.label, c.group) for c in found.clips] == [
        ("jump", "jump/1.webm"),
        ("run", "run/1.avi"),
        ("run", "run/2.MP4"),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_folds_never_split_a_recording_and_spread_every_class(seed: int) -> None:
    dice = np.random.default_rng(seed)
    clips = []
    for label in ("a", "b", "c"):
        for group in range(12):
            size = int(dice.integers(1, 6))
            clips += [
                Clip(Path(f"{label}{group}{i}"), label, f"{label}{group}") for i in range(size)
            ]
    found = ClipSet(tuple(clips), ("a", "b", "c"))
    folds = found.folds(4, seed)
    assert folds.tolist() == found.folds(4, seed).tolist()
    of_group: dict[str, set[int]] = {}
    for clip, fold in zip(clips, folds, strict=True):
        of_group.setdefault(clip.group, set()).add(int(fold))
    assert {len(used) for used in of_group.values()} == {1}
    for label in range(3):
        counts = np.bincount(folds[found.targets == label], minlength=4)
        # No fold lacks more than the largest recording.
        assert counts.max() - counts.min() <= 5


def test_a_recording_of_two_classes_stays_whole() -> None:
    clips = [Clip(Path(f"{i}"), "ab"[i % 2], f"g{i // 2}") for i in range(12)]
    folds = ClipSet(tuple(clips), ("a", "b")).folds(3)
    assert folds[::2].tolist() == folds[1::2].tolist()
    assert np.bincount(folds).tolist() == [4, 4, 4]


def test_a_class_of_one_clip_cannot_be_split(tmp_path: Path) -> None:
    found = read_clips(listed(tmp_path, ["1.avi,run,a", "2.avi,run,b", "3.avi,jump,c"]))
    with pytest.raises(ConfigError, match="class 'jump' comes from 1 recordings; 2 folds need"):
        found.folds(2)


def test_parts_keep_the_labels(tmp_path: Path) -> None:
    found = read_clips(listed(tmp_path, ["1.avi,run,a", "2.avi,jump,b"]))
    part = found.take(np.array([True, False]))
    assert part.labels == ("jump", "run")
    assert part.targets.tolist() == [1]


@pytest.mark.parametrize(
    ("lines", "header", "error", "match"),
    [
        (["1.avi,run"], "path,action", ConfigError, "line 2: needs a path and a label"),
        (["1.avi,"], "path,label", ConfigError, "line 2: needs a path and a label"),
        (["1.avi,a", "1.avi,b"], "path,label", ConfigError, "line 3: 1.avi is listed twice"),
        (["1.avi,a", "2.avi,a"], "path,label", ConfigError, "all 2 clips in .* of one class, 'a'"),
        ([], "path,label", SourceError, "no clips in "),
    ],
)
def test_a_wrong_table_is_named(
    tmp_path: Path, lines: list[str], header: str, error: type[StreamdynError], match: str
) -> None:
    with pytest.raises(error, match=match):
        read_clips(listed(tmp_path, lines, header))


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    listed(tmp_path, ["1.avi,a", "2.avi,b"], "path,label")
    (tmp_path / "2.avi").unlink()
    with pytest.raises(SourceError, match=r"line 3: there is no file .*2\.avi"):
        read_clips(tmp_path)
    with pytest.raises(SourceError, match="there is no such folder"):
        read_clips(tmp_path / "nothing")
    (tmp_path / "labels.csv").write_bytes(b"path,label\n\xff,a\n")
    with pytest.raises(SourceError, match=r"cannot read .*labels\.csv"):
        read_clips(tmp_path)
