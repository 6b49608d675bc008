"""Cameras for tests: pictures that say which one they are, and servers that show them.

As a program it shows a video over and over, as cameras do:

    python tests/cameras.py VIDEO --port 8554 gate yard
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import pytest

from streamdyn.items import FrameSpec, Selection
from streamdyn.outcome import Outcome

SYSTEM_PYTHON = "/usr/bin/python3"
RATE = 25
SIZE = (160, 96)
BITS = 18
"""Of a picture's number."""
COLUMNS = 6
CELL = 16
SERVER = Path(__file__).with_name("rtsp_server.py")


def numbered_picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """`(H, W, 3)` uint8, with its number in black and white cells."""
    width, height = size
    picture = np.full((height, width, 3), 90, np.uint8)
    for bit in range(BITS):
        row, column = divmod(bit, COLUMNS)
        top, left = 16 + row * CELL, 16 + column * CELL
        picture[top : top + CELL, left : left + CELL] = 255 if number >> bit & 1 else 0
    return picture


def number_in(picture: np.ndarray) -> int:
    """Of a picture of `SIZE`, grey or RGB."""
    grey = picture if picture.ndim == 2 else picture.mean(axis=2)
    number = 0
    for bit in range(BITS):
        row, column = divmod(bit, COLUMNS)
        if grey[24 + row * CELL, 24 + column * CELL] > 128:
            number |= 1 << bit
    return number


class Numbers:
    """A recognizer that reads the numbers of pictures."""

    name, version, batch_size = "numbers", "1", 8
    input = FrameSpec(*SIZE)

    def setup(self, device: str) -> None:
        """Nothing to load."""

    def initial_hidden(self) -> None:
        """It remembers nothing."""

    def recognize(self, selection: Selection, hidden: None) -> tuple[list[Outcome], None]:
        """The number as the label."""
        return [
            Outcome(i.stream, i.ordinal, i.pts, "numbers/1", (str(number_in(i.data)),), (1.0,))
            for i in selection.items
        ], None

    def agree(self, propagated: Outcome, looked_up: Outcome) -> float:
        """Whether they are the same."""
        return float(propagated.label == looked_up.label)


def write_units_of(
    video: Path, path: Path, *, seconds: int = 60, size: tuple[int, int] = (640, 360), gop: int = 50
) -> Path:
    """Access units of a video, over and over, for `rtsp_server.py`."""
    with _encoder(size, gop, 0, "veryfast") as coder, path.open("wb") as file:
        file.write(struct.pack("<d", RATE))
        with av.open(str(video)) as container:
            number = 0
            while number < seconds * RATE:
                container.seek(0)
                for frame in container.decode(video=0):
                    picture = frame.reformat(*size, "yuv420p")
                    picture.pts, picture.pict_type = number, 0
                    _write(file, coder.encode(picture))
                    number += 1
                    if number == seconds * RATE:
                        break
        _write(file, coder.encode(None))
    return path


def _write(file: BinaryIO, packets: list[av.Packet]) -> None:
    for packet in packets:
        file.write(struct.pack("<IB", packet.size, packet.is_keyframe) + bytes(packet))


@contextmanager
def _encoder(
    size: tuple[int, int], gop: int, num_b_frames: int, preset: str = "ultrafast"
) -> Iterator[av.CodecContext]:
    coder = av.CodecContext.create("libx264", "w")
    coder.width, coder.height = size
    coder.pix_fmt, coder.time_base, coder.framerate = "yuv420p", Fraction(1, RATE), RATE
    coder.gop_size = gop
    flags = f"scenecut=0:repeat-headers=1:sliced-threads=0:bframes={num_b_frames}:threads=1"
    coder.options = {"preset": preset, "x264-params": flags}
    yield coder


