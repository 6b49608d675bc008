"""Made clips of two actions that their colour tells apart, and footage of neither."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

COLOURS = {"blue": (20, 20, 220), "red": (220, 20, 20)}


def film(path: Path, colour: tuple[int, int, int], count: int, moving: bool = True) -> Path:
    """A coloured picture with a grey bar that moves, or stands still."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for k in range(count):
            picture = np.full((64, 96, 3), colour, np.uint8)
            if moving:
                picture[:, (5 * k) % 80 : (5 * k) % 80 + 16] = 128
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def labelled_data(folder: Path) -> Path:
    """`clips/blue/0.mp4` to `clips/red/4.mp4`, `idle/0.mp4` and `idle/1.mp4`."""
    for label, colour in COLOURS.items():
        for k in range(5):
            film(folder / "clips" / label / f"{k}.mp4", colour, 12 + k)
    for k in range(2):
        film(folder / "idle" / f"{k}.mp4", (60 + 20 * k, 90, 60), 40, moving=False)
    return folder
