"""What is special about decord: its readers, its narrow pictures, and its absence."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clips import read_number
from damaged_clips import flip_bytes

from streamdyn.errors import ConfigError, CorruptMedia, SourceError
from streamdyn.items import FrameSpec
from streamdyn.sources.video_av import VideoAv
from streamdyn.sources.video_decord import VideoDecord
from streamdyn.testing.sources import SMALL, drive, every_seventh, everything

ClipPath = Callable[[str], Path]


def test_a_reader_is_opened_anew_after_some_batches(clip_path: ClipPath) -> None:
    path = clip_path("h264_bframes")
    kept = drive(VideoDecord(path).open(), everything)
    cursor = VideoDecord(path, batches_per_reader=2).open()
    reopened = drive(cursor, every_seventh)
    for ordinal, item in reopened.items.items():
        assert np.array_equal(item.data, kept.items[ordinal].data)
    with pytest.raises(ConfigError, match="batches_per_reader must be at least 1, got 0"):
        VideoDecord(path, batches_per_reader=0)


@pytest.mark.parametrize("width", [1, 8, 24, 48, 72, 95, 96, 100])
def test_pictures_of_any_width_are_upright_rgb(width: int, clip_path: ClipPath) -> None:
    path, spec = clip_path("h264_bframes"), FrameSpec(width, 27)
    ours = drive(VideoDecord(path).open(), every_seventh, spec)
    other = drive(VideoAv(path).open(), every_seventh, spec)
    for ordinal, item in ours.items.items():
        assert item.data.shape == (27, width, 3)
        gap = np.abs(item.data.astype(int) - other.items[ordinal].data)
        assert gap.mean() < 5, "two builds of FFmpeg scale nearly alike"


def test_pictures_as_coded_are_those_of_av(clip_path: ClipPath) -> None:
    spec = FrameSpec(None, None)
    for name in ("h264_bframes", "rotated_90"):
        ours = drive(VideoDecord(clip_path(name)).open(), every_seventh, spec)
        other = drive(VideoAv(clip_path(name)).open(), every_seventh, spec)
        for ordinal, item in ours.items.items():
            assert np.array_equal(item.data, other.items[ordinal].data)


def test_previews_are_small_pictures(clip_path: ClipPath) -> None:
    cursor = VideoDecord(clip_path("h264_bframes")).open()
    grey, colour = cursor.preview("luma", [3, 40]), cursor.preview("thumbnail", [3, 40])
    cursor.close()
    assert (grey.shape, grey.dtype) == ((2, 24, 32), np.float32)
    assert (colour.shape, colour.dtype) == ((2, 27, 48, 3), np.float32)
    assert not np.array_equal(grey[0], grey[1])


def test_items_can_be_asked_for_in_any_order(clip_path: ClipPath) -> None:
    cursor = VideoDecord(clip_path("h264_one_gop")).open()
    numbers = []
    for ordinals in ([90, 91], [3], [50, 99], [0]):
        items, _ = cursor.materialize(ordinals, FrameSpec(None, None))
        numbers += [read_number(item.data) for item in items]
    cursor.close()
    assert numbers == [90, 91, 3, 50, 99, 0]


def test_opening_is_paid_for_and_converts_nothing(clip_path: ClipPath) -> None:
    cursor = VideoDecord(clip_path("h264_bframes")).open()
    receipt = cursor.take_receipt()
    cursor.close()
    assert receipt.num_demuxed >= 60
    assert receipt.num_converted == 0
    assert receipt.demux_ms > 0


def test_a_picture_that_is_lost_later_is_an_error_or_raised(
    clip_path: ClipPath, tmp_path: Path
) -> None:
    path = tmp_path / "recording.avi"
    shutil.copy(clip_path("mjpeg"), path)
    tolerant, strict = VideoDecord(path, on_corrupt="skip").open(), VideoDecord(path).open()
    flip_bytes(path, {3}, 0.0, 0.5)
    items, errors = tolerant.materialize([3, 20], SMALL)
    assert [item.ordinal for item in items] == [20]
    assert [error.ordinal for error in errors] == [3]
    assert tolerant.take_receipt().num_errors == 1
    with pytest.raises(CorruptMedia, match=r"cannot decode item 3 of .*on_corrupt='skip'"):
        strict.materialize([3], SMALL)
    tolerant.close()
    strict.close()


def test_decord_that_is_not_installed_is_named(
    clip_path: ClipPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(SourceError, match=r"'decord' is not installed .*pip install decord"):
        VideoDecord(clip_path("one_frame")).open()


def test_closing_twice_is_fine(clip_path: ClipPath) -> None:
    cursor = VideoDecord(clip_path("one_frame")).open()
    cursor.materialize([0], SMALL)
    cursor.close()
    cursor.close()
