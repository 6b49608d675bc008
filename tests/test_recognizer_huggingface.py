"""Transformers models with tiny random weights: what is asserted is how they are driven."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_models import LABELS, TINY_MODELS

from streamdyn import build
from streamdyn.clock import Pts
from streamdyn.errors import ConfigError, RecognizerError
from streamdyn.items import FrameSpec, Item
from streamdyn.outcome import Box, Outcome
from streamdyn.recognizers.huggingface import HuggingFace
from streamdyn.testing.recognizers import check_recognizer, pictures, select

WORDS = ("ant", "bee", "cat")
OPTIONS: dict[str, dict[str, Any]] = {
    "clip": {"labels": WORDS},
    "siglip": {"labels": WORDS},
    "detr": {"min_score": 0.2},
    "yolos": {"min_score": 0.2},
}
ModelPath = Callable[[str], Path]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> ModelPath:
    folder = tmp_path_factory.mktemp("models")

    @cache
    def make(name: str) -> Path:
        return TINY_MODELS[name](folder / name)

    return make


def loaded(path: Path, **options: Any) -> HuggingFace:
    recognizer: HuggingFace = build("recognizer", "huggingface", model=str(path), **options)
    recognizer.setup("cpu")
    return recognizer


def pixels(path: Path, items: list[Item]) -> torch.Tensor:
    """What the model's own processor makes of the pictures, all at once."""
    processor: Any = transformers.AutoImageProcessor
    batch = [item.data for item in items]
    made = processor.from_pretrained(path, backend="pil")(batch, return_tensors="pt")
    return made["pixel_values"]


@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_kind_of_model_keeps_the_contract(model_path: ModelPath, name: str) -> None:
    options = OPTIONS.get(name, {})
    check_recognizer(build("recognizer", "huggingface", model=str(model_path(name)), **options))


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_an_image_classifier_gives_the_models_own_scores(model_path: ModelPath, name: str) -> None:
    path, items = model_path(name), pictures(FrameSpec(50, 40), 3)
    outcomes, _ = loaded(path, top_k=7).recognize(select(items), {})
    model = transformers.AutoModelForImageClassification.from_pretrained(path).eval()
    with torch.inference_mode():
        expected = model(pixel_values=pixels(path, items)).logits.softmax(1)
    for outcome, row in zip(outcomes, expected.tolist(), strict=True):
        scores = dict(zip(outcome.labels, outcome.scores, strict=True))
        assert scores == pytest.approx({LABELS[i]: score for i, score in enumerate(row)}, abs=1e-5)


@pytest.mark.parametrize("name", ["videomae", "timesformer"])
def test_a_video_classifier_sees_the_latest_frames(model_path: ModelPath, name: str) -> None:
    path, items = model_path(name), pictures(FrameSpec(32, 32), 6)
    outcomes, hidden = loaded(path).recognize(select(items), {})
    model = transformers.AutoModelForVideoClassification.from_pretrained(path).eval()
    num_frames = model.config.num_frames
    assert len(hidden["check"]) == num_frames - 1
    for last in (0, 1, 5):
        clip = [items[max(0, i)] for i in range(last - num_frames + 1, last + 1)]
        with torch.inference_mode():
            clip_pixels = pixels(path, clip).reshape(1, num_frames, 3, 32, 32)
            expected = model(pixel_values=clip_pixels).logits.softmax(1)
        assert outcomes[last].score == pytest.approx(float(expected.max()), abs=1e-5)


def test_clips_do_not_mix_streams(model_path: ModelPath) -> None:
    recognizer = loaded(model_path("videomae"))
    left = pictures(FrameSpec(32, 32), 4, stream="left")
    right = pictures(FrameSpec(32, 32), 4, stream="right", first=10)
    mixed = [item for pair in zip(left, right, strict=True) for item in pair]
    together, _ = recognizer.recognize(select(mixed), {})
    alone = [o for items in (left, right) for o in recognizer.recognize(select(items), {})[0]]
    assert sorted((o.stream, o.ordinal, o.scores) for o in together) == sorted(
        (o.stream, o.ordinal, pytest.approx(o.scores, abs=1e-5)) for o in alone
    )


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_a_dual_encoder_gives_the_models_own_scores(model_path: ModelPath, name: str) -> None:
    path, items = model_path(name), pictures(FrameSpec(32, 32), 3)
    outcomes, _ = loaded(path, labels=WORDS).recognize(select(items), {})
    model = transformers.AutoModel.from_pretrained(path).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(path)(
        [f"a photo of {word}" for word in WORDS],
        padding="max_length",
        max_length=8,
        return_tensors="pt",
    )
    with torch.inference_mode():
        found = model(**tokens, pixel_values=pixels(path, items))
    logits = found.logits_per_image
    expected = logits.softmax(1) if name == "clip" else logits.sigmoid()
    for outcome, row, embedding in zip(outcomes, expected, found.image_embeds, strict=True):
        scores = dict(zip(outcome.labels, outcome.scores, strict=True))
        assert scores == pytest.approx(dict(zip(WORDS, row.tolist(), strict=True)), abs=1e-5)
        unit = embedding / embedding.norm()
        np.testing.assert_allclose(outcome.embedding, unit.numpy(), atol=1e-3)


def test_a_dual_encoder_without_words_only_embeds(model_path: ModelPath) -> None:
    outcomes, _ = loaded(model_path("clip")).recognize(select(pictures(FrameSpec(32, 32), 1)), {})
    assert outcomes[0].labels == ()
    assert outcomes[0].embedding is not None


