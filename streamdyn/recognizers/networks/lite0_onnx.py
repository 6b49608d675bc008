"""EfficientNet-Lite0 as an ONNX graph.

It is written node by node from the same folded layers that torch runs: torch's tracing
exporter is deprecated, and its successor needs two more packages.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from streamdyn.recognizers.networks.lite0 import MEAN, SCALE, Conv, Layers


def graph(layers: Layers) -> onnx.ModelProto:
    """The network as a model with a free batch size and free sides.

    Its input is `pictures`, `(B, H, W, 3)` uint8; its outputs are `probabilities`, `(B, 1000)`,
    and `embeddings`, `(B, 1280)`, both float32.
    """
    writer = _Writer()
    x = writer.node("Cast", "pictures", to=TensorProto.FLOAT)
    x = writer.node("Sub", x, writer.constant(np.float32(MEAN)))
    x = writer.node("Div", x, writer.constant(np.float32(SCALE)))
    x = writer.node("Transpose", x, perm=[0, 3, 1, 2])
    shortcut = x
    for conv in layers.convs:
        shortcut = x if conv.opens else shortcut
        x = writer.conv(x, conv)
        x = writer.node("Add", x, shortcut) if conv.closes else x
        x = writer.clip(x) if conv.clipped else x
    features = writer.node("Flatten", writer.node("GlobalAveragePool", x))
    logits = writer.node(
        "Gemm",
        features,
        writer.constant(layers.classifier_weight),
        writer.constant(layers.classifier_bias),
        transB=1,
    )
    writer.node("Softmax", logits, to_name="probabilities", axis=1)
    writer.node("LpNormalization", features, to_name="embeddings", axis=1, p=2)
    return writer.model()


class _Writer:
    """Collects nodes and weights; every value gets a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.zero, self.six = self.constant(np.float32(0)), self.constant(np.float32(6))

    def constant(self, value: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, *inputs: str, to_name: str | None = None, **attributes: Any) -> str:
        name = to_name or f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x: str, conv: Conv) -> str:
        before, after = conv.padding
        return self.node(
            "Conv",
            x,
            self.constant(conv.weight),
            self.constant(conv.bias),
            strides=[conv.stride] * 2,
            group=conv.groups,
            pads=[before, before, after, after],
        )

    def clip(self, x: str) -> str:
        return self.node("Clip", x, self.zero, self.six)

    def model(self) -> onnx.ModelProto:
        def value(name: str, kind: int, shape: list[str | int]) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, kind, shape)

        body = helper.make_graph(
            self.nodes,
            "efficientnet-lite0",
            [value("pictures", TensorProto.UINT8, ["batch", "height", "width", 3])],
            [
                value("probabilities", TensorProto.FLOAT, ["batch", 1000]),
                value("embeddings", TensorProto.FLOAT, ["batch", 1280]),
            ],
            self.weights,
        )
        # Versions that every onnxruntime from 1.15 reads.
        return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
