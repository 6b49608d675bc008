"""Tiny transformers models with random weights, saved to a folder: they say nothing sensible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

SIDE = 32
LABELS = dict(enumerate(["ant", "bee", "cat", "dog", "elk", "fox", "gnu"]))
_SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": SIDE,
    "patch_size": 8,
}
_CLASSES: dict[str, Any] = {"id2label": LABELS, "label2id": {v: k for k, v in LABELS.items()}}


def _save(folder: Path, model: Any, processor: str, **options: Any) -> Path:
    with torch.no_grad():
        for parameter in model.parameters():
            # The initial weights of most models are so small that every answer would be the same.
            parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    model.save_pretrained(folder)
    options.setdefault("size", {"height": SIDE, "width": SIDE})
    getattr(transformers, processor)(**options).save_pretrained(folder)
    return folder


def vit(folder: Path) -> Path:
    """A random-weight ViT image classifier over `LABELS`."""
    config = transformers.ViTConfig(**_SMALL, **_CLASSES)
    return _save(folder, transformers.ViTForImageClassification(config), "ViTImageProcessorPil")


def resnet(folder: Path) -> Path:
    """A random-weight ResNet image classifier over `LABELS`."""
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **_CLASSES
    )
    model = transformers.ResNetForImageClassification(config)
    return _save(folder, model, "ViTImageProcessorPil")


def videomae(folder: Path) -> Path:
    """A random-weight VideoMAE video classifier over `LABELS`, 4 frames a clip."""
    config = transformers.VideoMAEConfig(**_SMALL, num_frames=4, **_CLASSES)
    return _save(
        folder,
        transformers.VideoMAEForVideoClassification(config),
        "VideoMAEImageProcessorPil",
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
    )


def timesformer(folder: Path) -> Path:
    """A random-weight TimeSformer video classifier over `LABELS`, 3 frames a clip."""
    config = transformers.TimesformerConfig(**_SMALL, num_frames=3, **_CLASSES)
    return _save(
        folder,
        transformers.TimesformerForVideoClassification(config),
        "VideoMAEImageProcessorPil",
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
    )


def detr(folder: Path) -> Path:
    """A random-weight DETR detector over `LABELS`, 6 boxes a picture at most."""
    config = transformers.DetrConfig(
        backbone_config=transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], out_features=["stage2"]
        ),
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        d_model=16,
        num_queries=6,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        **_CLASSES,
    )
    return _save(
        folder,
        transformers.DetrForObjectDetection(config),
        "DetrImageProcessorPil",
        size={"shortest_edge": SIDE, "longest_edge": 2 * SIDE},
    )


def yolos(folder: Path) -> Path:
    """A random-weight YOLOS detector over `LABELS`, 5 boxes a picture at most."""
    config = transformers.YolosConfig(
        **{**_SMALL, "image_size": [SIDE, SIDE]}, num_detection_tokens=5, **_CLASSES
    )
    model = transformers.YolosForObjectDetection(config)
    return _save(folder, model, "YolosImageProcessorPil")


def clip(folder: Path) -> Path:
    """A random-weight CLIP with a tokenizer of a few words."""
    _save_tokenizer(folder)
    text = {"vocab_size": len(_WORDS), "max_position_embeddings": 8, "eos_token_id": 1}
    config = transformers.CLIPConfig(
        text_config={**_TOWER, **text, "bos_token_id": 2, "pad_token_id": 0},
        vision_config={**_TOWER, "image_size": SIDE, "patch_size": 8},
        projection_dim=12,
    )
    return _save(
        folder,
        transformers.CLIPModel(config),
        "CLIPImageProcessorPil",
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
    )


def siglip(folder: Path) -> Path:
    """A random-weight SigLIP with the same tokenizer."""
    _save_tokenizer(folder)
    config = transformers.SiglipConfig(
        text_config={
            **_TOWER,
            "vocab_size": len(_WORDS),
            "max_position_embeddings": 8,
            "projection_size": 16,
        },
        vision_config={**_TOWER, "image_size": SIDE, "patch_size": 8},
    )
    return _save(folder, transformers.SiglipModel(config), "SiglipImageProcessorPil")


_TOWER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
_WORDS = ["[pad]", "[end]", "[unknown]", "a", "photo", "of", "ant", "bee", "cat"]


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(_WORDS)}, unk_token="[unknown]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [end]", special_tokens=[("[end]", 1)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[pad]", eos_token="[end]", unk_token="[unknown]"
    ).save_pretrained(folder)


TINY_MODELS: dict[str, Callable[[Path], Path]] = {
    "vit": vit,
    "resnet": resnet,
    "videomae": videomae,
    "timesformer": timesformer,
    "detr": detr,
    "yolos": yolos,
    "clip": clip,
    "siglip": siglip,
}
