"""Clips with something wrong: `DAMAGED` ones open and lose pictures, `REFUSED` ones never open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
from clips import CLIPS, RATE, encode, packets, tone_packets, x264

Write = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class BadClip:
    """A file that can be made."""

    name: str
    suffix: str
    write: Write
    reason: str = ""
    """What the error must say when it is opened (a pattern)."""

    def make(self, folder: Path) -> Path:
        """Write the clip into `folder`."""
        path = folder / f"{self.name}{self.suffix}"
        self.write(path)
        return path


DAMAGED: dict[str, BadClip] = {}
REFUSED: dict[str, BadClip] = {}


def damaged(suffix: str) -> Callable[[Write], Write]:
    """Enter a function in `DAMAGED`."""

    def enter(write: Write) -> Write:
        DAMAGED[write.__name__] = BadClip(write.__name__, suffix, write)
        return write

    return enter


def refused(suffix: str, reason: str) -> Callable[[Write], Write]:
    """Enter a function in `REFUSED`."""

    def enter(write: Write) -> Write:
        REFUSED[write.__name__] = BadClip(write.__name__, suffix, write, reason)
        return write

    return enter


def flip_bytes(path: Path, packets: set[int], start: float = 0.4, stop: float = 0.6) -> None:
    """Invert the bytes in a part of some packets.

    Args:
        path: The file to change.
        packets: Numbers of the packets, in decode order.
        start: Where the part begins, as a share of the packet.
        stop: Where it ends.
    """
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        coded = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for index in packets:
        first, size = data.index(coded[index]), len(coded[index])
        for i in range(first + int(start * size), first + int(stop * size)):
            data[i] ^= 0xFF
    path.write_bytes(data)


def cut_off(path: Path, keep: float) -> None:
    """Keep the first part of a file, given as a share."""
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])


@damaged(".mp4")
def h264_flipped(path: Path) -> None:
    """h264_bframes with bytes flipped in packets 5, 12, 17 and 41: the decoder conceals it."""
    CLIPS["h264_bframes"].write(path)
    flip_bytes(path, {5, 12, 17, 41})


@damaged(".mp4")
def h264_keyframe_lost(path: Path) -> None:
    """h264_bframes whose second keyframe (packet 30) is inverted from a tenth on."""
    CLIPS["h264_bframes"].write(path)
    flip_bytes(path, {30}, 0.1, 1.0)


@damaged(".mp4")
def hevc_flipped(path: Path) -> None:
    """hevc_closed_gop with bytes flipped in packets 5, 12, 17 and 41."""
    CLIPS["hevc_closed_gop"].write(path)
    flip_bytes(path, {5, 12, 17, 41})


@damaged(".mp4")
def hevc_keyframe_lost(path: Path) -> None:
    """hevc_closed_gop whose second keyframe (packet 20) has a broken header."""
    CLIPS["hevc_closed_gop"].write(path)
    flip_bytes(path, {20}, 0.0, 0.2)


@damaged(".webm")
def vp9_flipped(path: Path) -> None:
    """vp9 with the headers of packets 5 and 31 inverted: they give an error and no picture."""
    CLIPS["vp9"].write(path)
    flip_bytes(path, {5, 31}, 0.0, 0.1)


@damaged(".mp4")
def av1_flipped(path: Path) -> None:
    """av1 with the headers of packets 5 and 31 inverted."""
    CLIPS["av1"].write(path)
    flip_bytes(path, {5, 31}, 0.0, 0.1)


@damaged(".mp4")
def mpeg4_flipped(path: Path) -> None:
    """mpeg4 with bytes flipped in packets 4, 20 and 33: three pictures are marked as damaged."""
    CLIPS["mpeg4"].write(path)
    flip_bytes(path, {4, 20, 33})


@damaged(".avi")
def mjpeg_flipped(path: Path) -> None:
    """mjpeg with packets 3 and 30 half inverted, so that they are no JPEG pictures."""
    CLIPS["mjpeg"].write(path)
    flip_bytes(path, {3, 30}, 0.0, 0.5)


@damaged(".ts")
def mpegts_gap(path: Path) -> None:
    """mpegts with 6 KB missing in the middle, as after lost datagrams."""
    CLIPS["mpegts"].write(path)
    data = path.read_bytes()
    path.write_bytes(data[: 188 * 60] + data[188 * 92 :])


@damaged(".mp4")
def mp4_cut_off(path: Path) -> None:
    """60 pictures are announced at the front of the file, its last 40 % are missing."""
    encode(path, "libx264", 60, x264(15, "bframes=3"), muxer={"movflags": "+faststart"})
    cut_off(path, 0.6)


@damaged(".mkv")
def mkv_cut_off(path: Path) -> None:
    """Matroska, the last 40 % missing."""
    CLIPS["late_start_mkv"].write(path)
    cut_off(path, 0.6)


@damaged(".ts")
def mpegts_cut_off(path: Path) -> None:
    """MPEG-TS that ends within a picture, as a recording that was killed does."""
    CLIPS["mpegts"].write(path)
    cut_off(path, 0.6)


@refused(".mp4", "cut off")
def mp4_without_index(path: Path) -> None:
    """The index of an mp4 is at its end, which is missing."""
    CLIPS["h264_bframes"].write(path)
    cut_off(path, 0.6)


@refused(".mp4", "not a media file")
def text_as_mp4(path: Path) -> None:
    """A text renamed."""
    path.write_text("Not a video, only a text that was given a wrong name.\n" * 40)


@refused(".mp4", "zero bytes")
def zero_bytes(path: Path) -> None:
    """An empty file."""
    path.touch()


@refused(".m4a", "no video stream, only audio")
def audio_only(path: Path) -> None:
    """AAC in mp4."""
    with av.open(str(path), "w", format="mp4") as container:
        container.mux(tone_packets(container, seconds=1.0))


@refused(".m4a", "no video stream, only")
def audio_with_cover(path: Path) -> None:
    """Sound with a cover picture, which containers store as a video stream of one frame."""
    with av.open(str(path), "w", format="mp4") as container:
        cover = packets("mjpeg", 1, {}, pixel_format="yuvj420p", container=container)
        container.streams[0].disposition = av.stream.Disposition.attached_pic
        container.mux(cover + tone_packets(container, seconds=60 / RATE))


@refused(".mp4", "no decoder")
def unknown_codec(path: Path) -> None:
    """An mp4 whose codec nobody knows."""
    CLIPS["h264_bframes"].write(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"avc1\0\0\0\0", b"zzz1\0\0\0\0"))


@refused(".h264", "neither pts nor dts")
def no_timestamps(path: Path) -> None:
    """A bare H.264 stream, no container around it."""
    encode(path, "libx264", 40, x264(20, "bframes=3"))
