"""Search an index by words, by an example picture, or by a frame of a video; thumbnails of hits.

The example is embedded by the recognizer that made the index, as its stored configuration says.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from streamdyn.clock import Pts
from streamdyn.config import PartConfig, RunConfig
from streamdyn.errors import ConfigError, SourceError, StoreError
from streamdyn.index import SqliteIndex
from streamdyn.index.hits import Hit
from streamdyn.index.lance import SUFFIX, LanceIndex
from streamdyn.index.pictures import Picture, jpeg, picture_shown_at, pictures_at, scale
from streamdyn.index.placing import put_in_place, write_explained
from streamdyn.index.reading import IndexReader, is_url
from streamdyn.index.search import search_by_vector
from streamdyn.items import Array, Item, Selection
from streamdyn.plan import FULL_EFFORT, Action
from streamdyn.protocols import Recognizer
from streamdyn.recognizers.lite0 import GPU_OPTIONS

logger = logging.getLogger(__name__)

THUMBNAIL_WIDTH = 320
"""Pixels."""


def open_for_search(location: str) -> IndexReader:
    """An index, or what `export` made of it for LanceDB: a folder, a URL or a name in `.lance`.

    Raises:
        StoreError: There is none, or it cannot be read.
        MissingExtra: LanceDB is not installed.
    """
    if is_url(location) or Path(location).is_dir() or location.endswith(SUFFIX):
        return LanceIndex(location)
    return SqliteIndex(location, mode="read")


def search_by_image(
    index: IndexReader, image: str | Path, *, device: str = "cpu", limit: int = 10
) -> list[Hit]:
    """The segments that look most like a picture file.

    Raises:
        SourceError: The file is no picture.
        ConfigError: The index was made by a recognizer without embeddings.
    """
    recognizer, name = recognizer_of(index, device)
    picture = scale(_read_image(Path(image)), recognizer.input)
    return _search_by_picture(index, recognizer, name, picture, device, limit)


def search_by_frame(
    index: IndexReader, video: str, seconds: float, *, device: str = "cpu", limit: int = 10
) -> list[Hit]:
    """The segments that look most like what a video shows at a time.

    Args:
        index: Where to search.
        video: Any file or URL; a name that is no file here is looked for in the index.
        seconds: Media time.
        device: Where the recognizer runs.
        limit: Hits at most.

    Raises:
        SourceError: There is no such file, or no picture at that time.
        ConfigError: The index was made by a recognizer without embeddings.
    """
    path = video
    if not Path(video).exists():
        indexed = [row for row in index.media() if f"/{row.path}".endswith(f"/{video}")]
        path = index.locate(indexed[0]) if len(indexed) == 1 else video
    recognizer, name = recognizer_of(index, device)
    picture = picture_shown_at(path, seconds, recognizer.input)
    return _search_by_picture(index, recognizer, name, picture, device, limit)


def _search_by_picture(
    index: IndexReader,
    recognizer: Recognizer,
    name: str,
    picture: Array,
    device: str,
    limit: int,
) -> list[Hit]:
    """The segments that look most like a picture of the recognizer's size."""
    recognizer.setup(device)
    item = Item("example", 0, Pts(0, Fraction(1)), picture)
    selection = Selection((item,), (Action.PROCESS,), (FULL_EFFORT,))
    (outcome,), _ = recognizer.recognize(selection, recognizer.initial_hidden())
    if outcome.embedding is None:
        raise ConfigError(
            f"cannot search {index.path} by picture: its recognizer {recognizer.name!r} makes no "
            "embeddings; index with one that does, such as lite0"
        )
    return search_by_vector(index, outcome.embedding, name, limit)


def recognizer_of(index: IndexReader, device: str = "cpu") -> tuple[Recognizer, str]:
    """The recognizer whose outcomes the index holds, not set up; of several, the latest.

    Returns:
        It, on the CPU without what only GPUs can do, and the name that its outcomes have.

    Raises:
        StoreError: No call of `streamdyn index` is noted that made the outcomes.
    """
    held = {name for (name,) in index.fetch("SELECT DISTINCT recognizer FROM outcomes")}
    for table in index.run_configs():
        config = RunConfig.model_validate(table)
        recognizer = config.build_recognizer()
        name = f"{recognizer.name}/{recognizer.version}"
        if name in held:
            options = config.recognizer.model_dump()
            if device == "cpu" and not options.keys().isdisjoint(GPU_OPTIONS):
                rest = {k: v for k, v in options.items() if k not in GPU_OPTIONS}
                recognizer = PartConfig(**rest).build("recognizer")
            return recognizer, name
    raise StoreError(
        f"cannot embed an example for {index.path}: no run is noted in it that made its outcomes "
        f"({', '.join(sorted(held)) or 'it has none'}); index the videos with streamdyn index"
    )


def parse_frame(text: str) -> tuple[str, float]:
    """`VIDEO@SECONDS` or `VIDEO@h:mm:ss.mmm` as a path and seconds.

    Raises:
        ConfigError: It is neither.
    """
    video, at, time = text.rpartition("@")
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)", time)
    if not at or not video or match is None:
        raise ConfigError(
            f"wrong frame {text!r}: it must be VIDEO@SECONDS, such as clip.mp4@12.5 or "
            "clip.mp4@0:00:12.500"
        )
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return video, hours * 3600 + minutes * 60 + seconds


def write_thumbnails(
    index: IndexReader, hits: Sequence[Hit], folder: str | Path
) -> dict[int, Path]:
    """Write the best picture of each hit as a JPEG file; those of one file in one pass over it.

    A hit whose file is gone or cannot be decoded has none, which is logged.

    Args:
        index: Where the hits are from.
        hits: Best first.
        folder: Made when missing.

    Returns:
        Place of the hit, from 0 → its file.

    Raises:
        StoreError: The folder cannot be written.
    """
    target = Path(folder)
    with write_explained(target):
        target.mkdir(parents=True, exist_ok=True)
    by_media: dict[str, list[int]] = defaultdict(list)
    for place, hit in enumerate(hits):
        by_media[hit.media_id].append(place)
    written: dict[int, Path] = {}
    for media_id, places in by_media.items():
        path = index.locate(index.get(media_id))
        wanted = {place: hits[place].best.ticks for place in places}
        try:
            pictures = pictures_at(path, wanted.values(), width=THUMBNAIL_WIDTH)
        except SourceError as exc:
            logger.warning("no thumbnails of %s: %s", path, exc)
            continue
        for place, ticks in wanted.items():
            if ticks not in pictures:
                logger.warning("no thumbnail of %s at %s ticks: not decoded", path, ticks)
                continue
            name = f"{place + 1:02d}_{re.sub(r'[^A-Za-z0-9.-]+', '_', hits[place].path)}_{ticks}"
            with put_in_place(target / f"{name[-200:]}.jpg") as part:
                part.write_bytes(jpeg(pictures[ticks]))
            written[place] = target / f"{name[-200:]}.jpg"
    return dict(sorted(written.items()))


def _read_image(path: Path) -> Picture:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as exc:
        raise SourceError(
            f"cannot read the picture {path}: {getattr(exc, 'strerror', None) or exc}; name a "
            "JPEG, PNG or WebP file"
        ) from exc
