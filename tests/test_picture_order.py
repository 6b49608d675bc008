"""H.264 pictures are put in the order that the decoder shows them in."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from clips import encode, x264

from streamdyn.sources.picture_order import (
    SequenceHeader,
    in_shown_order,
    is_referred_to,
    nal_length_size,
)

SETTINGS = {
    "closed": x264(20, "bframes=3"),
    "short": x264(4, "bframes=3"),
    "one GOP": x264(250, "bframes=3"),
    "open": x264(20, "bframes=3", "open-gop=1"),
    "deep pyramid": x264(30, "bframes=8", "b-adapt=0", "ref=8", "b-pyramid=strict"),
    "interlaced": x264(20, "bframes=3", "interlaced=1"),
    "keyframes only": x264(1),
    "no B-frames": x264(20, "bframes=0"),
}


def decode_order(coded: list[av.Packet]) -> list[av.Packet]:
    for i, packet in enumerate(coded):
        packet.pts = packet.dts = i
    return coded


def order_of_decoder(path: Path) -> list[int]:
    """Place in shown order of each packet."""
    places: dict[int, int] = {}
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.copy_opaque = True
        for number, packet in enumerate(container.demux(video=0)):
            packet.opaque = number
            for frame in packet.decode():
                places[frame.opaque] = len(places)
    return [places[number] for number in sorted(places)]


@pytest.mark.parametrize("suffix", ["avi", "mp4"])
@pytest.mark.parametrize("n", [1, 3, 17, 61])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_pictures_get_the_dts_of_their_place(
    settings: dict[str, str], n: int, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"clip.{suffix}"
    encode(path, "libx264", n, settings, alter=decode_order)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        timed = list(in_shown_order((p for p in container.demux(stream) if p.size), stream))
    by_dts = sorted(packet.dts for packet, _ in timed)
    assert [by_dts.index(ticks) for _, ticks in timed] == order_of_decoder(path)


def test_only_b_frames_are_not_referred_to(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    encode(path, "libx264", 20, x264(20, "bframes=1", "b-adapt=0"))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        size = nal_length_size(stream)
    assert size == 4
    for before, packet in zip([None, *packets], packets, strict=False):
        is_b = before is not None and packet.pts < before.pts
        assert is_referred_to(packet, size) is not is_b


def test_a_parameter_set_that_ends_too_early_is_refused() -> None:
    with pytest.raises(ValueError, match="ends too early"):
        SequenceHeader.parse(b"\x67\x64\x00\x1e")
