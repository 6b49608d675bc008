"""EfficientNet-Lite0 as the 49 convolutions it is, batch norms folded, in plain torch.

Tan and Le, EfficientNet (arXiv 1905.11946); the Lite variants leave out squeeze and excitation and
clip at 6. The padding is TensorFlow's, as in training: at stride 2 one side gets a pixel more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

Float = npt.NDArray[np.float32]
Weights = Mapping[str, npt.NDArray[Any]]

STAGES = (
    # kernel, stride, expansion, channels, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
BATCH_NORM_EPSILON = 1e-3
MEAN, SCALE = 127.0, 128.0
"""Input scaling: (x - 127) / 128 of uint8 levels."""


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """One convolution with its batch norm folded in, and what follows it."""

    weight: Float
    """`(out, in / groups, k, k)` float32."""
    bias: Float
    """`(out,)` float32."""
    stride: int = 1
    groups: int = 1
    clipped: bool = True
    """Followed by a clip to [0, 6]."""
    opens: bool = False
    """Its input is kept for a shortcut."""
    closes: bool = False
    """The kept input is added to its output."""

    @property
    def padding(self) -> tuple[int, int]:
        """Pixels before and after, in both directions, for an even side at stride 2."""
        total = self.weight.shape[-1] - self.stride
        return total // 2, total - total // 2


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """The network's weights in the order of use."""

    convs: tuple[Conv, ...]
    classifier_weight: Float
    """`(1000, 1280)` float32."""
    classifier_bias: Float
    """`(1000,)` float32."""


def read_weights(path: Path) -> Weights:
    """Name → array of a torch checkpoint."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.items()}


def fold(weights: Weights) -> Layers:
    """The layers of the checkpoint, each batch norm folded into the convolution before it."""
    convs = [_folded(weights, "_conv_stem", "_bn0", stride=2)]
    channels, index = 32, 0
    for kernel, first_stride, expansion, out_channels, blocks in STAGES:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            shortcut = stride == 1 and channels == out_channels
            convs += _block(weights, f"_blocks.{index}.", kernel, stride, expansion, shortcut)
            channels, index = out_channels, index + 1
    convs.append(_folded(weights, "_conv_head", "_bn1"))
    return Layers(tuple(convs), weights["_fc.weight"], weights["_fc.bias"])


def _block(
    weights: Weights, prefix: str, kernel: int, stride: int, expansion: int, shortcut: bool
) -> list[Conv]:
    convs = []
    if expansion > 1:
        convs.append(_folded(weights, f"{prefix}_expand_conv", f"{prefix}_bn0", opens=shortcut))
    depthwise = weights[f"{prefix}_depthwise_conv.weight"]
    if depthwise.shape[-1] != kernel:
        raise ValueError(f"{prefix}: kernel {kernel} expected, got {depthwise.shape = }")
    groups = len(depthwise)
    convs.append(
        _folded(weights, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=stride, groups=groups)
    )
    convs.append(
        _folded(weights, f"{prefix}_project_conv", f"{prefix}_bn2", clipped=False, closes=shortcut)
    )
    return convs


def _folded(weights: Weights, conv: str, norm: str, **options: Any) -> Conv:
    variance = weights[f"{norm}.running_var"].astype(np.float64)
    gain = weights[f"{norm}.weight"] / np.sqrt(variance + BATCH_NORM_EPSILON)
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain
    weight = weights[f"{conv}.weight"] * gain[:, None, None, None]
    return Conv(weight.astype(np.float32), bias.astype(np.float32), **options)


class Lite0Network(nn.Module):
    """The network in torch; sides of the picture must be multiples of 32."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        # Without the arrays, which torch.compile cannot look after.
        self._wiring = [(c.opens, c.padding, c.closes, c.clipped) for c in layers.convs]
        self.convs = nn.ModuleList(_module(conv) for conv in layers.convs)
        self.classifier = nn.Linear(layers.classifier_weight.shape[1], len(layers.classifier_bias))
        with torch.no_grad():
            self.classifier.weight.copy_(torch.from_numpy(layers.classifier_weight))
            self.classifier.bias.copy_(torch.from_numpy(layers.classifier_bias))
        self.eval()

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Recognize a batch.

        Args:
            pictures: `(B, H, W, 3)` uint8 RGB.

        Returns:
            `(B, 1000)` float32 probabilities and `(B, 1280)` float32 unit vectors.
        """
        # NHWC memory seen as NCHW is channels-last already.
        x = (pictures.permute(0, 3, 1, 2).float() - MEAN) / SCALE
        shortcut = x
        for conv, (opens, (before, after), closes, clipped) in zip(
            self.convs, self._wiring, strict=True
        ):
            shortcut = x if opens else shortcut
            x = conv(functional.pad(x, (before, after, before, after)))
            x = x + shortcut if closes else x
            x = x.clamp(0, 6) if clipped else x
        features = x.mean((2, 3))
        probabilities = self.classifier(features).softmax(1)
        return probabilities, functional.normalize(features, dim=1)


def _module(conv: Conv) -> nn.Conv2d:
    channels, per_group, kernel, _ = conv.weight.shape
    module = nn.Conv2d(
        per_group * conv.groups, channels, kernel, stride=conv.stride, groups=conv.groups
    )
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(conv.weight))
        assert module.bias is not None
        module.bias.copy_(torch.from_numpy(conv.bias))
    return module
