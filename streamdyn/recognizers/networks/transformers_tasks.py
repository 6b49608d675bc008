"""One class a task: how pictures are prepared for a transformers model and its answer is read.

Pictures are prepared one by one, so that an answer does not depend on its neighbours in the batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.nn import functional
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES as DUAL_ENCODERS,
)

from streamdyn.errors import RecognizerError
from streamdyn.items import Array
from streamdyn.outcome import Box
from streamdyn.recognizers.networks.device import torch_device

Answer = dict[str, Any]
"""Fields of an `Outcome`."""


class Options(Protocol):
    """What a network needs to know of its recognizer."""

    name: str
    model: str
    task: Any
    labels: tuple[str, ...]
    prompt: str
    top_k: int
    min_score: float
    revision: str | None
    fetch: bool


class Network:
    """A loaded model with its image processor; subclasses read its answers."""

    auto: Any
    num_frames = 0
    """Frames of a clip; 0 where pictures are recognized one by one."""

    def __init__(self, options: Options, where: dict[str, Any], device: torch.device) -> None:
        self.options, self.device = options, device
        # torchvision is no dependency, hence Pillow.
        processors: Any = transformers.AutoImageProcessor
        self.processor = processors.from_pretrained(**where, backend="pil")
        # Half precision weights would make the CPU slow and the answer depend on the device.
        model = self.auto.from_pretrained(**where, dtype=torch.float32)
        self.model = model.to(device).eval()

    def prepare(self, picture: Array) -> Array:
        """From `(H, W, 3)` uint8 to `(3, h, w)` float32 as the model wants it."""
        prepared = self.processor(picture, return_tensors="np", input_data_format="channels_last")
        pixels = np.asarray(prepared["pixel_values"], np.float32)
        return pixels.reshape(pixels.shape[-3:])

    @torch.inference_mode()
    def answer(self, inputs: Array) -> list[Answer]:
        """From `(B, 3, h, w)` pictures or `(B, T, 3, h, w)` clips to one answer each."""
        return self.read(torch.from_numpy(inputs).to(self.device))

    def read(self, batch: Tensor) -> list[Answer]:
        """From a batch on the device to one answer an input."""
        raise NotImplementedError

    def forward(self, batch: Tensor) -> Any:
        """The model's outputs."""
        return self.model(**{self.model.main_input_name: batch})

    def label(self, index: int) -> str:
        """Name of a class."""
        return str(self.model.config.id2label[index])

    def best(self, scores: Tensor, names: Any) -> list[Answer]:
        """The top labels of `(B, classes)` scores; `names` goes from class to label."""
        k = min(self.options.top_k, scores.shape[1])
        values, classes = (t.tolist() for t in scores.topk(k, dim=1))
        return [
            {"labels": tuple(names(c) for c in row), "scores": tuple(row_values)}
            for row, row_values in zip(classes, values, strict=True)
        ]


class ImageClassifier(Network):
    """Labels for pictures."""

    auto: Any = transformers.AutoModelForImageClassification

    def read(self, batch: Tensor) -> list[Answer]:
        """Softmax over the classes."""
        return self.best(self.forward(batch).logits.softmax(1), self.label)


class VideoClassifier(ImageClassifier):
    """Labels for clips."""

    auto: Any = transformers.AutoModelForVideoClassification

    def __init__(self, options: Options, where: dict[str, Any], device: torch.device) -> None:
        super().__init__(options, where, device)
        config = self.model.config
        self.num_frames = getattr(config, "num_frames", 0) or config.frames_per_clip