@pytest.mark.parametrize("name", ["detr", "yolos"])
def test_a_detector_gives_the_models_own_boxes(model_path: ModelPath, name: str) -> None:
    path, (item,) = model_path(name), pictures(FrameSpec(64, 48), 1)
    recognizer = loaded(path, min_score=0.2)
    (outcome,) = recognizer.recognize(select([item]), {})[0]
    model = transformers.AutoModelForObjectDetection.from_pretrained(path).eval()
    processor: Any = transformers.AutoImageProcessor
    processor = processor.from_pretrained(path, backend="pil")
    with torch.inference_mode():
        found = model(pixel_values=pixels(path, [item]))
    (expected,) = processor.post_process_object_detection(found, 0.2, target_sizes=[(48, 64)])
    assert len(outcome.boxes) == len(expected["scores"]) > 0
    best = int(expected["scores"].argmax())
    left, top, right, bottom = expected["boxes"][best].tolist()
    box = outcome.boxes[0]
    got = (box.left, box.top, box.right, box.bottom)
    inside = np.clip((left / 64, top / 48, right / 64, bottom / 48), 0, 1)
    assert got == pytest.approx(tuple(inside), abs=1e-5)
    assert box.label == outcome.label == LABELS[int(expected["labels"][best])]
    assert outcome.score == pytest.approx(float(expected["scores"][best]), abs=1e-5)


def test_pictures_come_as_coded_unless_a_resolution_is_given(model_path: ModelPath) -> None:
    path = str(model_path("vit"))
    assert build("recognizer", "huggingface", model=path).input == FrameSpec(None, None)
    small = build("recognizer", "huggingface", model=path, resolution=32)
    assert small.input == FrameSpec(32, 32)


def test_the_version_follows_the_files_and_the_options(tmp_path: Path) -> None:
    path = TINY_MODELS["vit"](tmp_path / "vit")

    def version(**options: Any) -> str:
        return str(build("recognizer", "huggingface", model=str(path), **options).version)

    first = version()
    assert version() == first
    assert version(batch_size=3, agree_within=5) == first
    assert version(top_k=2) != first
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "id2label": {"0": "other"}}))
    assert version() != first


def test_an_explicit_task_overrides_the_config(model_path: ModelPath, tmp_path: Path) -> None:
    path = TINY_MODELS["vit"](tmp_path / "vit")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "architectures": ["ViTModel"]}))
    with pytest.raises(RecognizerError, match=r"names \['ViTModel'\]; pass task= one of image-cl"):
        loaded(path)
    outcomes, _ = loaded(path, task="image-classification").recognize(
        select(pictures(FrameSpec(32, 32), 1)), {}
    )
    assert len(outcomes[0].labels) == 5


def test_a_hub_model_that_is_not_here_says_what_to_do() -> None:
    recognizer = build("recognizer", "huggingface", model="no-such/model-of-ours", fetch=False)
    assert recognizer.version.startswith("not-fetched-")
    with pytest.raises(RecognizerError, match="run `hf download no-such/model-of-ours`"):
        recognizer.setup("cpu")


def test_an_incomplete_folder_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RecognizerError, match="give the folder of a complete model"):
        loaded(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_refused(model_path: ModelPath) -> None:
    with pytest.raises(RecognizerError, match="sees 0 CUDA devices here; use device='cpu'"):
        build("recognizer", "huggingface", model=str(model_path("vit"))).setup("cuda")


@pytest.mark.parametrize(
    "options",
    [
        {"task": "translation"},
        {"labels": "ant,bee"},
        {"prompt": "a photo"},
        {"top_k": 0},
        {"model": "/no/such/folder"},
        {"resolution": 0},
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        build("recognizer", "huggingface", **{"model": "a/b", **options})


def _outcome(*labels: str, boxes: tuple[str, ...] = (), embedding: Any = None) -> Outcome:
    return Outcome(
        "s",
        0,
        Pts(0, Fraction(1)),
        "huggingface-x/1",
        labels,
        tuple(1 / (i + 1) for i in range(len(labels))),
        None if embedding is None else np.asarray(embedding, np.float16),
        boxes=tuple(Box(label, 1.0, 0, 0, 1, 1) for label in boxes),
    )


@pytest.mark.parametrize(
    ("propagated", "looked_up", "expected"),
    [
        (_outcome("ant", "bee"), _outcome("ant", "cat"), 1.0),
        (_outcome("ant"), _outcome("cat", "ant"), 1.0),
        (_outcome("ant"), _outcome("cat", "bee", "ant"), 0.0),
        (_outcome(), _outcome(), 1.0),
        (_outcome(), _outcome("ant"), 0.0),
        (_outcome("ant", boxes=("ant", "ant")), _outcome("ant", boxes=("ant",)), 2 / 3),
        (_outcome("ant", boxes=("ant",)), _outcome(), 0.0),
        (_outcome(embedding=[1, 0]), _outcome(embedding=[0, 1]), 0.0),
        (_outcome(embedding=[0.6, 0.8]), _outcome(embedding=[0.6, 0.8]), 1.0),
    ],
)
def test_agreement(propagated: Outcome, looked_up: Outcome, expected: float) -> None:
    recognizer = build("recognizer", "huggingface", model="a/b", agree_within=2)
    assert recognizer.agree(propagated, looked_up) == pytest.approx(expected)
