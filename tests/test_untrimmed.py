"""Streams joined from clips and idle footage: what is where, picture by picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import clips as made_clips
import numpy as np
import pytest

from streamdyn.clips.clip_set import Clip
from streamdyn.clips.untrimmed import Untrimmed, join_stream, load_untrimmed, truth_file
from streamdyn.errors import ConfigError, SourceError

WIDTH, HEIGHT = 64, 48
COLORS = {"red": (200, 30, 30), "green": (30, 200, 30)}


def plain(path: Path, color: tuple[int, int, int], count: int) -> Path:
    """Pictures of one colour."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        picture = np.full((64, 96, 3), color, np.uint8)
        for _ in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("clips")
    return [
        Clip(plain(folder / f"{i}.mp4", COLORS[label], 7 + i), label, str(i))
        for i, label in enumerate(["red", "green", "red"])
    ]


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Grey, and shorter than what is taken from it."""
    return [plain(tmp_path_factory.mktemp("idle") / "idle.mp4", (120, 120, 120), 9)]


def join(clips: Sequence[Clip], idle: Sequence[Path], target: Path, **how: object) -> Untrimmed:
    sizes = {"width": WIDTH, "height": HEIGHT, "share": 0.25}
    return join_stream(clips, idle, target, **sizes | how)  # type: ignore[arg-type]


def test_the_truth_says_what_every_picture_shows(
    clips: list[Clip], idle: list[Path], tmp_path: Path
) -> None:
    made = join(clips, idle, tmp_path / "s.mp4", seed=4, gop=10)
    assert made.num_items == 4 * (7 + 8 + 9)
    assert made.share == 0.25
    assert [event.label for event in made.events] == ["red", "green", "red"]
    assert [event.stop - event.first for event in made.events] == [7, 8, 9]
    with av.open(str(made.path)) as container:
        frames = list(container.decode(video=0))
        assert [frame.key_frame for frame in frames] == [i % 10 == 0 for i in range(len(frames))]
    wanted = np.full((len(frames), 3), 120)
    for event in made.events:
        wanted[event.first : event.stop] = COLORS[event.label]
        assert frames[event.first].pts == event.start_ticks
        inside = [event.start_ticks <= f.pts < event.stop_ticks for f in frames]
        assert np.flatnonzero(inside).tolist() == list(range(event.first, event.stop))
    shown = [frame.to_ndarray(format="rgb24").mean((0, 1)) for frame in frames]
    np.testing.assert_allclose(shown, wanted, atol=12)
    assert load_untrimmed(made.path) == made


def test_the_same_seed_gives_the_same_file_and_another_one_other_gaps(
    clips: list[Clip], idle: list[Path], tmp_path: Path
) -> None:
    made = [join(clips, idle, tmp_path / f"{i}.mp4", seed=seed) for i, seed in enumerate([1, 1, 2])]
    assert made[0].path.read_bytes() == made[1].path.read_bytes()
    assert made[0].events == made[1].events != made[2].events


def test_clips_may_stand_back_to_back(clips: list[Clip], tmp_path: Path) -> None:
    made = join(clips, [], tmp_path / "s.mp4", share=1)
    assert [(event.first, event.stop) for event in made.events] == [(0, 7), (7, 15), (15, 24)]


def test_gaps_are_pieces_of_the_footage_in_order(clips: list[Clip], tmp_path: Path) -> None:
    footage = made_clips.CLIPS["h264_one_gop"].make(tmp_path)
    made = join(clips[:1], [footage], tmp_path / "s.mp4", width=96, height=64, share=0.1, seed=3)
    with av.open(str(made.path)) as container:
        shown = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    event = made.events[0]
    for gap in (shown[: event.first], shown[event.stop :]):
        steps = np.diff([made_clips.read_number(picture) for picture in gap])
        assert len(gap) > 1
        # The last picture is number 99.
        assert set(steps.tolist()) <= {1, -99}


@pytest.mark.parametrize("wrong", [{"share": 0}, {"share": 1.1}, {"gop": 0}, {"idle": []}])
def test_wrong_numbers_are_refused(
    clips: list[Clip], idle: list[Path], tmp_path: Path, wrong: dict[str, object]
) -> None:
    footage = wrong.pop("idle", idle)
    with pytest.raises(ConfigError, match="a stream needs a clip, a share"):
        join(clips, footage, tmp_path / "s.mp4", **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="0 clips"):
        join([], idle, tmp_path / "s.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_broken_clip_leaves_nothing_behind(
    clips: list[Clip], idle: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(SourceError, match=r"broken\.mp4"):
        join([*clips, Clip(broken, "red", "x")], idle, tmp_path / "s.mp4")
    assert list(tmp_path.iterdir()) == [broken]


@pytest.mark.parametrize("damage", ["{", '{"format": 99}', '{"format": 1, "events": [{}]}', None])
def test_a_damaged_truth_is_named(clips: list[Clip], tmp_path: Path, damage: str | None) -> None:
    made = join(clips, [], tmp_path / "s.mp4", share=1)
    if damage is None:
        truth_file(made.path).unlink()
    else:
        truth_file(made.path).write_text(damage, "utf-8")
    with pytest.raises(SourceError, match=r"cannot read the truth of .*make the stream again"):
        load_untrimmed(made.path)
    made.path.unlink()
    with pytest.raises(SourceError, match="there is no file"):
        load_untrimmed(made.path)
