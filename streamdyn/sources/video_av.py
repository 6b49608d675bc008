"""Any video file or URL that PyAV opens: blocks from demuxing, pictures only where chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter

from streamdyn.clock import Pts
from streamdyn.errors import ConfigError
from streamdyn.items import Array, Block, FrameSpec, Item, ItemError
from streamdyn.observation import Grade
from streamdyn.previews.audio import AudioPreview
from streamdyn.previews.luma import LUMA_SPEC, THUMBNAIL_SPEC
from streamdyn.protocols import WHOLE_FILE, MediaRange, Position, SourceInfo
from streamdyn.receipt import Receipt
from streamdyn.registry import source
from streamdyn.sources.corrupt import OnCorrupt, check_on_corrupt, corrupt_item
from streamdyn.sources.decode import GopDecoder, probe_quarter_turns, quarter_turns
from streamdyn.sources.demux import Demuxer, GopStart
from streamdyn.sources.ranges import find_ranges

PICTURE_GRADES: dict[Grade, FrameSpec] = {"luma": LUMA_SPEC, "thumbnail": THUMBNAIL_SPEC}


@source("video_av")
class VideoAv:
    """A video file or URL, read with PyAV (FFmpeg).

    Args:
        path: File or URL.
        stream: Id in results; the path when not given.
        threads: Decoder threads; 1 is best when several files are read at once.
        on_corrupt: `raise` a `CorruptMedia`, or `skip`: hand it out as an error, counted.
        cache_bytes: Decoded pictures to keep for an agent that narrows in on a change.
        max_block_items: Longest block; a longer GOP is handed out in pieces.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        stream: str | None = None,
        threads: int = 1,
        on_corrupt: OnCorrupt = "raise",
        cache_bytes: int = 256 << 20,
        max_block_items: int = 64,
    ) -> None:
        check_on_corrupt(on_corrupt)
        self.path = str(path)
        self.stream = stream if stream is not None else self.path
        self.threads, self.on_corrupt = threads, on_corrupt
        self.cache_bytes, self.max_block_items = cache_bytes, max_block_items

    def open(self, resume_from: Position | None = None) -> VideoAvCursor:
        """A cursor at the start, or after the last closed item of an earlier run.

        Raises:
            SourceError: Not a readable media file, or one without video.
        """
        cursor = VideoAvCursor(self)
        if resume_from is not None:
            cursor.hop_to(resume_from.ordinal)
        return cursor

    def ranges(self, seconds: float) -> list[MediaRange]:
        """The file in ranges of about `seconds`, cut at keyframes; all packets are read.

        Nothing where it is not longer than that.

        Raises:
            SourceError: Not a readable media file, one without video, or a URL without an end.
        """
        return find_ranges(Demuxer(self.path, self.stream, max_packet_bytes=0), seconds)

    def open_range(
        self, media_range: MediaRange, resume_from: Position | None = None
    ) -> VideoAvCursor:
        """A cursor over the items of a range, at its start or where an earlier run left it.

        Raises:
            SourceError: The file is not the one that was cut.
        """
        cursor = VideoAvCursor(self, media_range)
        cursor.hop_to((resume_from or media_range.position).ordinal)
        return cursor