class DualEncoder(Network):
    """Embeddings, and scores for given words (CLIP: they add up to 1, SigLIP: each alone)."""

    auto: Any = transformers.AutoModel

    def __init__(self, options: Options, where: dict[str, Any], device: torch.device) -> None:
        super().__init__(options, where, device)
        self.words = self._encode_words(where) if options.labels else None

    @torch.inference_mode()
    def _encode_words(self, where: dict[str, Any]) -> Tensor:
        tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
        tokens = tokenizer(
            [self.options.prompt.replace("{}", label) for label in self.options.labels],
            padding="max_length",
            max_length=self.model.config.text_config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        features = self.model.get_text_features(**tokens).pooler_output
        return functional.normalize(features, dim=1)

    def read(self, batch: Tensor) -> list[Answer]:
        """Unit vectors, compared with those of the words."""
        features = self.model.get_image_features(pixel_values=batch).pooler_output
        features = functional.normalize(features, dim=1)
        embeddings = [{"embedding": row} for row in features.cpu().numpy().astype(np.float16)]
        if self.words is None:
            return embeddings
        logits = self.model.logit_scale.exp() * features @ self.words.T
        bias = getattr(self.model, "logit_bias", None)
        scores = logits.softmax(1) if bias is None else (logits + bias).sigmoid()
        labelled = self.best(scores, self.options.labels.__getitem__)
        return [{**a, **b} for a, b in zip(embeddings, labelled, strict=True)]


class Detector(Network):
    """Boxes."""

    auto: Any = transformers.AutoModelForObjectDetection

    def read(self, batch: Tensor) -> list[Answer]:
        """Boxes above the least score, best first."""
        found = self.processor.post_process_object_detection(
            self.forward(batch), self.options.min_score, target_sizes=[(1, 1)] * len(batch)
        )
        return [self._boxes(one) for one in found]

    def _boxes(self, found: dict[str, Tensor]) -> Answer:
        order = found["scores"].argsort(descending=True, stable=True)
        scores, classes = found["scores"][order].tolist(), found["labels"][order].tolist()
        sides = found["boxes"][order].clamp(0, 1).tolist()
        boxes = tuple(
            Box(self.label(c), score, *place)
            for c, score, place in zip(classes, scores, sides, strict=True)
        )
        best: dict[str, float] = {}
        for box in boxes:
            best.setdefault(box.label, box.score)
        top = list(best.items())[: self.options.top_k]
        return {
            "labels": tuple(label for label, _ in top),
            "scores": tuple(score for _, score in top),
            "boxes": boxes,
        }


TASKS: dict[str, type[Network]] = {
    "image-classification": ImageClassifier,
    "video-classification": VideoClassifier,
    "zero-shot-image-classification": DualEncoder,
    "object-detection": Detector,
}


def load(options: Options, device: str) -> Network:
    """The network for the recognizer's model and task.

    Raises:
        RecognizerError: There is no such device, the model cannot be found or loaded, or none of
            the tasks fits it.
    """
    target = torch_device(device, options.name)
    folder = Path(options.model).expanduser()
    where: dict[str, Any] = {
        "pretrained_model_name_or_path": str(folder) if folder.is_dir() else options.model,
        "revision": options.revision,
        "local_files_only": not options.fetch,
    }
    try:
        config = transformers.AutoConfig.from_pretrained(**where)
        task = options.task or _task(config)
        if task:
            return TASKS[task](options, where, target)
    except Exception as exc:
        reason = str(exc).partition("\n")[0]
        raise RecognizerError(
            f"recognizer {options.name!r} cannot load model {options.model!r}: "
            f"{type(exc).__name__}: {reason}; give the folder of a complete model, or run "
            f"`hf download {options.model}` where there is a network"
        ) from exc
    raise RecognizerError(
        f"recognizer {options.name!r} does not know what model {options.model!r} is for: its "
        f"config names {config.architectures}; pass task= one of {', '.join(TASKS)}"
    )


def _task(config: Any) -> str | None:
    architecture = (config.architectures or [""])[0]
    heads = {
        "ForImageClassification": "image-classification",
        "ForVideoClassification": "video-classification",
        "ForObjectDetection": "object-detection",
    }
    for head, task in heads.items():
        if head in architecture:
            return task
    return "zero-shot-image-classification" if config.model_type in DUAL_ENCODERS else None
