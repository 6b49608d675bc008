"""Real clips, encoded in code, whose every picture and pts is known.

Picture `i` of a clip carries the number `i` in eight squares along its top edge and a pattern that
moves, so that a wrong frame is seen bit by bit and `read_number` says which one it is.
The docstring of each function states the truth; `Clip.pts` and `Clip.pictures` are that truth as
data, and test_clips.py holds them against an independent decode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import mp4_boxes
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
WIDTH, HEIGHT = 96, 64
RATE = 25
MP4_TICKS = 512
"""Ticks of 1/12800 s a frame: what the mp4 muxer makes of 25 frames a second."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A file that can be made, and what is in it."""

    name: str
    suffix: str
    write: Callable[[Path], None]
    pts: Sequence[int]
    """Ticks of every picture that is shown, in order."""
    pictures: Sequence[int]
    """Number of the picture shown at each pts."""
    clockwise: int = 0
    """Degrees to turn the coded picture for display."""
    stores_pts: bool = True
    """Whether the file says in what order pictures are shown; else `pts` may count from anywhere
    and a plain decode gives them none that increase."""

    def make(self, folder: Path) -> Path:
        """Write the clip into `folder`."""
        path = folder / f"{self.name}{self.suffix}"
        self.write(path)
        return path


CLIPS: dict[str, Clip] = {}


