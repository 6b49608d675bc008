"""One layer of MiniLM as an ONNX graph with a free batch size and length.

It is written node by node from the same merged weights that torch runs, see
`streamdyn.recognizers.networks.lite0_onnx`. A reader runs one session a layer and drops tokens in
between.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamdyn.nn.minilm import EPSILON, HIDDEN_SIZE, NUM_HEADS, LayerWeights, Linear

Floats = npt.NDArray[np.float32]
Forward = Callable[[Floats, Floats], list[Floats]]
"""From `(B, T, 384)` states and the `(B, T)` bias of each key to the new states and, where the
layer has a scorer, `(B, T, 1)` scores of these."""


class Scorer(NamedTuple):
    """What the gate after a layer adds to a token's score."""

    inner: Linear
    """Followed by a ReLU."""
    outer: Linear


def layer_session(weights: LayerWeights, scorer: Scorer | None = None, threads: int = 1) -> Forward:
    """A layer in onnxruntime on the CPU."""
    # onnxruntime from 1.29 on reports to its maker unless told not to before its import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        graph(weights, scorer).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def forward(hidden: Floats, bias: Floats) -> list[Floats]:
        outputs: list[Floats] = session.run(None, {"hidden": hidden, "bias": bias})
        return outputs

    return forward


def graph(weights: LayerWeights, scorer: Scorer | None = None) -> Any:
    """The layer as an `onnx.ModelProto`."""
    from onnx import TensorProto, helper

    writer = _Writer()
    parts = writer.split(writer.linear("hidden", weights.qkv))
    by_head = writer.constant([0, 0, NUM_HEADS, HIDDEN_SIZE // NUM_HEADS])
    orders = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    query, key, value = (
        writer.op("Transpose", writer.op("Reshape", part, by_head), perm=order)
        for part, order in zip(parts, orders, strict=True)
    )
    bias = writer.op("Unsqueeze", "bias", writer.constant([1, 2]))
    scale = writer.constant(np.float32((HIDDEN_SIZE // NUM_HEADS) ** -0.5))
    scores = writer.op("Add", writer.op("Mul", writer.op("MatMul", query, key), scale), bias)
    attended = writer.op("MatMul", writer.op("Softmax", scores, axis=-1), value)
    attended = writer.op("Transpose", attended, perm=[0, 2, 1, 3])
    attended = writer.op("Reshape", attended, writer.constant([0, 0, HIDDEN_SIZE]))
    attended = writer.linear(attended, weights.attention_out)
    hidden = writer.norm(writer.op("Add", attended, "hidden"), weights.attention_norm)
    inner = writer.gelu(writer.linear(hidden, weights.inner))
    outer = writer.linear(inner, weights.outer)
    hidden = writer.norm(writer.op("Add", outer, hidden), weights.output_norm)
    names = [hidden]
    if scorer is not None:
        inner = writer.op("Relu", writer.linear(hidden, scorer.inner))
        names.append(writer.linear(inner, scorer.outer))

    def value_info(name: str, last: int | None) -> Any:
        shape: list[str | int | None] = ["batch", "length", *([last] if last else [])]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    outputs = [value_info(name, last) for name, last in zip(names, (HIDDEN_SIZE, 1), strict=False)]
    inputs = [value_info("hidden", HIDDEN_SIZE), value_info("bias", None)]
    body = helper.make_graph(writer.nodes, "minilm-layer", inputs, outputs, writer.weights)
    # Versions that every onnxruntime from 1.15 reads.
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class _Writer:
    """Collects nodes and weights; every value gets a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def split(self, x: str) -> list[str]:
        """Query, key and value."""
        from onnx import helper

        names = ["query", "key", "value"]
        sizes = self.constant([HIDDEN_SIZE] * 3)
        self.nodes.append(helper.make_node("Split", [x, sizes], names, name="split", axis=-1))
        return names

    def linear(self, x: str, weights: Linear) -> str:
        product = self.op("MatMul", x, self.constant(_array(weights.weight).T))
        return self.op("Add", product, self.constant(_array(weights.bias)))

    def norm(self, x: str, weights: Linear) -> str:
        scale, shift = (self.constant(_array(part)) for part in weights)
        return self.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=EPSILON)

    def gelu(self, x: str) -> str:
        erf = self.op("Erf", self.op("Div", x, self.constant(np.float32(2**0.5))))
        above = self.op("Add", erf, self.constant(np.float32(1)))
        return self.op("Mul", self.op("Mul", x, above), self.constant(np.float32(0.5)))


def _array(value: Tensor) -> Floats:
    array: Floats = value.detach().to("cpu", torch.float32).numpy()
    return array
