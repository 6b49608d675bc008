"""Any image or video classifier, dual encoder or detector that transformers can load."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from streamdyn.errors import ConfigError, RecognizerError
from streamdyn.items import Array, FrameSpec, Item, Selection
from streamdyn.outcome import Outcome
from streamdyn.recognizers.stateless import batches, check_pictures
from streamdyn.registry import recognizer

Task = Literal[
    "image-classification",
    "video-classification",
    "zero-shot-image-classification",
    "object-detection",
]
Hidden = dict[str, tuple[Array, ...]]
"""Stream → its latest prepared pictures, `(3, H, W)` float32, for video classifiers."""

NOT_FETCHED = "not-fetched"
"""Stands for the commit of a hub model that is not on this machine yet."""
_MODEL_FILES = {".bin", ".json", ".model", ".safetensors", ".txt"}


@recognizer("huggingface")
class HuggingFace:
    """A transformers model, by folder or hub id.

    What it does depends on the task, which is read from the model's config:

    - image-classification: labels and scores.
    - video-classification: the same for a clip, one outcome a selected item. The clip consists
      of the latest T items selected from the item's stream, itself included, T being the model's
      number of frames; at the start of a stream the first one is repeated. The hidden state
      keeps them, so that clips reach across selections.
    - zero-shot-image-classification (CLIP, SigLIP): an embedding from the image tower, and
      scores for `labels` if there are any.
    - object-detection: boxes; the labels are those of the boxes, each once, best first.

    The version consists of the model's commit or, for a folder, of a hash of its files, and of a
    hash of the options that change outcomes.

    Args:
        model: Folder, or hub id such as `openai/clip-vit-base-patch32`.
        task: One of the above; `None`: as the model's config says.
        labels: Words for a dual encoder to choose between.
        prompt: Sentence for each of them, with `{}` for the word.
        batch_size: Pictures or clips at once at most.
        top_k: Labels in an outcome at most.
        agree_within: Labels of the looked up outcome among which the propagated one counts as
            right; 1 is strict, 5 is common with the 1000 ImageNet classes.
        min_score: Boxes with less confidence are left out.
        resolution: Side in pixels to which the source squashes pictures; `None`: pictures come as
            coded and are scaled as the model's authors do, which is slower and more exact.
        revision: Branch, tag or commit of a hub model.
        fetch: Whether setup() may download a hub model.
    """

    def __init__(
        self,
        *,
        model: str,
        task: Task | None = None,
        labels: Sequence[str] = (),
        prompt: str = "a photo of {}",
        batch_size: int = 8,
        top_k: int = 5,
        agree_within: int = 1,
        min_score: float = 0.5,
        resolution: int | None = None,
        revision: str | None = None,
        fetch: bool = True,
    ) -> None:
        if task is not None and task not in get_args(Task):
            raise ConfigError(f"task of huggingface must be one of {get_args(Task)}, got {task!r}")
        if isinstance(labels, str):
            raise ConfigError(f"labels of huggingface must be a list of words, got {labels!r}")
        if "{}" not in prompt:
            raise ConfigError(f"prompt of huggingface must contain {{}}, got {prompt!r}")
        counts = {"batch_size": batch_size, "top_k": top_k, "agree_within": agree_within}
        for option, value in counts.items():
            if value < 1:
                raise ConfigError(f"{option} of huggingface must be at least 1, got {value}")
        self.model, self.task, self.labels, self.prompt = model, task, tuple(labels), prompt
        self.top_k, self.agree_within, self.min_score = top_k, agree_within, min_score
        self.commit = _local_commit(model, revision)
        # A hub model that is here stays at its commit, whatever the hub does meanwhile.
        is_pinned = self.commit != NOT_FETCHED and not Path(model).expanduser().is_dir()
        self.revision, self.fetch = self.commit if is_pinned else revision, fetch
        self.batch_size = batch_size
        self.input = FrameSpec(resolution, resolution)
        self.name = f"huggingface-{Path(model).name}"
        self.version = self._version()
        self._loaded: tuple[str, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}

    def setup(self, device: str) -> None:
        """Load the model, downloading it first if it is on the hub only and `fetch` allows it.

        Args:
            device: `cpu`, `cuda` or `cuda:N`.

        Raises:
            RecognizerError: There is no such device, or the model cannot be loaded.
        """
        if self._loaded and self._loaded[0] == device:
            return
        if self.commit == NOT_FETCHED and not self.fetch:
            raise RecognizerError(
                f"recognizer {self.name!r} cannot load model {self.model!r}: it is not on this "
                f"machine and fetch is off; run `hf download {self.model}` or give its folder"
            )
        from streamdyn.recognizers.networks.transformers_tasks import load

        self._loaded = device, load(self, device)
        self.commit = _local_commit(self.model, self.revision)
        self.version = self._version()

    def initial_hidden(self) -> Hidden:
        """No pictures yet; stays empty unless the model classifies video."""
        return {}

    def recognize(self, selection: Selection, hidden: Hidden) -> tuple[list[Outcome], Hidden]:
        """One outcome an item, in order."""
        if self._loaded is None:
            raise RecognizerError(
                f"recognizer {self.name!r} cannot recognize {selection!r}: it is not loaded; call "
                "setup(device) first"
            )
        check_pictures(selection, self.name)
        network = self._loaded[1]
        inputs = [network.prepare(item.data) for item in selection.items]
        if network.num_frames:
            inputs, hidden = _clips(selection.items, inputs, hidden, network.num_frames)
        outcomes: dict[int, Outcome] = {}
        for indices in batches([array.shape for array in inputs], self.batch_size):
            answers = network.answer(np.stack([inputs[i] for i in indices]))
            for i, answer in zip(indices, answers, strict=True):
                item = selection.items[i]
                signed = f"{self.name}/{self.version}"
                outcomes[i] = Outcome(item.stream, item.ordinal, item.pts, signed, **answer)
        return [outcomes[i] for i in range(len(selection))], hidden

    def agree(self, propagated: Outcome, looked_up: Outcome) -> float:
        """For boxes the share of them that find a partner of their label, else top-1 within top-k.

        Boxes are compared by label and number, not by place: 2 * common / all. Nothing found
        twice agrees; embeddings without labels agree as far as they point the same way.
        """
        if propagated.boxes or looked_up.boxes:
            ours, theirs = (Counter(b.label for b in o.boxes) for o in (propagated, looked_up))
            return 2 * (ours & theirs).total() / (ours.total() + theirs.total())
        if propagated.labels or looked_up.labels:
            return float(propagated.label in looked_up.labels[: self.agree_within])
        if propagated.embedding is None or looked_up.embedding is None:
            return 1.0
        left, right = propagated.embedding.astype(np.float32), looked_up.embedding
        cosine = left @ right / np.linalg.norm(left) / np.linalg.norm(right.astype(np.float32))
        return float(np.clip(cosine, 0, 1).round(4))

    def _version(self) -> str:
        options = (
            self.task,
            self.labels,
            self.prompt,
            self.top_k,
            self.min_score,
            self.input.width,
        )
        return f"{self.commit[:12]}-{hashlib.sha256(repr(options).encode()).hexdigest()[:6]}"


def _clips(
    items: Sequence[Item], inputs: Sequence[Array], hidden: Hidden, num_frames: int
) -> tuple[list[Array], Hidden]:
    """A `(T, 3, H, W)` clip for each item, and what later clips need."""
    latest = dict(hidden)
    clips = []
    for item, picture in zip(items, inputs, strict=True):
        before = latest.get(item.stream, ())
        frames = (*before, picture)[-num_frames:]
        latest[item.stream] = frames[-(num_frames - 1) :] if num_frames > 1 else ()
        clips.append(np.stack([frames[0]] * (num_frames - len(frames)) + list(frames)))
    return clips, latest


def _local_commit(model: str, revision: str | None) -> str:
    """Hash of a folder's files, the commit of a hub model on this machine, or `NOT_FETCHED`."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        digest = hashlib.sha256()
        for path in sorted(folder.iterdir()):
            if path.suffix in _MODEL_FILES:
                digest.update(path.name.encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model):
        raise ConfigError(
            f"model of huggingface must be a folder or a hub id such as 'org/name', got {model!r}, "
            "and there is no such folder; check the path"
        )
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(model, "config.json", revision=revision)
    # .../snapshots/<commit>/config.json
    return Path(config).parent.name if isinstance(config, str) else NOT_FETCHED