def clip(
    suffix: str,
    pts: Sequence[int],
    pictures: Sequence[int] | None = None,
    *,
    clockwise: int = 0,
    stores_pts: bool = True,
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Enter a function in `CLIPS` with what its clip shows."""

    def enter(write: Callable[[Path], None]) -> Callable[[Path], None]:
        name, shown = write.__name__, range(len(pts)) if pictures is None else pictures
        CLIPS[name] = Clip(name, suffix, write, pts, shown, clockwise, stores_pts)
        return write

    return enter


def every(step: int, n: int, first: int = 0) -> range:
    """`n` ticks, `step` apart."""
    return range(first, first + n * step, step)


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """`(H, W, 3)` uint8: a moving pattern under the number in binary, lowest bit at the left."""
    y, x = np.mgrid[0:height, 0:width]
    red, green, blue = x * 3 + number * 5, y * 4 + number * 7, (x + y) * 2 - number * 9
    pixels = np.stack([red, green, blue], axis=-1).astype(np.uint8)
    for bit in range(8):
        pixels[:8, bit * 8 : bit * 8 + 8] = 255 if number >> bit & 1 else 0
    return pixels


def read_number(pixels: Picture) -> int:
    """The number that `picture` wrote, from a decoded picture of the coded size."""
    squares = [pixels[2:6, bit * 8 + 2 : bit * 8 + 6].mean() > 128 for bit in range(8)]
    return sum(int(white) << bit for bit, white in enumerate(squares))


def packets(
    codec: str,
    n: int,
    options: dict[str, str],
    *,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    pixel_format: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, RATE),
    container: av.container.OutputContainer,
) -> list[av.Packet]:
    """Encode pictures 0..n as a new stream of `container`; packets in decode order."""
    stream = container.add_stream(codec, rate=RATE, options=options)
    stream.width, stream.height = size
    stream.pix_fmt = pixel_format
    stream.codec_context.time_base = time_base
    coded = []
    for number, ticks in enumerate(range(n) if pts is None else pts):
        frame = av.VideoFrame.from_ndarray(picture(number, *size)).reformat(format=pixel_format)
        frame.pts, frame.time_base = ticks, time_base
        coded += stream.encode(frame)
    return coded + stream.encode(None)


def encode(
    path: Path,
    codec: str,
    n: int,
    options: dict[str, str] | None = None,
    *,
    muxer: dict[str, str] | None = None,
    alter: Callable[[list[av.Packet]], list[av.Packet]] = list,
    **how: object,
) -> None:
    """Write a file of one stream; `alter` may change the coded packets."""
    with av.open(str(path), "w", options=muxer or {}) as container:
        coded = packets(codec, n, options or {}, container=container, **how)
        container.mux(alter(coded))


def x264(keyint: int, *more: str) -> dict[str, str]:
    """Options of libx264: a keyframe every `keyint` pictures and nowhere else."""
    fixed = [f"keyint={keyint}", f"min-keyint={keyint}", "scenecut=0", "threads=1"]
    return {"x264-params": ":".join([*fixed, *more])}


def x265(keyint: int, *more: str) -> dict[str, str]:
    """Options of libx265, alike."""
    fixed = [f"keyint={keyint}", f"min-keyint={keyint}", "scenecut=0", "pools=none", "log-level=-1"]
    return {"x265-params": ":".join([*fixed, *more])}


@clip(".mp4", every(MP4_TICKS, 60))
def h264_bframes(path: Path) -> None:
    """Closed GOPs of 30 with a pyramid of B-frames; pts 0, 512, ..., 30208 of 1/12800 s."""
    encode(path, "libx264", 60, x264(30, "bframes=3", "b-adapt=0", "b-pyramid=normal"))


@clip(".mp4", every(MP4_TICKS, 100))
def h264_one_gop(path: Path) -> None:
    """One GOP of 100, every frame decoded from the one before; pts 0, 512, ..., 50688."""
    encode(path, "libx264", 100, x264(250, "bframes=0"))


@clip(".mp4", every(MP4_TICKS, 100))
def h264_one_gop_bframes(path: Path) -> None:
    """One GOP of 100 with B-frames, some of which nothing refers to; pts 0, 512, ..., 50688."""
    encode(path, "libx264", 100, x264(250, "bframes=3"))


@clip(".mp4", every(MP4_TICKS, 60))
def h264_open_gop(path: Path) -> None:
    """Open GOPs of 20: B-frames shown before a keyframe refer to the GOP before it; only the
    first keyframe is an IDR picture; pts 0, 512, ..., 30208."""
    encode(path, "libx264", 60, x264(20, "bframes=3", "b-adapt=0", "open-gop=1"))


@clip(".mp4", every(MP4_TICKS, 60))
def hevc_closed_gop(path: Path) -> None:
    """Closed GOPs of 20 with B-frames; pts 0, 512, ..., 30208."""
    encode(path, "libx265", 60, x265(20, "bframes=3", "open-gop=0"))


@clip(".mp4", every(MP4_TICKS, 60))
def hevc_open_gop(path: Path) -> None:
    """Open GOPs of 20: leading pictures (RASL) refer over the keyframe; pts 0, 512, ..., 30208."""
    encode(path, "libx265", 60, x265(20, "bframes=3", "b-adapt=0", "open-gop=1"))


@clip(".webm", every(40, 60))
def vp9(path: Path) -> None:
    """GOPs of 20; pts 0, 40, ..., 2360 ms."""
    encode(path, "libvpx-vp9", 60, {"g": "20", "deadline": "realtime", "cpu-used": "8"})


@clip(".webm", [40 * i for i in range(60) if i % 10 != 5], [i for i in range(60) if i % 10 != 5])
def vp8_hidden_frames(path: Path) -> None:
    """GOPs of 20 in which pictures 5, 15, ..., 55 are coded and never shown, as alternate
    references are: 60 packets, 54 pictures; pts 40 i ms for i not in 5, 15, ..."""

    def hide(coded: list[av.Packet]) -> list[av.Packet]:
        return [_with_first_byte(p, ~0x10) if i % 10 == 5 else p for i, p in enumerate(coded)]

    encode(path, "libvpx", 60, {"g": "20", "deadline": "realtime", "cpu-used": "8"}, alter=hide)


def _with_first_byte(packet: av.Packet, mask: int) -> av.Packet:
    data = bytearray(bytes(packet))
    data[0] &= mask
    changed = av.Packet(bytes(data))
    changed.stream, changed.time_base = packet.stream, packet.time_base
    changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
    changed.is_keyframe = packet.is_keyframe
    return changed


@clip(".webm", every(40, 100))
def vp9_superframes(path: Path) -> None:
    """One GOP; some packets hold a hidden alternate reference and the picture shown before it;
    pts 0, 40, ..., 3960 ms."""
    look_ahead = {"lag-in-frames": "25", "auto-alt-ref": "1", "b": "200k", "g": "100"}
    encode(path, "libvpx-vp9", 100, {"deadline": "realtime", "cpu-used": "8", **look_ahead})


@clip(".mp4", every(MP4_TICKS, 60))
def av1(path: Path) -> None:
    """GOPs of 20 with hidden frames shown later by packets of 3 bytes; pts 0, 512, ..., 30208."""
    encode(path, "libsvtav1", 60, {"g": "20", "preset": "11", "svtav1-params": "lp=1"})


@clip(".mp4", every(MP4_TICKS, 60))
def mpeg4(path: Path) -> None:
    """GOPs of 15 with B-frames; pts 0, 512, ..., 30208."""
    encode(path, "mpeg4", 60, {"g": "15", "bf": "2"})


@clip(".avi", every(1, 60), stores_pts=False)
def mpeg4_avi(path: Path) -> None:
    """The same in AVI, which stores no pts; one picture every 1/25 s."""
    encode(path, "mpeg4", 60, {"g": "15", "bf": "2"})


@clip(".avi", [i for i in range(44) if i % 11 != 5], stores_pts=False)
def mpeg4_repeats(path: Path) -> None:
    """AVI in which packets 5, 16, 27 and 38 say "show the last picture again" (not coded VOPs) and
    hold none: 44 packets, 40 pictures."""

    def repeat(coded: list[av.Packet]) -> list[av.Packet]:
        # A P-VOP: no whole seconds, marker, time 0 in 5 bits, marker, not coded, stuffing.
        empty = b"\0\0\1\xb6" + 0b01_0_1_00000_1_0_01111.to_bytes(2, "big")
        packets = list(coded)
        for place in (5, 16, 27, 38):
            packet = av.Packet(empty)
            packet.stream, packet.time_base = coded[0].stream, coded[0].time_base
            packets.insert(place, packet)
        return _in_decode_order(packets)

    encode(path, "mpeg4", 40, {"g": "15"}, alter=repeat)


def _in_decode_order(coded: list[av.Packet]) -> list[av.Packet]:
    for i, packet in enumerate(coded):
        packet.pts = packet.dts = i
        packet.duration = 1
    return coded


@clip(".avi", every(1, 60), stores_pts=False)
def h264_avi(path: Path) -> None:
    """H.264 with B-frames and three closed GOPs in AVI; one picture every 1/25 s."""
    encode(path, "libx264", 60, x264(20, "bframes=3"))


@clip(".mp4", every(MP4_TICKS, 60), stores_pts=False)
def h264_without_offsets(path: Path) -> None:
    """MP4 that holds B-frames and, wrongly, no composition offsets: pts are in decode order."""
    options = x264(30, "bframes=3", "b-adapt=0", "b-pyramid=normal")
    encode(path, "libx264", 60, options, alter=_in_decode_order)


@clip(".avi", every(1, 40))
def mjpeg(path: Path) -> None:
    """Every frame a keyframe, full range; pts 0, 1, ..., 39 of 1/25 s."""
    encode(path, "mjpeg", 40, pixel_format="yuvj420p")


@clip(".mp4", [16 * (3 * i * i + 40 * i) for i in range(60)])
def variable_rate(path: Path) -> None:
    """Picture i at 3 i² + 40 i ms: 25 frames a second slowing down to 2.5; in 1/16000 s."""
    pts = [3 * i * i + 40 * i for i in range(60)]
    options = x264(20, "bframes=3")
    encode(path, "libx264", 60, options, pts=pts, time_base=Fraction(1, 1000))


@clip(".ts", every(3600, 60, first=90_000))
def mpegts(path: Path) -> None:
    """MPEG-TS, parameter sets in band; pts 90000, 93600, ..., 302400 of 1/90000 s."""
    encode(path, "libx264", 60, x264(20, "bframes=3"), pts=range(RATE, RATE + 60))


@clip(".mp4", every(MP4_TICKS, 60, first=12_800))
def late_start(path: Path) -> None:
    """First pts 12800, one second, by an empty edit; first dts smaller than that."""
    encode(path, "libx264", 60, x264(20, "bframes=3"), pts=range(RATE, RATE + 60))


@clip(".mkv", every(40, 60, first=1000))
def late_start_mkv(path: Path) -> None:
    """First pts 1000 ms in Matroska, which stores no dts: the first packets have none."""
    encode(path, "libx264", 60, x264(20, "bframes=3"), pts=range(RATE, RATE + 60))


@clip(".mp4", every(MP4_TICKS, 50), range(10, 60))
def edit_list(path: Path) -> None:
    """An edit list cuts pictures 0 to 9, which are in the file, must be decoded and are not
    shown: 60 packets, 50 pictures; picture i + 10 at pts 512 i."""
    encode(path, "libx264", 60, x264(20, "bframes=3"), pts=range(-10, 50))


@clip(".mp4", every(MP4_TICKS, 25), range(5, 30))
def edit_list_both_ends(path: Path) -> None:
    """An edit list shows pictures 5 to 29 of 60; picture i + 5 at pts 512 i."""
    encode(path, "libx264", 60, x264(20, "bframes=3"))
    mp4_boxes.trim(path, start_ticks=5 * MP4_TICKS, duration_ms=25 * 1000 // RATE)


def _rotated(path: Path, clockwise: int) -> None:
    encode(path, "libx264", 40, x264(20, "bframes=3"))
    mp4_boxes.rotate(path, clockwise)


@clip(".mp4", every(MP4_TICKS, 40), clockwise=90)
def rotated_90(path: Path) -> None:
    """To be turned 90 degrees clockwise for display; pts 0, 512, ..., 19968."""
    _rotated(path, 90)


@clip(".mp4", every(MP4_TICKS, 40), clockwise=180)
def rotated_180(path: Path) -> None:
    """To be turned upside down for display; pts 0, 512, ..., 19968."""
    _rotated(path, 180)


@clip(".mp4", every(MP4_TICKS, 40), clockwise=270)
def rotated_270(path: Path) -> None:
    """To be turned 90 degrees counter-clockwise for display; pts 0, 512, ..., 19968."""
    _rotated(path, 270)


@clip(".webm", every(40, 40))
def odd_size_vp9(path: Path) -> None:
    """97x61 in 4:2:0; pts 0, 40, ..., 1560 ms."""
    options = {"g": "20", "deadline": "realtime", "cpu-used": "8"}
    encode(path, "libvpx-vp9", 40, options, size=(97, 61))


@clip(".mp4", every(MP4_TICKS, 40))
def odd_size_h264(path: Path) -> None:
    """97x61 in 4:4:4, cropped from 112x64; pts 0, 512, ..., 19968."""
    options = x264(20, "bframes=3")
    encode(path, "libx264", 40, options, size=(97, 61), pixel_format="yuv444p")


@clip(".ts", every(3600, 90))
def intra_refresh(path: Path) -> None:
    """No keyframe after the first: a column of intra blocks sweeps the picture instead, and
    recovery points look like keyframes; pts 0, 3600, ..., 320400 of 1/90000 s."""
    encode(path, "libx264", 90, x264(30, "bframes=0", "intra-refresh=1"))


@clip(".mp4", [0])
def one_frame(path: Path) -> None:
    """A single picture at pts 0."""
    encode(path, "libx264", 1, x264(20, "bframes=3"))


@clip(".mp4", every(MP4_TICKS, 8))
def wide(path: Path) -> None:
    """16384x16, the largest width most encoders take; pts 0, 512, ..., 3584."""
    encode(path, "libx264", 8, x264(4, "bframes=0"), size=(16384, 16))


@clip(".mp4", every(MP4_TICKS, 60))
def with_audio(path: Path) -> None:
    """Video beside AAC of the same length, interleaved; pts 0, 512, ..., 30208."""
    with av.open(str(path), "w") as container:
        coded = packets("libx264", 60, x264(20, "bframes=3"), container=container)
        coded += tone_packets(container, seconds=60 / RATE)
        container.mux(sorted(coded, key=lambda packet: packet.dts * packet.time_base))


def tone_packets(container: av.container.OutputContainer, seconds: float) -> list[av.Packet]:
    """Encode a 440 Hz tone as a new AAC stream of `container`."""
    times = np.arange(int(seconds * 16_000)) / 16_000
    return sound_packets(container, np.sin(2 * np.pi * 440 * times))


def sound_packets(container: av.container.OutputContainer, wave: npt.NDArray) -> list[av.Packet]:
    """Encode sound, 16,000 samples a second in [-1, 1], as a new AAC stream of `container`."""
    stream = container.add_stream("aac", rate=16_000, layout="mono")
    wave = wave.astype(np.float32)
    coded = []
    for start in range(0, len(wave), 1024):
        samples = np.ascontiguousarray(wave[None, start : start + 1024])
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16_000, start
        coded += stream.encode(frame)
    return coded + stream.encode(None)
