"""What a full pass says of every frame, once a file: what video agents are trained and judged on.

```
OUT/vtest-3f2a….npz     one a file, named after its content and the recognizer
```
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.clips.features import FORMAT, STAGES, VideoFeatures, load_features, save_features
from streamdyn.errors import SourceError
from streamdyn.index.placing import write_explained
from streamdyn.index.sqlite import fingerprint_of
from streamdyn.items import Block, Selection
from streamdyn.outcome import Outcome
from streamdyn.protocols import Recognizer
from streamdyn.receipt import Receipt
from streamdyn.sources.video_av import VideoAv


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
        size = cursor.info.width, cursor.info.height
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
    return _gathered(path, size, Block.join(blocks), outcomes, np.concatenate(luma), receipt)


def _gathered(
    path: str,
    size: tuple[int, int],
    block: Block,
    outcomes: Sequence[Outcome],
    luma: npt.NDArray[Any],
    receipt: Receipt,
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
        size,
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
