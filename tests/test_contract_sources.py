"""Every registered video source against every clip: same pictures, same pts, whatever is skipped.

The reference is a plain full decode in a few lines of its own; a source named here as one that
cannot read a clip must say so in a `SourceError`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import CLIPS, Clip, read_number
from damaged_clips import DAMAGED

from streamdyn import build
from streamdyn.errors import CorruptMedia, SourceError
from streamdyn.items import Block, FrameSpec
from streamdyn.protocols import Position, Source
from streamdyn.registry import parts
from streamdyn.testing.sources import (
    PLANS,
    SMALL,
    OpenSource,
    Pass,
    by_bisection,
    check_blocks,
    check_full_pass,
    check_hop,
    check_lifetime,
    check_plan,
    check_resume,
    check_source,
    drive,
    every_seventh,
    everything,
    keyframes,
    last_of_window,
    there_and_back,
)

ClipPath = Callable[[str], Path]
BACKENDS = [name for name in parts("source") if name.startswith("video_")]
AS_CODED = FrameSpec(None, None)
CANNOT = {
    ("video_decord", "av1"): "decord's FFmpeg has no AV1 decoder",
    ("video_decord", "h264_open_gop"): "decord counts leading pictures to the wrong GOP",
    ("video_decord", "hevc_open_gop"): "the same",
    ("video_decord", "mpeg4"): "decord takes keyframes in decode order for pts order",
    ("video_decord", "mpeg4_avi"): "the same",
    ("video_decord", "h264_avi"): "decord takes decode order for pts order",
    ("video_decord", "h264_without_offsets"): "the same",
    ("video_decord", "vp8_hidden_frames"): "decord counts hidden frames",
    ("video_decord", "mpeg4_repeats"): "decord counts packets without a picture",
    ("video_decord", "edit_list"): "decord counts pictures that an edit list cuts",
    ("video_decord", "edit_list_both_ends"): "the same",
    ("video_decord", "mpegts"): "decord loses the first GOP of MPEG-TS",
    ("video_decord", "intra_refresh"): "decord takes recovery points for keyframes",
}
READABLE = [(b, c) for b in BACKENDS for c in CLIPS if (b, c) not in CANNOT]


def opener(backend: str, path: Path, **options: Any) -> OpenSource:
    return lambda position: build("source", backend, path=path, **options).open(position)


def decoded_by_av(path: Path, clip: Clip, spec: FrameSpec) -> list[np.ndarray]:
    turns = clip.clockwise // 90
    width, height = (spec.height, spec.width) if turns % 2 else (spec.width, spec.height)
    with av.open(str(path)) as container:
        return [
            np.rot90(
                frame.reformat(width, height, "rgb24", interpolation="BILINEAR").to_ndarray(),
                -turns,
            )
            for frame in container.decode(video=0)
        ]


def decoded_by_decord(path: Path, clip: Clip, spec: FrameSpec) -> list[np.ndarray]:
    decord = pytest.importorskip("decord")
    reader = decord.VideoReader(
        str(path), num_threads=1, width=spec.width or -1, height=spec.height or -1
    )
    pictures = []
    for _ in clip.pts:
        picture = reader.next().asnumpy()
        height, width, _ = picture.shape  # The last is 4 where decord shows the padding of a row.
        pictures.append(picture.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3))
    return pictures


@cache
def pictures(backend: str, path: Path, clip: Clip, spec: FrameSpec) -> list[np.ndarray]:
    decode = decoded_by_decord if backend == "video_decord" else decoded_by_av
    return decode(path, clip, spec)


@cache
def full_pass(backend: str, path: Path, **options: Any) -> Pass:
    return drive(opener(backend, path, **options)(None), everything)


@pytest.fixture(params=READABLE, ids="-".join)
def case(request: pytest.FixtureRequest, clip_path: ClipPath) -> tuple[str, Clip, Path]:
    backend, name = request.param
    return backend, CLIPS[name], clip_path(name)


def test_a_source_gives_all_frames_as_a_plain_decode_does(case: tuple[str, Clip, Path]) -> None:
    backend, clip, path = case
    open_source = opener(backend, path)
    first = 0 if clip.stores_pts else int(full_pass(backend, path).blocks[0].pts[0]) - clip.pts[0]
    ticks = [first + t for t in clip.pts]
    for spec in (SMALL, AS_CODED):
        reference = list(zip(ticks, pictures(backend, path, clip, spec), strict=True))
        check_blocks(open_source, reference)
        check_full_pass(open_source, reference, spec)


def test_plans_that_skip_give_the_frames_of_a_full_pass(case: tuple[str, Clip, Path]) -> None:
    backend, _, path = case
    full = full_pass(backend, path)
    for plan in PLANS.values():
        check_plan(opener(backend, path), plan, full=full)
        check_plan(opener(backend, path), plan, whole_stream=True, full=full)


def test_a_cursor_resumes_after_any_item(case: tuple[str, Clip, Path]) -> None:
    backend, _, path = case
    check_resume(opener(backend, path), full=full_pass(backend, path))


def test_a_cursor_hops(case: tuple[str, Clip, Path]) -> None:
    backend, _, path = case
    check_hop(opener(backend, path), full=full_pass(backend, path))
    check_lifetime(opener(backend, path))


def test_a_source_describes_its_clip_as_displayed(case: tuple[str, Clip, Path]) -> None:
    backend, clip, path = case
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        size, time_base = (stream.width, stream.height), stream.time_base
    cursor = opener(backend, path, stream="cam-3")(None)
    cursor.close()
    info = cursor.info
    assert (info.width, info.height) == (size[::-1] if clip.clockwise % 180 else size)
    assert (info.stream, info.kind, info.time_base) == ("cam-3", "frame", time_base)


def test_the_frames_carry_the_numbers_they_were_made_with(case: tuple[str, Clip, Path]) -> None:
    backend, clip, path = case
    done = drive(opener(backend, path)(None), everything, AS_CODED)
    upright = [np.rot90(item.data, clip.clockwise // 90) for item in done.items.values()]
    assert [read_number(pixels) for pixels in upright] == list(clip.pictures)


OPTIONS = {
    "threads": {"threads": 2},
    "nothing kept": {"cache_bytes": 0},
    "short blocks": {"max_block_items": 4},
    "whole GOPs": {"max_block_items": 1000},
}


@pytest.mark.parametrize("name", ["h264_bframes", "h264_one_gop_bframes", "hevc_open_gop", "av1"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_of_video_av_change_no_picture(
    options: dict[str, int], name: str, clip_path: ClipPath
) -> None:
    path = clip_path(name)
    full = full_pass("video_av", path)
    for plan in (every_seventh, there_and_back):
        check_plan(opener("video_av", path, **options), plan, full=full)
    check_plan(opener("video_av", path, **options), by_bisection, whole_stream=True, full=full)


@pytest.mark.parametrize("name", ["h264_bframes", "h264_avi", "h264_one_gop_bframes"])
def test_pictures_that_nothing_refers_to_are_left_out(name: str, clip_path: ClipPath) -> None:
    full = full_pass("video_av", clip_path(name))
    block = Block.join(full.blocks)
    assert block.disposable.sum() > len(block) // 4
    done = drive(opener("video_av", clip_path(name))(None), last_of_window)
    assert done.receipt.num_decoded < len(block) - block.disposable.sum() + 4 * len(done.blocks)
    assert full.receipt.num_decoded == len(block)


def test_keyframes_cost_one_packet_each(clip_path: ClipPath) -> None:
    done = drive(opener("video_av", clip_path("h264_bframes"))(None), keyframes)
    assert done.receipt.num_decoded == len(done.items) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_grey_pictures_have_one_channel(backend: str, clip_path: ClipPath) -> None:
    open_source = opener(backend, clip_path("h264_bframes"))
    done = drive(open_source(None), everything, FrameSpec(32, 24, "gray"))
    assert {item.data.shape for item in done.items.values()} == {(24, 32)}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_source_can_be_pickled(backend: str, clip_path: ClipPath) -> None:
    source = build("source", backend, path=clip_path("h264_bframes"), stream="cam-3")
    assert isinstance(source, Source)
    cursor = pickle.loads(pickle.dumps(source)).open(Position(59, 29_696))
    block = cursor.next_block()
    cursor.close()
    assert (block.first, len(block), block.stream) == (59, 1, "cam-3")


@pytest.mark.parametrize(("backend", "clip"), CANNOT)
def test_a_clip_that_a_source_cannot_read_is_refused(
    backend: str, clip: str, clip_path: ClipPath
) -> None:
    path = clip_path(clip)
    with pytest.raises(SourceError, match=r"use .*video_av") as caught:
        opener(backend, path)(None)
    assert str(path) in str(caught.value)


# FFmpeg fills what h264_flipped lost from memory that it never wrote: whoever runs this clip twice
# with another MALLOC_PERTURB_ gets other grey levels, whatever the plan. Of hevc_flipped one
# picture came out otherwise once in some 15 runs of all tests, never in 94 of this check alone.
CONCEALED = ("h264_flipped", "hevc_flipped")


@pytest.mark.parametrize("name", [name for name in DAMAGED if name not in CONCEALED])
def test_what_can_be_decoded_of_a_damaged_clip_does_not_depend_on_the_plan(
    name: str, clip_path: ClipPath
) -> None:
    open_source = opener("video_av", clip_path(name), on_corrupt="skip")
    check_source(open_source)


@pytest.mark.parametrize("name", CONCEALED)
@pytest.mark.parametrize("plan", sorted(PLANS))
def test_which_pictures_of_a_concealed_clip_come_back_does_not_depend_on_the_plan(
    plan: str, name: str, clip_path: ClipPath
) -> None:
    open_source = opener("video_av", clip_path(name), on_corrupt="skip")
    whole = drive(open_source(None), everything)
    some = drive(open_source(None), PLANS[plan])
    assert set(some.items) == set(some.asked) & set(whole.items)
    assert set(some.errors) == set(some.asked) & set(whole.errors)


@pytest.mark.parametrize("name", ["vp9_flipped", "mpeg4_flipped", "mjpeg_flipped", "mp4_cut_off"])
def test_a_lost_picture_is_an_error_or_raised(name: str, clip_path: ClipPath) -> None:
    path = clip_path(name)
    done = drive(opener("video_av", path, on_corrupt="skip")(None), everything)
    assert done.errors
    assert all(error.reason for error in done.errors.values())
    with pytest.raises(CorruptMedia, match=r"cannot decode item \d+ of .*on_corrupt='skip'"):
        drive(opener("video_av", path)(None), everything)
