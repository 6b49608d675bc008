"""Files that are none, or no videos: one sentence that names the file, the reason and a way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from damaged_clips import REFUSED

from streamdyn import build
from streamdyn.errors import ConfigError, CorruptMedia, SourceError, UnknownName
from streamdyn.registry import parts
from streamdyn.testing.sources import drive, everything

ClipPath = Callable[[str], Path]
BACKENDS = [name for name in parts("source") if name.startswith("video_")]


def refusal(backend: str, path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        build("source", backend, path=path).open().next_block()
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert ";" in message, "the part after the semicolon says what to do"
    return message


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_video_is_refused_with_the_reason(
    backend: str, name: str, clip_path: ClipPath
) -> None:
    assert REFUSED[name].reason in refusal(backend, clip_path(name))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_missing_file_is_refused(backend: str, tmp_path: Path) -> None:
    assert "no such file" in refusal(backend, tmp_path / "absent.mp4")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_directory_is_refused(backend: str, tmp_path: Path) -> None:
    assert "it is a directory" in refusal(backend, tmp_path)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_link_to_itself_is_refused(backend: str, tmp_path: Path) -> None:
    path = tmp_path / "a loop.mp4"
    path.symlink_to(path)
    assert "cannot open" in refusal(backend, path)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_source_names_a_wrong_option(backend: str, clip_path: ClipPath) -> None:
    path = clip_path("one_frame")
    with pytest.raises(ConfigError, match="on_corrupt must be 'raise' or 'skip', got 'ignore'"):
        build("source", backend, path=path, on_corrupt="ignore")
    with pytest.raises(UnknownName, match=f"no option of source {backend} is called 'thread'"):
        build("source", backend, path=path, thread=2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_source_names_a_preview_it_does_not_have(backend: str, clip_path: ClipPath) -> None:
    cursor = build("source", backend, path=clip_path("one_frame")).open()
    cursor.next_block()
    with pytest.raises(ConfigError, match="token"):
        cursor.preview("token", [0])
    cursor.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_video_of_one_frame_has_one_item(backend: str, clip_path: ClipPath) -> None:
    done = drive(build("source", backend, path=clip_path("one_frame")).open(), everything)
    assert len(done.items) == 1


def test_a_cut_off_file_names_the_item_it_lost(clip_path: ClipPath) -> None:
    path = clip_path("mp4_cut_off")
    with pytest.raises(
        CorruptMedia, match=r"cannot decode item \d+ of .* at \d+\.\d+ s: "
    ) as caught:
        drive(build("source", "video_av", path=path).open(), everything)
    assert str(path) in str(caught.value)


def test_decord_refuses_a_file_that_av_can_only_read_in_part(clip_path: ClipPath) -> None:
    assert "use the source video_av" in refusal("video_decord", clip_path("mp4_cut_off"))
