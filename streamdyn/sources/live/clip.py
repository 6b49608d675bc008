"""A stretch of a spool as a video file, without encoding anything again; and one picture of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import av

from streamdyn.errors import SourceError
from streamdyn.sources.live.packets import TIME_BASE, LivePacket, Section
from streamdyn.sources.live.spool_records import read_record

IN_MP4 = ("h264", "hevc", "av1", "mpeg4")
START_CODE = b"\0\0\0\1"


def packets_between(folder: Path, start: int, stop: int) -> tuple[Section, list[LivePacket]]:
    """Packets of a spool from the keyframe before one time to another.

    Where a section ends within, what comes after it is left out: it is of another decoder.

    Args:
        folder: Of the spool, which may be written meanwhile.
        start: Ticks.
        stop: Ticks; what is later is left out.

    Raises:
        SourceError: Nothing of it is in the spool, any more or yet.
    """
    section: Section | None = None
    found: list[LivePacket] = []
    for path in _files_from(folder, start):
        for record in _records(path):
            if isinstance(record, Section):
                is_new = section is None or record.number != section.number
                if is_new and section is not None and _covers(found, start):
                    return section, found
                if is_new:
                    section, found = record, []
                continue
            if record.keyframe and record.ticks <= start:
                found = []
            # In decode order, so that the last pictures have what they are decoded from.
            if (record.ticks if record.dts is None else record.dts) <= stop:
                found.append(record)
            elif record.keyframe and found:
                break
    if section is None or not _covers(found, start):
        raise SourceError(f"cannot cut a clip: what was shown then is not in {folder} any more")
    return section, found


def _covers(packets: list[LivePacket], start: int) -> bool:
    return bool(packets) and packets[-1].ticks >= start


def _files_from(folder: Path, start: int) -> list[Path]:
    """Those that may hold what is shown from then on, and one before."""
    files = sorted(folder.glob("*.spool"))
    first = 0
    for place, path in enumerate(files):
        packet = next((r for r in _records(path) if isinstance(r, LivePacket)), None)
        if packet is not None and packet.ticks <= start:
            first = place
    return files[first:]


def _records(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            while (record := read_record(file)) is not None:
                yield record
    except FileNotFoundError:  # Deleted meanwhile, being the oldest.
        return


def seconds_since_written(folder: Path) -> float:
    """How long ago something was written to a spool; infinite where it is empty."""
    times = [path.stat().st_mtime for path in folder.glob("*.spool")]
    return time.time() - max(times) if times else float("inf")


def write_clip(section: Section, packets: list[LivePacket], path: Path) -> Path:
    """Write packets as they are; `.mp4`, or `.mkv` where that cannot hold the codec.

    Raises:
        SourceError: Parameters of the codec lie where they cannot be taken from (HEVC of a file).
    """
    path = path.with_suffix(".mp4" if section.codec in IN_MP4 else ".mkv")
    part = path.with_name(f".{path.name}")
    first = min(packet.dts if packet.dts is not None else packet.ticks for packet in packets)
    options = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(part), "w", format=_FORMATS[path.suffix], options=options) as container:
        stream = container.add_mux_stream(section.codec, width=section.width, height=section.height)
        stream.time_base = TIME_BASE
        for stored in packets:
            packet = av.Packet(_with_parameters(section, stored))
            packet.pts = stored.ticks - first
            packet.dts = (stored.dts if stored.dts is not None else stored.ticks) - first
            packet.time_base, packet.is_keyframe, packet.stream = TIME_BASE, stored.keyframe, stream
            container.mux(packet)
    part.replace(path)
    return path


_FORMATS = {".mp4": "mp4", ".mkv": "matroska"}


def _with_parameters(section: Section, packet: LivePacket) -> bytes:
    """The data such that it can be decoded without what the container said."""
    extra = section.extradata
    if section.codec not in ("h264", "hevc") or not extra:
        return packet.data
    if extra.startswith((START_CODE, START_CODE[1:])):
        return extra + packet.data if packet.keyframe else packet.data
    if section.codec == "hevc":
        raise SourceError("cannot cut a clip: HEVC as files hold it has to be converted first")
    size = (extra[4] & 3) + 1
    units = _units(packet.data, size)
    if packet.keyframe:
        units = [*_parameter_sets(extra), *units]
    return b"".join(START_CODE + unit for unit in units)


def _units(data: bytes, size: int) -> list[bytes]:
    """NAL units behind lengths of `size` bytes (ISO/IEC 14496-15, 5.3.4.2)."""
    found, place = [], 0
    while place + size <= len(data):
        length = int.from_bytes(data[place : place + size], "big")
        found.append(data[place + size : place + size + length])
        place += size + length
    return found


def _parameter_sets(extra: bytes) -> list[bytes]:
    """SPS and PPS of an AVC decoder configuration record (ISO/IEC 14496-15, 5.3.3.1)."""
    found, place = [], 5
    for mask in (0x1F, 0xFF):
        count, place = extra[place] & mask, place + 1
        for _ in range(count):
            length = int.from_bytes(extra[place : place + 2], "big")
            found.append(extra[place + 2 : place + 2 + length])
            place += 2 + length
    return found


def write_thumbnail(
    section: Section, packets: list[LivePacket], ticks: int, path: Path, *, longest_side: int = 640
) -> Path:
    """The picture nearest before a time as JPEG.

    Raises:
        SourceError: It cannot be decoded.
    """
    codec, best = section.decoder(), None
    for stored in [*packets, None]:
        try:
            frames = codec.decode(None if stored is None else stored.packet())
        except av.error.FFmpegError:
            continue
        for frame in frames:
            if best is None or frame.pts <= ticks:
                best = frame
    if best is None:
        raise SourceError(f"cannot make {path}: no picture could be decoded")
    scale = min(1.0, longest_side / max(best.width, best.height))
    image = best.to_image(width=round(best.width * scale), height=round(best.height * scale))
    path = path.with_suffix(".jpg")
    image.save(path, quality=85)
    return path
