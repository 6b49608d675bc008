"""Random access over a file with decord, for files that decord reads right.

The index (pts, keyframes, sizes) comes from demuxing the whole file when it is opened. decord
knows no pts: it counts pictures, and miscounts open GOPs, hidden pictures, edit lists and the start
of MPEG-TS, without a word. So its count, its keyframes and a few of its pictures are compared with
ours first, and a file that it would read wrongly is refused.

Costs: decord scales with its own FFmpeg, so a scaled picture differs a little from that of
`video_av`. It does not say how many packets it decodes, so `num_decoded` covers the check only; its
colour conversion is part of `decode_ms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np

from streamdyn.clock import Pts
from streamdyn.errors import ConfigError, SourceError
from streamdyn.items import Array, Block, FrameSpec, Item, ItemError
from streamdyn.observation import Grade
from streamdyn.previews.luma import LUMA_SPEC, THUMBNAIL_SPEC
from streamdyn.protocols import Position
from streamdyn.receipt import Receipt
from streamdyn.registry import source
from streamdyn.sources.corrupt import OnCorrupt, check_on_corrupt, corrupt_item
from streamdyn.sources.video_av import VideoAv, VideoAvCursor

NUM_CHECKED = 4
"""GOPs whose first, middle and last pictures are compared when a file is opened."""
LARGEST_DIFFERENCE = 4.0
"""Mean absolute difference, in levels of 255, that two builds of FFmpeg may have."""
NARROW = 96
"""Pixels; from here on the rows that decord hands out are never padded by a multiple of a row."""
PREVIEWS: dict[Grade, FrameSpec] = {"luma": LUMA_SPEC, "thumbnail": THUMBNAIL_SPEC}
AS_CODED = FrameSpec(None, None)


@source("video_decord")
class VideoDecord:
    """A video file, read in batches of any order with decord.

    Args:
        path: File.
        stream: Id in results; the path when not given.
        threads: Decoder threads.
        on_corrupt: `raise` a `CorruptMedia`, or `skip`: hand it out as an error, counted.
        batches_per_reader: Batches after which a reader is opened anew, since decord leaks.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        stream: str | None = None,
        threads: int = 1,
        on_corrupt: OnCorrupt = "raise",
        batches_per_reader: int = 256,
    ) -> None:
        check_on_corrupt(on_corrupt)
        if batches_per_reader < 1:
            raise ConfigError(f"batches_per_reader must be at least 1, got {batches_per_reader}")
        self.path = str(path)
        self.stream = stream if stream is not None else self.path
        self.threads, self.on_corrupt = threads, on_corrupt
        self.batches_per_reader = batches_per_reader

    def open(self, resume_from: Position | None = None) -> VideoDecordCursor:
        """A cursor at the start, or after the last closed item of an earlier run.

        Raises:
            SourceError: Not a readable media file, decord is not installed, or it would read this
                file wrongly.
        """
        cursor = VideoDecordCursor(self)
        if resume_from is not None:
            cursor.hop_to(resume_from.ordinal)
        return cursor


