"""Export to JSONL, Parquet, WebVTT and COCO; each file is written aside, then put in place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args

from streamdyn.errors import MissingExtra, UnknownName
from streamdyn.index.placing import put_in_place, write_explained
from streamdyn.index.reading import IndexReader
from streamdyn.index.records import MediaRow, Segment
from streamdyn.outcome import Box, Outcome

ExportFormat = Literal["jsonl", "parquet", "webvtt", "coco"]


def export(index: IndexReader, format: ExportFormat, target: str | Path) -> list[Path]:
    """Write the finished files of an index in another format.

    Args:
        index: What to export.
        format: `jsonl` and `parquet`: a record a segment. `webvtt`: a folder with one subtitle
            file a media file, a cue a segment. `coco`: images are the observed items, annotations
            their boxes.
        target: A file; for `webvtt` a folder. An older one is replaced.

    Returns:
        The files written.

    Raises:
        StoreError: They cannot be written; those already in place are whole.
        MissingExtra: Parquet without pyarrow.
        UnknownName: There is no such format.
    """
    writers: dict[str, Callable[[IndexReader, Path], list[Path]]] = {
        "jsonl": _export_jsonl,
        "parquet": _export_parquet,
        "webvtt": _export_webvtt,
        "coco": _export_coco,
    }
    if format not in writers:
        raise UnknownName("export format", format, get_args(ExportFormat))
    return writers[format](index, Path(target))


def segment_records(index: IndexReader) -> Iterator[dict[str, Any]]:
    """A record a segment, in order of path, recognizer and time; plain values."""
    for media in _done(index):
        for segment in index.segments(media.id):
            base = media.pts(0).time_base
            yield {
                "path": media.path,
                **asdict(segment),
                "time_base": f"{base.numerator}/{base.denominator}",
                "start_seconds": media.pts(segment.start_ticks).seconds,
                "stop_seconds": media.pts(segment.stop_ticks).seconds,
            }


def _done(index: IndexReader) -> Iterator[MediaRow]:
    return (media for media in index.media() if media.status == "done")


def _export_jsonl(index: IndexReader, target: Path) -> list[Path]:
    with put_in_place(target) as part, part.open("w", encoding="utf-8") as file:
        for record in segment_records(index):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return [target]


def _export_parquet(index: IndexReader, target: Path) -> list[Path]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise MissingExtra("pyarrow", "exporting to Parquet", "parquet") from exc
    text, integer, number = pa.string(), pa.int64(), pa.float64()
    schema = pa.schema(
        {
            "path": text,
            "media_id": text,
            "recognizer": text,
            "start_ordinal": integer,
            "stop_ordinal": integer,
            "start_ticks": integer,
            "stop_ticks": integer,
            "label": text,
            "score": number,
            "num_observed": integer,
            "num_propagated": integer,
            "best_outcome_id": text,
            "text": text,
            "time_base": text,
            "start_seconds": number,
            "stop_seconds": number,
        }
    )
    table = pa.Table.from_pylist(list(segment_records(index)), schema=schema)
    with put_in_place(target) as part:
        pq.write_table(table, part)
    return [target]


def _export_webvtt(index: IndexReader, target: Path) -> list[Path]:
    with write_explained(target):
        target.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for media in _done(index):
        path = target / _vtt_name(media)
        if path in written:
            path = path.with_name(f"{path.stem}.{media.id}.vtt")
        with write_explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with put_in_place(path) as part:
            part.write_text(webvtt(media, index.segments(media.id)), encoding="utf-8")
        written.append(path)
    return written


def _vtt_name(media: MediaRow) -> str:
    """The path below the root, kept within the folder and to letters that any system takes."""
    parts = [re.sub(r"[^\w.\- ]", "_", p) for p in media.path.split("/") if p not in ("", "..")]
    return "/".join(parts) + ".vtt"


def webvtt(media: MediaRow, segments: list[Segment]) -> str:
    """Subtitles: a cue a segment; where nothing was found there is none.

    What lies before zero, as edit lists may cause, is cut off: WebVTT has no negative times.
    """
    cues = ["WEBVTT\n"]
    for segment in segments:
        start = max(0, _milliseconds(media, segment.start_ticks))
        stop = _milliseconds(media, segment.stop_ticks)
        if not segment.label or stop <= start:
            continue
        text = segment.label
        if segment.score:
            text += f" ({segment.score:.2f})"
        if segment.text and segment.text != segment.label:
            text += f"\n{segment.text}"
        cues.append(f"{_vtt_time(start)} --> {_vtt_time(stop)}\n{_vtt_text(text)}\n")
    return "\n".join(cues)


def _milliseconds(media: MediaRow, ticks: int) -> int:
    return round(media.pts(ticks).exact * Fraction(1000))


def _vtt_time(milliseconds: int) -> str:
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds, rest = divmod(rest, 1000)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{rest:03d}"


def _vtt_text(text: str) -> str:
    # A blank line would end the cue.
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    escaped = "\n".join(lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _export_coco(index: IndexReader, target: Path) -> list[Path]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: dict[str, int] = {}
    for media in _done(index):
        for outcome in index.outcomes(media.id, embeddings=False):
            image_id = len(images) + 1
            images.append(_coco_image(image_id, media, outcome))
            for box in outcome.boxes:
                category = categories.setdefault(box.label, len(categories) + 1)
                annotation_id = len(annotations) + 1
                annotations.append(_coco_box(annotation_id, image_id, category, media, box))
    coco = {
        "info": {"description": f"streamdyn index {index.path.name}"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }
    with put_in_place(target) as part:
        part.write_text(json.dumps(coco, ensure_ascii=False), encoding="utf-8")
    return [target]


def _coco_image(image_id: int, media: MediaRow, outcome: Outcome) -> dict[str, Any]:
    """An observed item; `file_name` names the item in the file, as no picture is kept."""
    base = outcome.pts.time_base
    return {
        "id": image_id,
        "file_name": f"{media.path}#item={outcome.ordinal}",
        "width": media.width,
        "height": media.height,
        "streamdyn": {
            "path": media.path,
            "ordinal": outcome.ordinal,
            "ticks": outcome.pts.ticks,
            "time_base": f"{base.numerator}/{base.denominator}",
            "seconds": outcome.pts.seconds,
            "outcome_id": outcome.id,
            "recognizer": outcome.recognizer,
            "labels": [list(pair) for pair in zip(outcome.labels, outcome.scores, strict=True)],
            "text": outcome.text,
        },
    }


def _coco_box(
    annotation_id: int, image_id: int, category: int, media: MediaRow, box: Box
) -> dict[str, Any]:
    width, height = (box.right - box.left) * media.width, (box.bottom - box.top) * media.height
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category,
        "bbox": [box.left * media.width, box.top * media.height, width, height],
        "area": width * height,
        "iscrowd": 0,
        "score": box.score,
    }
