"""What a full pass says of every frame, once a file: what video agents are trained and judged on.

```
OUT/vtest-3f2a….npz     one a file, named after its content and the recognizer
```
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from streamdyn.errors import SourceError
from streamdyn.index.placing import put_in_place, write_explained
from streamdyn.index.sqlite import fingerprint_of
from streamdyn.items import BLOCK_ARRAYS, Block, Selection
from streamdyn.outcome import Outcome
from streamdyn.protocols import Recognizer
from streamdyn.receipt import Receipt
from streamdyn.sources.video_av import VideoAv

FORMAT = 1
STAGES = ("demux", "decode", "convert", "preview", "recognize")


@dataclass(frozen=True, slots=True, eq=False)
class VideoFeatures:
    """A file, item by item; rows of `ordinals` are those that could be decoded."""

    path: str
    recognizer: str
    """Name and version."""
    block: Block
    """All `N` items, as known from demuxing."""
    ordinals: npt.NDArray[np.int64]
    """`(M,)` items that were recognized, rising."""
    label_names: tuple[str, ...]
    """Every label that occurs."""
    labels: npt.NDArray[np.int32]
    """`(M, k)` index in `label_names`, best first; -1 where an outcome has fewer."""
    scores: npt.NDArray[np.float32]
    """`(M, k)`, 0 where an outcome has fewer."""
    embeddings: npt.NDArray[np.float16]
    """`(M, D)`; D is 0 where the recognizer gives none."""
    luma: npt.NDArray[np.uint8]
    """`(M, 24, 32)`, the grey preview."""
    milliseconds: dict[str, float]
    """Measured over the whole file: demux, decode, convert, preview and recognize."""

    def __len__(self) -> int:
        return len(self.block)

    def under(self, path: str) -> VideoFeatures:
        """The same of a file of this name."""
        return replace(self, path=path, block=replace(self.block, stream=path))

    def outcome(self, row: int) -> Outcome:
        """What the recognizer said of item `ordinals[row]`."""
        ordinal = int(self.ordinals[row])
        there = self.labels[row] >= 0
        return Outcome(
            self.block.stream,
            ordinal,
            self.block.pts_at(ordinal),
            self.recognizer,
            tuple(self.label_names[i] for i in self.labels[row, there]),
            tuple(self.scores[row, there].tolist()),
            self.embeddings[row] if self.embeddings.shape[1] else None,
        )


def video_features(
    paths: Sequence[str],
    out: Path,
    recognizer: Recognizer,
    *,
    on_file: Callable[[str, int], None] = lambda path, items: None,
    on_failure: Callable[[str, str], None] = lambda path, reason: None,
) -> Iterator[VideoFeatures]:
    """Features of every file that can be read, in order; those in the folder are not made again.

    Args:
        paths: Videos.
        out: Folder of the features, made when missing.
        recognizer: Set up, without state from item to item; asked for labels and embeddings.
        on_file: Told a path and how many of its items are done, while it is watched.
        on_failure: Told a path that cannot be read and why; the others go on.

    Raises:
        StoreError: The folder cannot be written.
    """
    with write_explained(out):
        out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        try:
            target = features_file(path, out, recognizer)
            if not target.exists():
                save_features(watch(path, recognizer, on_items=on_file), target)
            # The same content may have been watched under another name.
            yield load_features(target).under(path)
        except SourceError as exc:
            on_failure(path, str(exc))


def features_file(path: str | Path, out: Path, recognizer: Recognizer) -> Path:
    """Where the features of a file are.

    Raises:
        SourceError: There is no such file.
    """
    try:
        size = Path(path).stat().st_size
        content = fingerprint_of(Path(path), size)
    except OSError as exc:
        raise SourceError(f"cannot read {path}: {exc.strerror or exc}") from exc
    key = f"{FORMAT}\0{content}\0{recognizer.name}\0{recognizer.version}"
    return out / f"{Path(path).stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"


def watch(
    path: str | Path,
    recognizer: Recognizer,
    *,
    on_items: Callable[[str, int], None] = lambda path, items: None,
) -> VideoFeatures:
    """A full pass over one file.

    Raises:
        SourceError: It cannot be read, or has no picture that can be decoded.
    """
    path = str(path)
    source = VideoAv(path, on_corrupt="skip")
    blocks: list[Block] = []
    outcomes: list[Outcome] = []
    luma: list[npt.NDArray[Any]] = []
    receipt = Receipt()
    with closing(source.open()) as cursor:
        while (block := cursor.next_block()) is not None:
            blocks.append(block)
            # The small pictures come first: they keep what was decoded for them.
            small = cursor.preview("luma", range(block.first, block.stop))
            items, _ = cursor.materialize(range(block.first, block.stop), recognizer.input)
            if items:
                luma.append(small[[item.ordinal - block.first for item in items]])
                with receipt.timed("recognize"):
                    said, _ = recognizer.recognize(
                        Selection.in_full(items), recognizer.initial_hidden()
                    )
                outcomes += said
            receipt += cursor.take_receipt()
            cursor.release(block.stop)
            on_items(path, block.stop)
    if not outcomes:
        raise SourceError(f"cannot use {path}: none of its pictures could be decoded")
    return _gathered(path, Block.join(blocks), outcomes, np.concatenate(luma), receipt)


def save_features(features: VideoFeatures, target: Path) -> None:
    """Write the whole file or none.

    Raises:
        StoreError: It cannot be written.
    """
    block = features.block
    with put_in_place(target) as part, part.open("wb") as file:
        np.savez(
            file,
            format=FORMAT,
            path=features.path,
            recognizer=features.recognizer,
            time_base=str(block.time_base),
            ordinals=features.ordinals,
            label_names=np.array(features.label_names, np.str_),
            labels=features.labels,
            scores=features.scores,
            embeddings=features.embeddings,
            luma=features.luma,
            milliseconds=[features.milliseconds[stage] for stage in STAGES],
            **{f"block_{name}": getattr(block, name) for name in BLOCK_ARRAYS},
        )


def load_features(file: Path) -> VideoFeatures:
    """What `save_features` wrote.

    Raises:
        SourceError: The file is missing, cut short or something else.
    """
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            if found["format"] != FORMAT:
                raise ValueError(f"format {found['format']}, this version reads {FORMAT}")
            path = str(found["path"])
            arrays = {name: found[f"block_{name}"] for name in BLOCK_ARRAYS}
            return VideoFeatures(
                path,
                str(found["recognizer"]),
                Block(path, 0, Fraction(str(found["time_base"])), **arrays),
                found["ordinals"],
                tuple(found["label_names"].tolist()),
                found["labels"],
                found["scores"],
                found["embeddings"],
                found["luma"],
                dict(zip(STAGES, found["milliseconds"].tolist(), strict=True)),
            )
    except (OSError, EOFError, KeyError, ValueError, BadZipFile) as exc:
        raise SourceError(
            f"cannot read features from {file}: {exc}; remove the file to have them made again"
        ) from exc


def _gathered(
    path: str, block: Block, outcomes: Sequence[Outcome], luma: npt.NDArray[Any], receipt: Receipt
) -> VideoFeatures:
    names = tuple(dict.fromkeys(label for outcome in outcomes for label in outcome.labels))
    number = {name: place for place, name in enumerate(names)}
    longest = max(len(outcome.labels) for outcome in outcomes)
    labels = np.full((len(outcomes), longest), -1, np.int32)
    scores = np.zeros((len(outcomes), longest), np.float32)
    for row, outcome in enumerate(outcomes):
        count = len(outcome.labels)
        labels[row, :count] = [number[label] for label in outcome.labels]
        scores[row, :count] = outcome.scores
    nothing = np.empty(0, np.float16)
    return VideoFeatures(
        path,
        outcomes[0].recognizer,
        block,
        np.array([outcome.ordinal for outcome in outcomes]),
        names,
        labels,
        scores,
        np.stack([nothing if o.embedding is None else o.embedding for o in outcomes]),
        luma.astype(np.uint8),
        {stage: getattr(receipt, f"{stage}_ms") for stage in STAGES},
    )