class VideoDecordCursor:
    """Where we are in a video; used by one thread."""

    def __init__(self, source: VideoDecord) -> None:
        self._source = source
        self._decord = _import_decord(source.path)
        self._readers: dict[tuple[int, int], tuple[Any, int]] = {}
        self._receipt = Receipt()
        self._num_read, self._skip_until = 0, 0
        index = VideoAv(
            source.path, stream=source.stream, threads=source.threads, on_corrupt="skip"
        ).open()
        try:
            self.info = index.info
            self._blocks = list(iter(index.next_block, None))
            self._all = Block.join(self._blocks)
            self._check(index)
            # The time counts; pictures that were only compared were made for no recognizer.
            self._receipt = replace(index.take_receipt(), num_converted=0, num_errors=0)
        finally:
            index.close()

    def _check(self, index: VideoAvCursor) -> None:
        """Compare decord's count, keyframes and some pictures with those of the index."""
        reader = self._reader(AS_CODED)
        keyframes = np.flatnonzero(self._all.keyframe).tolist()
        if len(reader) != len(self._all):
            raise self._refusal(
                f"it counts {len(reader)} pictures where {len(self._all)} are shown"
            )
        if reader.get_key_indices() != keyframes:
            raise self._refusal("it takes keyframes for other pictures (open GOPs)")
        ends = np.array([*keyframes, len(self._all)])
        places = np.linspace(0, len(keyframes) - 1, min(NUM_CHECKED, len(keyframes))).astype(int)
        starts, stops = ends[places], ends[places + 1]
        checked = sorted(
            {*starts.tolist(), *(stops - 1).tolist(), *((starts + stops) // 2).tolist()}
        )
        expected, _ = index.materialize(checked, AS_CODED)
        for item in reversed(expected):  # Backwards, so that every picture needs a seek.
            try:
                picture = self._batch([item.ordinal], AS_CODED)[0]
            except self._failures() as exc:
                raise self._refusal(
                    f"it fails at picture {item.ordinal}: {_first_line(exc)}"
                ) from exc
            same = picture.shape == item.data.shape and _difference(picture, item.data)
            if same is False or same > LARGEST_DIFFERENCE:
                raise self._refusal(f"it gives another picture at {item.pts.seconds:.3f} s")

    def _refusal(self, why: str) -> SourceError:
        return SourceError(
            f"cannot read {self._source.path} with decord: {why}; use the source video_av"
        )

    def _failures(self) -> tuple[type[Exception], ...]:
        base = self._decord._ffi.base
        return (base.DECORDError, base.DECORDLimitReachedError, RuntimeError)

    def _reader(self, spec: FrameSpec) -> Any:
        """The reader for a picture size, opened anew every so many batches."""
        size = spec.width or -1, spec.height or -1
        reader, batches = self._readers.pop(size, (None, 0))
        if reader is None or batches >= self._source.batches_per_reader:
            del reader
            try:
                # One repeated picture is the least that decord lets us forbid.
                reader = self._decord.VideoReader(
                    self._source.path,
                    num_threads=self._source.threads,
                    width=size[0],
                    height=size[1],
                    fault_tol=1,
                )
            except self._failures() as exc:
                raise self._refusal(f"it cannot open it ({_first_line(exc)})") from exc
            batches = 0
        self._readers[size] = reader, batches + 1
        return reader

    def _batch(self, ordinals: Sequence[int], spec: FrameSpec) -> Array:
        reader = self._reader(spec)
        if spec.width is None or spec.width >= NARROW:
            pictures: Array = reader.get_batch(list(ordinals)).asnumpy()
            return pictures
        # decord takes the padding at the end of a short row for more colour channels.
        padded = [reader[ordinal].asnumpy() for ordinal in ordinals]
        rows = np.stack([p.reshape(len(p), -1)[:, : 3 * spec.width] for p in padded])
        return rows.reshape(*rows.shape[:2], spec.width, 3)

    def next_block(self) -> Block | None:
        """The next items in pts order, undecoded."""
        while self._num_read < len(self._blocks):
            block = self._blocks[self._num_read]
            self._num_read += 1
            if block.stop > self._skip_until:
                return block.slice(max(0, self._skip_until - block.first), len(block))
        return None

    def materialize(
        self, ordinals: Sequence[int], spec: FrameSpec
    ) -> tuple[list[Item], list[ItemError]]:
        """Decode and convert the chosen items in one batch.

        Raises:
            CorruptMedia: One could not be decoded and `on_corrupt` is `raise`.
        """
        pictures, reasons = self._pictures(ordinals, spec)
        self._receipt.num_converted += len(pictures)
        stream = self._source.stream
        items = [Item(stream, o, self._pts(o), pictures[o]) for o in ordinals if o in pictures]
        return items, [self._error(ordinal, reason) for ordinal, reason in reasons.items()]

    def _pictures(
        self, ordinals: Sequence[int], spec: FrameSpec
    ) -> tuple[dict[int, Array], dict[int, str]]:
        """Ordinal → picture, and ordinal → reason for those that decord cannot give."""
        if not ordinals:
            return {}, {}
        try:
            with self._receipt.timed("decode"):
                pictures = dict(zip(ordinals, self._batch(ordinals, spec), strict=True))
        except self._failures() as exc:
            self._readers.clear()
            if len(ordinals) == 1:
                return {}, {ordinals[0]: _first_line(exc)}
            parts = [self._pictures([ordinal], spec) for ordinal in ordinals]
            return (
                {o: picture for got, _ in parts for o, picture in got.items()},
                {o: reason for _, failed in parts for o, reason in failed.items()},
            )
        if spec.pixel_format == "gray":
            with self._receipt.timed("convert"):
                pictures = {ordinal: _grey(picture) for ordinal, picture in pictures.items()}
        return pictures, {}

    def preview(self, grade: Grade, ordinals: Sequence[int]) -> Array:
        """`(n, 24, 32)` grey for `luma`, `(n, 27, 48, 3)` RGB for `thumbnail`; float32."""
        if grade not in PREVIEWS:
            raise ConfigError(f"video_decord has no preview {grade!r}; it has {sorted(PREVIEWS)}")
        spec = PREVIEWS[grade]
        channels = () if spec.pixel_format == "gray" else (3,)
        rows = np.full((len(ordinals), spec.height or 0, spec.width or 0, *channels), np.nan)
        pictures, _ = self._pictures(ordinals, spec)
        for row, ordinal in enumerate(ordinals):
            if ordinal in pictures:
                rows[row] = pictures[ordinal]
        return rows.astype(np.float32)

    def release(self, before: int) -> None:
        """Nothing is held for an item: the index stays for the next seek."""

    def hop_to(self, ordinal: int) -> None:
        """Leave the items before `ordinal` unseen."""
        self._skip_until = max(self._skip_until, ordinal)

    def take_receipt(self) -> Receipt:
        """What was spent since the last call."""
        spent, self._receipt = self._receipt, Receipt()
        return spent

    def close(self) -> None:
        """Delete the readers, which closes the file."""
        self._readers.clear()

    def _pts(self, ordinal: int) -> Pts:
        return self._all.pts_at(ordinal)

    def _error(self, ordinal: int, reason: str) -> ItemError:
        pts = self._pts(ordinal)
        self._receipt.num_errors += 1
        source = self._source
        return corrupt_item(source.path, ordinal, pts, reason, source.on_corrupt)


def _import_decord(path: str) -> Any:
    try:
        import decord
    except ImportError as exc:
        raise SourceError(
            f"cannot read {path} with decord: the package 'decord' is not installed (it exists for "
            "Linux on x86-64 only); run: pip install decord, or use the source video_av"
        ) from exc
    decord.logging.set_level(decord.logging.FATAL)
    return decord


def _first_line(exc: Exception) -> str:
    return str(exc).strip().splitlines()[0].split("Check failed: ")[-1]


def _difference(left: Array, right: Array) -> float:
    return float(np.abs(left.astype(np.int16) - right.astype(np.int16)).mean())


def _grey(picture: Array) -> Array:
    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    grey: Array = rgb.reformat(format="gray").to_ndarray()
    return grey
