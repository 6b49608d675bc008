"""Any video file or URL that PyAV opens: blocks from demuxing, pictures only where chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from streamdyn.errors import ConfigError
from streamdyn.items import Array, Block
from streamdyn.observation import Grade
from streamdyn.previews.audio import AudioPreview
from streamdyn.protocols import WHOLE_FILE, MediaRange, Position, SourceInfo
from streamdyn.receipt import Receipt
from streamdyn.registry import source
from streamdyn.sources.corrupt import OnCorrupt, check_on_corrupt
from streamdyn.sources.decode import GopDecoder, probe_quarter_turns
from streamdyn.sources.demux import Demuxer, GopStart
from streamdyn.sources.gops import Gop, GopBuilder
from streamdyn.sources.pictures import PICTURE_GRADES, PictureCursor
from streamdyn.sources.ranges import find_ranges


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


class VideoAvCursor(PictureCursor):
    """Where we are in a video; used by one thread."""

    def __init__(self, source: VideoAv, media_range: MediaRange = WHOLE_FILE) -> None:
        super().__init__(source.path, source.stream, source.on_corrupt)
        self._source = source
        self._stop = media_range.stop
        self._demuxer = Demuxer(
            source.path,
            source.stream,
            max_block_items=source.max_block_items,
            start=GopStart(*media_range.hint) if media_range.hint else None,
        )
        self._decoder = GopDecoder(
            self._demuxer,
            self._demuxer.stream.codec_context,
            self._receipt,
            threads=source.threads,
            cache_bytes=source.cache_bytes,
        )
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

    @property
    def _gops(self) -> GopBuilder:
        return self._demuxer

    def _decoder_of(self, gop: Gop) -> GopDecoder:
        return self._decoder


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
