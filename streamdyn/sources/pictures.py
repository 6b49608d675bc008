"""From decoded frames to what recognizers and policies look at, for any cursor over coded video."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter

from streamdyn.clock import Pts
from streamdyn.items import Array, FrameSpec, Item, ItemError
from streamdyn.observation import Grade
from streamdyn.previews.luma import LUMA_SPEC, THUMBNAIL_SPEC
from streamdyn.receipt import Receipt
from streamdyn.sources.corrupt import OnCorrupt, corrupt_item
from streamdyn.sources.decode import GopDecoder, quarter_turns
from streamdyn.sources.gops import Gop, GopBuilder

PICTURE_GRADES: dict[Grade, FrameSpec] = {"luma": LUMA_SPEC, "thumbnail": THUMBNAIL_SPEC}


class PictureCursor(ABC):
    """What cursors over coded video share.

    Args:
        name: Of the file or address, for messages.
        stream: Id of the stream.
        on_corrupt: See `streamdyn.sources.corrupt`.
    """

    def __init__(self, name: str, stream: str, on_corrupt: OnCorrupt) -> None:
        self._name, self._stream, self._on_corrupt = name, stream, on_corrupt
        self._receipt = Receipt()
        self._reformatter = VideoReformatter()

    @property
    @abstractmethod
    def _gops(self) -> GopBuilder:
        """Where the items are coded."""

    @abstractmethod
    def _decoder_of(self, gop: Gop) -> GopDecoder:
        """Decodes a GOP."""

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
            items[ordinal] = Item(self._stream, ordinal, self._pts(ordinal), data)
        errors = [self._error(o) for o in ordinals if o not in items]
        return [items[o] for o in ordinals if o in items], errors

    def _small_pictures(self, spec: FrameSpec, ordinals: Sequence[int]) -> Array:
        """`(n, H, W)` or `(n, H, W, 3)` float32, NaN where there is no picture."""
        rows: dict[int, Array] = {}
        for ordinal, frame in self._pictures(ordinals, keep=True):
            with self._receipt.timed("preview"):
                rows[ordinal] = self._reformat(frame, spec).astype(np.float32)
        depth = () if spec.pixel_format == "gray" else (3,)
        missing = np.full((spec.height or 0, spec.width or 0, *depth), np.nan, np.float32)
        return np.stack([rows.get(o, missing) for o in ordinals])

    def _pictures(
        self, ordinals: Sequence[int], *, keep: bool = False
    ) -> Iterator[tuple[int, Any]]:
        places = [(o, self._gops.places[o]) for o in ordinals]
        for number, group in groupby(places, key=lambda entry: entry[1].gop):
            gop = self._gops.gops[number]
            decoder = self._decoder_of(gop)
            by_index = {place.decode_index: ordinal for ordinal, place in group}
            for index, frame in decoder.pictures(gop, list(by_index)):
                if keep:
                    decoder.keep(gop, index, frame)
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
        return Pts(self._gops.places[ordinal].ticks, self._gops.time_base)

    def _error(self, ordinal: int) -> ItemError:
        place = self._gops.places[ordinal]
        errors = self._decoder_of(self._gops.gops[place.gop]).errors
        said = errors.get(place.gop, "the decoder gave no picture for its packet")
        self._receipt.num_errors += 1
        return corrupt_item(self._name, ordinal, self._pts(ordinal), said, self._on_corrupt)
