"""The pictures behind outcomes: an index keeps none, so they are decoded on request."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import closing

import numpy as np
import numpy.typing as npt

from streamdyn.errors import SourceError
from streamdyn.items import Array, FrameSpec
from streamdyn.protocols import Cursor, Source
from streamdyn.registry import build

Picture = npt.NDArray[np.uint8]
TOLERANCE_SECONDS = 0.0005
"""Times are written with milliseconds, so that the picture at 0.0333 s must be found at 0.033."""


def pictures_at(path: str, ticks: Iterable[int], *, width: int | None = None) -> dict[int, Picture]:
    """The pictures presented at exact times, in one pass over the packets of a file.

    Args:
        path: File or URL of a video.
        ticks: Presentation times in ticks of the file's time base.
        width: Of the pictures in pixels, their shape kept; `None`: as coded.

    Returns:
        Ticks → `(H, W, 3)` uint8 RGB; without those that the file has not or cannot decode.

    Raises:
        SourceError: The file cannot be opened.
    """
    missing, found = set(ticks), dict[int, Picture]()
    with closing(_open(path)) as cursor:
        spec = _scaled_to(cursor, width)
        while missing and (block := cursor.next_block()) is not None:
            wanted = sorted(missing.intersection(block.pts.tolist()))
            ordinals = (block.first + np.searchsorted(block.pts, wanted)).tolist()
            items, _ = cursor.materialize(ordinals, spec) if ordinals else ([], [])
            found.update((item.pts.ticks, item.data) for item in items)
            missing.difference_update(wanted)
            cursor.release(block.stop)
    return found


def picture_shown_at(path: str, seconds: float, spec: FrameSpec) -> Array:
    """The picture on the screen at a time: the last one presented at or before it.

    Args:
        path: File or URL of a video.
        seconds: Media time, as in results; not before the first picture's.
        spec: Size and format.

    Returns:
        `(H, W, 3)` uint8 RGB.

    Raises:
        SourceError: The file cannot be opened, or shows nothing at that time.
    """
    with closing(_open(path)) as cursor:
        last, start, end = None, None, 0.0
        while (block := cursor.next_block()) is not None:
            times = [float(t * block.time_base) for t in block.pts.tolist()]
            start, end = times[0] if start is None else start, times[-1]
            place = int(np.searchsorted(times, seconds + TOLERANCE_SECONDS, side="right")) - 1
            if place >= 0:
                last = block.first + place
            if place < len(times) - 1:
                break
            # The picture may be the last of this block: keep its packets until the next is seen.
            cursor.release(last or 0)
        if last is None or seconds > end + 1:
            raise SourceError(
                f"no picture of {path} is shown at {seconds:.3f} s: it runs from "
                f"{start or 0.0:.3f} s to {end:.3f} s; choose a time within"
            )
        items, errors = cursor.materialize([last], spec)
        if not items:
            raise SourceError(
                f"cannot decode the picture of {path} at {seconds:.3f} s: {errors[0].reason}; "
                "choose another time"
            )
        return items[0].data


def scale(picture: Picture, spec: FrameSpec) -> Picture:
    """A picture as a source would have made it: the same scaler, the same filter.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        spec: Size and format.
    """
    import av

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    scaled = frame.reformat(spec.width, spec.height, spec.pixel_format, interpolation="BILINEAR")
    return scaled.to_ndarray().astype(np.uint8, copy=False)


def jpeg(picture: Picture, quality: int = 80) -> bytes:
    """A picture as JPEG.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        quality: 1 to 95.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def _open(path: str) -> Cursor:
    source: Source = build("source", "video_av", path=path, on_corrupt="skip")
    return source.open()


def _scaled_to(cursor: Cursor, width: int | None) -> FrameSpec:
    info = cursor.info
    if width is None or not info.width:
        return FrameSpec(None, None)
    return FrameSpec(width, max(1, round(width * info.height / info.width)))