class VideoAvCursor:
    """Where we are in a video; used by one thread."""

    def __init__(self, source: VideoAv, media_range: MediaRange = WHOLE_FILE) -> None:
        self._source = source
        self._stop = media_range.stop
        self._demuxer = Demuxer(
            source.path,
            source.stream,
            max_block_items=source.max_block_items,
            start=GopStart(*media_range.hint) if media_range.hint else None,
        )
        self._receipt = Receipt()
        self._decoder = GopDecoder(
            self._demuxer, self._receipt, threads=source.threads, cache_bytes=source.cache_bytes
        )
        self._reformatter = VideoReformatter()
        self._audio: AudioPreview | None = None
        self._skip_until = 0
        self.info = source_info(self._demuxer)

    def next_block(self) -> Block | None:
        """The next items in pts order, undecoded."""
        while (
            self._demuxer.next_ordinal < self._stop
            and (block := self._demuxer.next_block()) is not None
        ):
            if block.stop <= self._skip_until:
                self.release(block.stop)
                continue
            return block.slice(max(0, self._skip_until - block.first), len(block))
        return None

    def materialize(
        self, ordinals: Sequence[int], spec: FrameSpec
    ) -> tuple[list[Item], list[ItemError]]:
        """Decode and convert the chosen items.

        Raises:
            CorruptMedia: One could not be decoded and `on_corrupt` is `raise`.
        """
        items: dict[int, Item] = {}
        for ordinal, frame in self._pictures(ordinals):
            data = self._convert(frame, spec)
            items[ordinal] = Item(self._source.stream, ordinal, self._pts(ordinal), data)
        errors = [self._error(o) for o in ordinals if o not in items]
        return [items[o] for o in ordinals if o in items], errors

    def preview(self, grade: Grade, ordinals: Sequence[int]) -> Array:
        """Small pictures for `luma` and `thumbnail`, log mel energies for `audio`; float32.

        Returns:
            `(n, 24, 32)`, `(n, 27, 48, 3)` or `(n, 32)`.

        Raises:
            ConfigError: Another grade.
            SourceError: `audio` of a file without sound.
        """
        if grade in PICTURE_GRADES:
            return self._small_pictures(PICTURE_GRADES[grade], ordinals)
        if grade == "audio":
            with self._receipt.timed("preview"):
                self._audio = self._audio or AudioPreview(self._source.path)
                return self._audio.at([self._pts(o) for o in ordinals])
        known = ", ".join(["packet", *PICTURE_GRADES, "audio"])
        raise ConfigError(f"a video has no preview of grade {grade!r}; it has {known}")

    def _small_pictures(self, spec: FrameSpec, ordinals: Sequence[int]) -> Array:
        rows: dict[int, Array] = {}
        for ordinal, frame in self._pictures(ordinals, keep=True):
            with self._receipt.timed("preview"):
                rows[ordinal] = self._reformat(frame, spec).astype(np.float32)
        depth = () if spec.pixel_format == "gray" else (3,)
        missing = np.full((spec.height or 0, spec.width or 0, *depth), np.nan, np.float32)
        return np.stack([rows.get(o, missing) for o in ordinals])

    def release(self, before: int) -> None:
        """Forget packets and pictures of items below `before`."""
        self._demuxer.release(before)
        place = self._demuxer.places.get(before)
        if place is not None:
            self._decoder.release((place.gop, 0))

    def hop_to(self, ordinal: int) -> None:
        """Read past the items before `ordinal` without decoding any."""
        self._skip_until = max(self._skip_until, ordinal)

    def take_receipt(self) -> Receipt:
        """What was spent since the last call."""
        spent = self._receipt + self._demuxer.receipt
        self._receipt = self._decoder.receipt = Receipt()
        self._demuxer.receipt = Receipt()
        return spent

    def close(self) -> None:
        """Close the file and the decoder."""
        self._demuxer.close()
        if self._audio is not None:
            self._audio.close()
            self._audio = None

    def _pictures(
        self, ordinals: Sequence[int], *, keep: bool = False
    ) -> Iterator[tuple[int, Any]]:
        places = [(o, self._demuxer.places[o]) for o in ordinals]
        for number, group in groupby(places, key=lambda entry: entry[1].gop):
            gop = self._demuxer.gops[number]
            by_index = {place.decode_index: ordinal for ordinal, place in group}
            for index, frame in self._decoder.pictures(gop, list(by_index)):
                if keep:
                    self._decoder.keep(gop, index, frame)
                yield by_index[index], frame

    def _convert(self, frame: Any, spec: FrameSpec) -> Array:
        with self._receipt.timed("convert"):
            self._receipt.num_converted += 1
            return self._reformat(frame, spec)

    def _reformat(self, frame: Any, spec: FrameSpec) -> Array:
        turns = quarter_turns(frame)
        width, height = (spec.height, spec.width) if turns % 2 else (spec.width, spec.height)
        picture = self._reformatter.reformat(
            frame, width, height, spec.pixel_format, interpolation="BILINEAR"
        ).to_ndarray()
        return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture

    def _pts(self, ordinal: int) -> Pts:
        return Pts(self._demuxer.places[ordinal].ticks, self._demuxer.time_base)

    def _error(self, ordinal: int) -> ItemError:
        place, pts = self._demuxer.places[ordinal], self._pts(ordinal)
        said = self._decoder.errors.get(place.gop, "the decoder gave no picture for its packet")
        self._receipt.num_errors += 1
        source = self._source
        return corrupt_item(source.path, ordinal, pts, said, source.on_corrupt)


def source_info(demuxer: Demuxer) -> SourceInfo:
    """What the container says of its video stream."""
    stream = demuxer.stream
    context = stream.codec_context
    size = context.width, context.height
    width, height = size[::-1] if probe_quarter_turns(demuxer.path, stream.index) % 2 else size
    return SourceInfo(
        stream=demuxer.stream_id,
        kind="frame",
        codec=context.name,
        time_base=demuxer.time_base,
        width=width,
        height=height,
        rate_from_header=stream.average_rate,
        duration_from_header_seconds=demuxer.seconds_from_header(),
        num_items_from_header=stream.frames or None,
        note=demuxer.note,
    )
