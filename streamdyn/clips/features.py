"""What a full pass said of every frame of a file: what video agents are trained and judged on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from streamdyn.errors import SourceError
from streamdyn.index.placing import put_in_place
from streamdyn.items import BLOCK_ARRAYS, Block
from streamdyn.outcome import Outcome
from streamdyn.recording import Recording

FORMAT = 2
STAGES = ("demux", "decode", "convert", "preview", "recognize")
_BLOCK_SIZE = 64


@dataclass(frozen=True, slots=True, eq=False)
class VideoFeatures:
    """A file, item by item; rows of `ordinals` are those that could be decoded."""

    path: str
    size: tuple[int, int]
    """Width and height in pixels, as displayed."""
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

    def recording(self) -> Recording:
        """The file as a stream whose items hold embeddings, without decoding it again."""
        n = len(self.block)
        rows = dict(zip(self.ordinals.tolist(), range(len(self.ordinals)), strict=True))
        return Recording(
            self.path,
            self.block.stream,
            [self.block.slice(k, min(k + _BLOCK_SIZE, n)) for k in range(0, n, _BLOCK_SIZE)],
            {ordinal: self.outcome(row) for ordinal, row in rows.items()},
            {"luma": {ordinal: self.luma[row] for ordinal, row in rows.items()}},
            self.size,
            data={ordinal: self.embeddings[row] for ordinal, row in rows.items()},
            undecodable=frozenset(range(n)) - rows.keys(),
        )


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
            size=features.size,
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
                (int(found["size"][0]), int(found["size"][1])),
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