def write_units(
    path: Path, count: int = 250, *, gop: int = 25, size: tuple[int, int] = SIZE, first: int = 0
) -> Path:
    """Access units for `rtsp_server.py`."""
    with _encoder(size, gop, 0) as coder, path.open("wb") as file:
        file.write(struct.pack("<d", RATE))
        for number in range(count):
            picture = numbered_picture(first + number, size)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = number
            _write(file, coder.encode(frame))
        _write(file, coder.encode(None))
    return path


def write_video(
    path: Path, count: int, *, gop: int = 25, num_b_frames: int = 2, first: int = 0,
    codec: str = "libx264", **muxer: str,
) -> Path:  # fmt: skip
    """A video file of numbered pictures; the suffix says the container."""
    pictures = (numbered_picture(number) for number in range(first, first + count))
    return write_pictures(
        path, pictures, gop=gop, num_b_frames=num_b_frames, first=first, codec=codec, **muxer
    )


def write_pictures(
    path: Path, pictures: Iterable[np.ndarray], *, gop: int = 25, num_b_frames: int = 2,
    first: int = 0, codec: str = "libx264", **muxer: str,
) -> Path:  # fmt: skip
    """A video file of `(H, W, 3)` pictures of `SIZE`; the first one has this number."""
    with av.open(str(path), "w", options=muxer) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height = SIZE
        stream.pix_fmt, stream.gop_size = "yuv420p", gop
        if codec == "libx264":
            flags = f"scenecut=0:bframes={num_b_frames}:threads=1"
            stream.options = {"preset": "ultrafast", "x264-params": flags}
        else:
            stream.bit_rate = 2_000_000
        for number, picture in enumerate(pictures, first):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@cache
def rtsp_is_missing() -> str:
    """Why there can be no RTSP server here; nothing where there can."""
    if not Path(SYSTEM_PYTHON).exists():
        return f"there is no {SYSTEM_PYTHON}"
    said = subprocess.run(
        [SYSTEM_PYTHON, "-c", "import sys; sys.argv = ['', '0']; "
         f"exec(open({str(SERVER)!r}).read().partition('class Camera')[0])\n"
         "Gst.init(None)\nassert Gst.ElementFactory.find('h264parse'), 'no h264parse'"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return said.stderr.strip().splitlines()[-1] if said.returncode else ""


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cameras:
    """A running RTSP server.

    Args:
        cameras: Name → file of access units.
        port: Any that is free, if not given.
    """

    def __init__(self, cameras: dict[str, Path], port: int | None = None) -> None:
        if missing := rtsp_is_missing():
            pytest.skip(f"no RTSP server: {missing}")
        self._cameras, self.port, self.since = cameras, port or free_port(), time.time()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [SYSTEM_PYTHON, str(SERVER), str(self.port),
             *(f"{name}={path}" for name, path in self._cameras.items())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "CAMERAS_SINCE": str(self.since)},
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    @property
    def pid(self) -> int:
        """Of the server."""
        return self._process.pid

    def url(self, name: str) -> str:
        """Of a camera."""
        return f"rtsp://127.0.0.1:{self.port}/{name}"

    def tell(self, command: str) -> None:
        """Carry out a command of the server."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(command + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer == "ok\n", answer

    def kill(self) -> None:
        """End the server at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def revive(self) -> None:
        """Start it again on the same port."""
        self._process = self._start()


@contextmanager
def cameras(**files: Path) -> Iterator[Cameras]:
    """Cameras by name, each showing a file of access units; skips where there is no server."""
    server = Cameras(files)
    try:
        yield server
    finally:
        server.kill()


def redis_is_missing() -> str:
    """Why there can be no Redis server here; nothing where there can."""
    return "" if shutil.which("redis-server") else "redis-server is not installed"


def main() -> None:
    """Show a video until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--port", type=int, default=8554)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        units = write_units_of(asked.video, Path(folder) / "camera.units")
        server = Cameras(dict.fromkeys(asked.names, units), asked.port)
        for name in asked.names:
            sys.stdout.write(f"{server.url(name)}\n")
            sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            server.kill()


if __name__ == "__main__":
    main()
