"""Right the pts of containers that only know decode order (AVI; MP4 written without offsets).

There the k-th picture shown has the k-th dts. H.264 says the order in its slice headers (see
`picture_order`); MPEG-4 part 2 in its picture types: a B-VOP is shown before the anchor (I- or
P-VOP) that precedes it in decode order.

```
decode order   I0 P1 b2 b3 P4 b5 b6
shown as        0  3  1  2  6  4  5
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, Literal, NamedTuple

from av.bitstream import BitStreamFilterContext

from streamdyn.sources.mpeg4_headers import B_VOP, I_VOP, mpeg4_time_bits, mpeg4_vop_type
from streamdyn.sources.picture_order import in_shown_order, is_referred_to, nal_length_size

PEEK_PACKETS = 48
Order = Literal["container", "mpeg4", "h264"]


class Coded(NamedTuple):
    """A packet and what is known of the picture in it."""

    packet: Any
    ticks: int | None
    """Pts in ticks, `None` where the container has none."""
    keyframe: bool
    disposable: bool
    shown: bool = True


def choose_order(
    stream: Any, container_format: str, open_again: Callable[[], AbstractContextManager[Any]]
) -> tuple[Order, str]:
    """How to find the order of the pictures of a stream.

    Args:
        stream: Of the container that will be read.
        container_format: Name of its format.
        open_again: Opens it once more, to look at the first packets where they have to tell.

    Returns:
        The order to pass to `coded_pictures`, and a note for the user or the empty string.
    """
    codec, is_avi = stream.codec_context.name, container_format == "avi"
    if codec == "mpeg4" and is_avi:
        return "mpeg4", ""
    if codec not in ("h264", "hevc") or not stream.codec_context.reorder_depth:
        return "container", ""
    with open_again() as probe:
        return _order_told_by(probe, probe.streams[stream.index], is_avi)


def _order_told_by(probe: Any, stream: Any, is_avi: bool) -> tuple[Order, str]:
    codec = stream.codec_context.name
    head = [p for p in islice(probe.demux(stream), PEEK_PACKETS) if p.size]
    if not is_avi and any(p.pts != p.dts for p in head):
        return "container", ""
    why = "HEVC slice headers are not read"
    if codec == "h264":
        try:
            for _ in in_shown_order(iter(head), stream):
                continue
            return "h264", ""
        except ValueError as exc:
            why = str(exc)
    return "container", (
        f"the container gives pts in decode order and cannot be set right ({why}): times may be "
        "wrong by a few frames; re-encode to mend it"
    )


def coded_pictures(packets: Iterator[Any], stream: Any, order: Order) -> Iterator[Coded]:
    """The packets of a stream in decode order, with pts that give the order they are shown in.

    Packets that hold no picture (empty chunks: "show the last one again") are left out.
    """
    packets = (p for p in packets if p.size)
    if order == "mpeg4":
        unpacked = _filtered(packets, "mpeg4_unpack_bframes", stream)
        return _mpeg4(unpacked, bytes(stream.codec_context.extradata or b""))
    codec = stream.codec_context.name
    length_size = nal_length_size(stream) if codec == "h264" else 0
    timed = in_shown_order(packets, stream) if order == "h264" else ((p, p.pts) for p in packets)
    return (_as_flagged(packet, ticks, codec, length_size) for packet, ticks in timed)


def _as_flagged(packet: Any, pts: int | None, codec: str, length_size: int) -> Coded:
    ticks = pts if pts is not None else packet.dts
    # Not shown: cut away by an edit list, or an alternate reference picture of VP8.
    shown = not packet.is_discard and not (codec == "vp8" and not memoryview(packet)[0] >> 4 & 1)
    # MP4 and MPEG-TS flag no disposable pictures; the slice headers of H.264 do.
    disposable = packet.is_disposable or (
        codec == "h264" and not packet.is_keyframe and not is_referred_to(packet, length_size)
    )
    return Coded(packet, ticks, packet.is_keyframe, disposable, shown)


def _filtered(packets: Iterable[Any], name: str, stream: Any) -> Iterator[Any]:
    bitstream_filter = BitStreamFilterContext(name, stream)
    for packet in packets:
        yield from bitstream_filter.filter(packet)
    yield from bitstream_filter.filter(None)


def _mpeg4(packets: Iterator[Any], extradata: bytes) -> Iterator[Coded]:
    group: list[tuple[Any, int]] = []
    num_anchors, time_bits = 0, mpeg4_time_bits(extradata)
    for packet in packets:
        data = bytes(packet)
        time_bits = mpeg4_time_bits(data) or time_bits
        vop_type = mpeg4_vop_type(data, time_bits)
        if vop_type is None:
            continue
        if vop_type != B_VOP:
            yield from _shown_after_its_bs(group, num_anchors > 1)
            group = []
            num_anchors += 1
        group.append((packet, vop_type))
    yield from _shown_after_its_bs(group, num_anchors > 1)


def _shown_after_its_bs(group: list[tuple[Any, int]], has_reference: bool) -> Iterator[Coded]:
    """An anchor and the B-VOPs after it; B-VOPs before the second anchor are never shown."""
    if not group:
        return
    dts = [packet.dts for packet, _ in group]
    shown_bs = len(group) - 1 if has_reference else 0
    for place, (packet, vop_type) in enumerate(group):
        is_b = place > 0
        ticks = dts[place - 1] if is_b else dts[shown_bs]
        yield Coded(packet, ticks, vop_type == I_VOP, is_b, has_reference or not is_b)
