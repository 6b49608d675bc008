"""Long streams joined from clips and idle footage, with the truth beside them.

```
pictures   i i i i A A A i i i i i B B i i      share = 5 / 16
events             [0, run)        [1, jump)
```

Encoded as H.264 with a keyframe every `gop` pictures and nowhere else, so that no keyframe says
where a clip begins. A clip that is joined to other footage begins with a hard cut all the same:
packet sizes may show it, as they would in edited video.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np

from streamdyn.clips.clip_set import Clip
from streamdyn.errors import ConfigError, SourceError
from streamdyn.index.placing import put_in_place
from streamdyn.items import Array, FrameSpec
from streamdyn.sources.video_av import VideoAv

FORMAT = 1
RATE = 30
_CODER = {"preset": "veryfast", "crf": "23"}


@dataclass(frozen=True, slots=True)
class Event:
    """Where one action is in a stream; half open."""

    label: str
    clip: str
    """File that it was taken from."""
    first: int
    """Ordinal of its first picture."""
    stop: int
    """Ordinal after its last."""
    start_ticks: int
    """Pts of the first picture."""
    stop_ticks: int
    """Pts after the last."""


@dataclass(frozen=True, slots=True)
class Untrimmed:
    """A stream and what is in it."""

    path: Path
    time_base: Fraction
    num_items: int
    seed: int
    events: tuple[Event, ...]

    @property
    def share(self) -> float:
        """Of the pictures, those of an action."""
        return sum(event.stop - event.first for event in self.events) / self.num_items


def join_stream(
    clips: Sequence[Clip],
    idle: Sequence[Path],
    target: Path,
    *,
    share: float,
    seed: int = 0,
    width: int = 320,
    height: int = 240,
    gop: int = 250,
) -> Untrimmed:
    """Write `target`, and its truth to `target` with the suffix `.events.json`.

    The same arguments give the same pictures, and with one version of FFmpeg the same bytes.

    Args:
        clips: In this order, each once; decoded whole.
        idle: Videos in which none of the actions happens; every gap is a piece of one of them, from
            a place that is drawn, and goes on at its start where it ends.
        target: An mp4 file.
        share: Of the pictures, those of clips, in (0, 1]; 1: no gaps.
        seed: Of the lengths of the gaps, one before, after and between clips, and of the footage.
        width: Pixels; pictures are scaled to it.
        height: Pixels.
        gop: Pictures from one keyframe to the next.

    Raises:
        ConfigError: No clip, no idle footage for a share below 1, or a value out of range.
        SourceError: A clip or a video cannot be read.
        StoreError: The files cannot be written.
    """
    if not clips or not 0 < share <= 1 or gop < 1 or (share < 1 and not idle):
        raise ConfigError(
            "a stream needs a clip, a share in (0, 1], gop >= 1, and idle footage where the share "
            f"is below 1; got {len(clips)} clips, {share = }, {gop = }, {len(idle)} idle videos"
        )
    dice = np.random.default_rng(seed)
    spec = FrameSpec(width, height)
    lengths = [_num_pictures(clip.path) for clip in clips]
    gaps = _gaps(dice, round(sum(lengths) * (1 / share - 1)), len(clips) + 1)
    num_pictures = cache(_num_pictures)
    pieces: list[Iterator[Array]] = []
    first, starts = 0, []
    for number, gap in enumerate(gaps):
        if gap:
            footage = idle[int(dice.integers(len(idle)))]
            start = int(dice.integers(num_pictures(footage)))
            pieces.append(_footage(footage, start, gap, spec))
            first += gap
        if number < len(clips):
            starts.append(first)
            pieces.append(_pictures(clips[number].path, 0, spec))
            first += lengths[number]
    with put_in_place(target) as part:
        _encode(part, chain.from_iterable(pieces), spec, gop)
        time_base, pts = _times(part)
    if len(pts) != first:
        raise SourceError(f"{target} came out with {len(pts)} pictures instead of {first}")
    ticks = [*pts, 2 * pts[-1] - pts[-2] if len(pts) > 1 else pts[-1] + 1]
    made = Untrimmed(
        target,
        time_base,
        len(pts),
        seed,
        tuple(
            Event(clip.label, str(clip.path), start, start + n, ticks[start], ticks[start + n])
            for clip, start, n in zip(clips, starts, lengths, strict=True)
        ),
    )
    with put_in_place(truth_file(target)) as part:
        part.write_text(json.dumps(_record(made), indent=1), "utf-8")
    return made


def truth_file(path: Path) -> Path:
    """Where the truth of a stream is."""
    return path.with_suffix(".events.json")


def load_untrimmed(path: Path) -> Untrimmed:
    """What `join_stream` wrote.

    Raises:
        SourceError: The stream or its truth is missing or damaged.
    """
    truth = truth_file(path)
    try:
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        record = json.loads(truth.read_text("utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']}, this version reads {FORMAT}")
        return Untrimmed(
            path,
            Fraction(record["time_base"]),
            int(record["num_items"]),
            int(record["seed"]),
            tuple(Event(**event) for event in record["events"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise SourceError(
            f"cannot read the truth of {path} from {truth}: {exc}; make the stream again"
        ) from exc


def _record(made: Untrimmed) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "video": made.path.name,
        "time_base": str(made.time_base),
        "num_items": made.num_items,
        "seed": made.seed,
        "events": [asdict(event) for event in made.events],
    }


def _gaps(dice: np.random.Generator, total: int, count: int) -> list[int]:
    """`count` lengths that add up to `total`: `total` laid out and cut at places that are drawn."""
    cuts = np.sort(dice.integers(0, total + 1, count - 1))
    gaps: list[int] = np.diff([0, *cuts, total]).tolist()
    return gaps


def _num_pictures(path: Path) -> int:
    """Counted by demuxing: headers may lie."""
    return len(_times(path)[1])


def _times(path: Path) -> tuple[Fraction, list[int]]:
    ticks: list[int] = []
    with closing(VideoAv(path).open()) as cursor:
        while (block := cursor.next_block()) is not None:
            ticks += block.pts.tolist()
            cursor.release(block.stop)
        return cursor.info.time_base, ticks


def _pictures(path: Path, first: int, spec: FrameSpec) -> Iterator[Array]:
    """`(H, W, 3)` uint8, from an ordinal to the end."""
    with closing(VideoAv(path).open()) as cursor:
        cursor.hop_to(first)
        while (block := cursor.next_block()) is not None:
            items, _ = cursor.materialize(range(block.first, block.stop), spec)
            yield from (item.data for item in items)
            cursor.release(block.stop)


def _footage(path: Path, start: int, count: int, spec: FrameSpec) -> Iterator[Array]:
    while count:
        for picture in _pictures(path, start, spec):
            yield picture
            count -= 1
            if not count:
                return
        start = 0


def _encode(path: Path, pictures: Iterable[Array], spec: FrameSpec, gop: int) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        # One thread: the others would make the bytes depend on the machine.
        options = _CODER | {"x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:threads=1"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = spec.width or 0, spec.height or 0, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
