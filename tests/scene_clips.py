"""Small real videos in scenes of one brightness each, which the recognizer `brightness` labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from clips import x264

Scenes = Sequence[tuple[int, int]]
"""Level and number of pictures of each scene."""


def write_scenes(path: Path, scenes: Scenes, *, keyint: int = 24) -> Path:
    """H.264 of 64 x 48 pixels, 25 pictures a second, a keyframe every `keyint` pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=x264(keyint))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        number = 0
        for level, num_pictures in scenes:
            for _ in range(num_pictures):
                picture = np.full((48, 64, 3), level, np.uint8)
                picture[:8, number % 56 : number % 56 + 8] = 128  # Something moves.
                frame = av.VideoFrame.from_ndarray(picture).reformat(format="yuv420p")
                frame.pts = number
                container.mux(stream.encode(frame))
                number += 1
        container.mux(stream.encode(None))
    return path


def drawn_scenes(seed: int, num_pictures: int) -> list[tuple[int, int]]:
    """Scenes of 5 to 40 pictures, the same for the same seed."""
    generator, scenes, left = np.random.default_rng(seed), [], num_pictures
    while left:
        length = min(left, int(generator.integers(5, 41)))
        scenes.append((int(generator.integers(0, 8)) * 32 + 16, length))
        left -= length
    return scenes


def write_folder(folder: Path, lengths: Sequence[int] = (250, 180, 260, 90, 200, 150)) -> Path:
    """A folder of videos, `a.mp4`, `b.mp4` and so on, of so many pictures."""
    folder.mkdir()
    for seed, (letter, length) in enumerate(zip("abcdefgh", lengths, strict=False)):
        write_scenes(folder / f"{letter}.mp4", drawn_scenes(seed, length))
    return folder
