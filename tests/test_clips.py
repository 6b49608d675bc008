"""The clips are what their docstrings say, by an independent full decode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from clips import CLIPS, Clip, picture, read_number

ClipPath = Callable[[str], Path]


def packets_of(path: Path) -> list[av.Packet]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
def test_a_clip_shows_the_pictures_and_pts_it_claims(clip: Clip, clip_path: ClipPath) -> None:
    with av.open(str(clip_path(clip.name))) as container:
        frames = list(container.decode(video=0))
    if clip.stores_pts:
        assert [frame.pts for frame in frames] == list(clip.pts)
    numbers = [read_number(frame.to_ndarray(format="rgb24")) for frame in frames]
    assert numbers == list(clip.pictures)
    assert {-frame.rotation % 360 for frame in frames} == {clip.clockwise}


def test_every_picture_differs_from_every_other() -> None:
    pictures = {picture(number).tobytes() for number in range(256)}
    assert len(pictures) == 256
    assert [read_number(picture(number)) for number in range(256)] == list(range(256))


def test_open_gops_have_pictures_that_lead_their_keyframe(clip_path: ClipPath) -> None:
    for name in ("h264_open_gop", "hevc_open_gop"):
        packets = packets_of(clip_path(name))
        key = next(i for i, p in enumerate(packets) if p.is_keyframe and i)
        assert packets[key + 1].pts < packets[key].pts


def test_closed_gops_have_none(clip_path: ClipPath) -> None:
    for name in ("h264_bframes", "hevc_closed_gop"):
        packets = packets_of(clip_path(name))
        key = next(i for i, p in enumerate(packets) if p.is_keyframe and i)
        assert all(p.pts > packets[key].pts for p in packets[key + 1 :])


def test_edit_lists_leave_more_packets_than_pictures(clip_path: ClipPath) -> None:
    for name in ("edit_list", "edit_list_both_ends"):
        packets = packets_of(clip_path(name))
        assert len(packets) == 60
        assert sum(not p.is_discard for p in packets) == len(CLIPS[name].pts)


def test_some_clips_hold_frames_that_are_never_shown(clip_path: ClipPath) -> None:
    assert len(packets_of(clip_path("vp8_hidden_frames"))) == 60
    superframes = [
        p for p in packets_of(clip_path("vp9_superframes")) if bytes(p)[-1] >> 5 == 0b110
    ]
    assert superframes


def test_the_rate_varies_where_it_should() -> None:
    gaps = np.diff(CLIPS["variable_rate"].pts)
    assert (np.diff(gaps) > 0).all()
