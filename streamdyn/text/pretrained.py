"""A trained reader as a folder: config, weights, vocabulary and model card; nothing in it runs.

```
config.json         sizes, labels, calibration, and the SHA-256 of the two files below
model.safetensors   weights; floats may be stored as float16, and word vectors in 8 bits with a
                    factor a word, and are loaded as float32
vocabulary.txt      one word a line, in the order of the ids; word pieces have none
README.md           the model card, where there is one
```
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sized
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from streamdyn.errors import ConfigError, ModelError, UnknownName
from streamdyn.nn.minilm import NUM_WORDS
from streamdyn.registry import parts
from streamdyn.text.calibration import Calibration
from streamdyn.text.network import ReaderNetwork
from streamdyn.text.wordpiece import WordPieces
from streamdyn.text.words import TextCoder, Vocabulary

FORMAT = 1
CONFIG, WEIGHTS, WORDS, CARD = "config.json", "model.safetensors", "vocabulary.txt", "README.md"
SHIPPED = Path(__file__).resolve().parent.parent / "models"
"""Folders `task/reader/`, and `task/default.txt` with the name of the reader meant by the task."""
AGAIN = "download or save the model again"
_VECTORS, _FACTORS = "embed.weight", "embed.factors"


class SizedCoder(TextCoder, Sized, Protocol):
    """A coder that says how many ids it has."""


@dataclass(frozen=True, slots=True, eq=False)
class ReaderModel:
    """A network, what turns a text into its input, and what its outputs mean."""

    network: ReaderNetwork
    """With its weights; or what has the same methods, as `transkimmer` has."""
    coder: SizedCoder
    """Text → ids of the network's embedding."""
    labels: tuple[str, ...]
    """One an output."""
    calibration: Calibration = field(default_factory=Calibration)
    """Rate → knob."""
    mode: str = "exact"
    """How it reads unless asked otherwise."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the executor's `advance` besides the budget, as `exit_confidence` of `transkimmer`."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is known of it, as plain data: data set, split, figures, command."""
    card: str = ""
    """Model card, Markdown."""

    def __post_init__(self) -> None:
        num_outputs, num_words = _sizes(self.network)
        if len(self.labels) != num_outputs or len(set(self.labels)) != num_outputs:
            raise ConfigError(
                f"labels must be {num_outputs} different names, one an output of the network, "
                f"got {list(self.labels)}"
            )
        if len(self.coder) != num_words:
            raise ConfigError(
                f"the vocabulary has {len(self.coder)} ids and the network's embedding "
                f"{num_words} rows; they must belong together"
            )


def save(model: ReaderModel, folder: str | Path, *, half: bool = False) -> None:
    """Write a model; whoever reads the folder meanwhile gets the whole of it or an error.

    Args:
        model: What to write.
        folder: Made with its parents; other files in it are left alone.
        half: Store floats as float16, and word vectors in 8 bits.

    Raises:
        ConfigError: The model cannot be stored this way.
        OSError: The folder cannot be written.
    """
    folder = Path(folder)
    state = model.network.state_dict()
    if half and _VECTORS in state:
        state[_VECTORS], state[_FACTORS] = _in_bytes(state[_VECTORS])
    weights = {name: _stored(name, value, half) for name, value in state.items()}
    files = {WEIGHTS: safetensors.torch.save(weights)}
    kind = _coder_kind(model.coder)
    if isinstance(model.coder, Vocabulary):
        files[WORDS] = _lines(model.coder.words).encode("utf-8", "surrogatepass")
    config = {
        "format": FORMAT,
        "reader": model.network.name,
        "network": model.network.config(),
        "labels": model.labels,
        "coder": {"kind": kind},
        "calibration": asdict(model.calibration),
        "defaults": {"mode": model.mode, "options": model.options},
        "facts": model.facts,
        "files": {name: sha256(data).hexdigest() for name, data in files.items()},
    }
    if model.card:
        files[CARD] = model.card.encode()
    # Last, since its checksums tell old files from new ones.
    files[CONFIG] = json.dumps(config, indent=2).encode() + b"\n"
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, data in files.items():
            (made / name).write_bytes(data)
        folder.mkdir(exist_ok=True)
        for name in files:
            (made / name).replace(folder / name)
    finally:
        shutil.rmtree(made)


def load(folder: str | Path) -> ReaderModel:
    """Read a model that `save` wrote.

    Raises:
        ModelError: A file is missing, cut short, or does not fit the others.
    """
    folder = Path(folder)
    config = _config(folder)
    try:
        name, known, settings = config["reader"], parts("reader"), config["network"]
        if name not in known:
            raise UnknownName("reader", name, known)
        # The weights it starts with are thrown away, and the caller's dice are not touched.
        with torch.random.fork_rng(devices=[]):
            network: ReaderNetwork = known[name].from_config(settings)  # type: ignore[attr-defined]
        _fill(network, folder / WEIGHTS, _checked(folder / WEIGHTS, config["files"][WEIGHTS]))
        card = folder / CARD
        return ReaderModel(
            network=network.eval(),
            coder=_coder(folder, config),
            labels=tuple(config["labels"]),
            calibration=Calibration(**{k: tuple(v) for k, v in config["calibration"].items()}),
            mode=config["defaults"]["mode"],
            options=config["defaults"]["options"],
            facts=config["facts"],
            card=card.read_text("utf-8") if card.is_file() else "",
        )
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as exc:
        raise ModelError(
            f"cannot build a reader from {folder / CONFIG}: {type(exc).__name__}: {exc}; {AGAIN}"
        ) from exc


def shipped() -> dict[str, Path]:
    """Name → folder of every model that comes with streamdyn; a task stands for its default."""
    found: dict[str, Path] = {}
    for config in sorted(SHIPPED.glob(f"*/*/{CONFIG}")):
        folder = config.parent
        found[f"{folder.parent.name}/{folder.name}"] = folder
    for choice in sorted(SHIPPED.glob("*/default.txt")):
        found[choice.parent.name] = choice.parent / choice.read_text("utf-8").strip()
    return found


def find(name: str) -> Path:
    """Folder of a shipped model.

    Raises:
        UnknownName: None is called so.
    """
    known = shipped()
    if name not in known:
        raise UnknownName("shipped model", name, known)
    return known[name]


def locate(model: str | Path) -> Path:
    """Folder of a model by the name of a shipped one or by its path.

    Raises:
        UnknownName: There is neither.
        ConfigError: It is no name.
    """
    if not isinstance(model, str | Path):
        raise ConfigError(
            f"a model is a ReaderModel, a name or a folder, got {type(model).__name__}"
        )
    known = shipped()
    if str(model) in known:
        return known[str(model)]
    if not Path(model).is_dir():
        raise UnknownName("shipped model or folder", str(model), known)
    return Path(model)


def _sizes(network: ReaderNetwork) -> tuple[int, int]:
    """Outputs and words."""
    if isinstance(network, ReaderNetwork):
        return network.spec.num_outputs, network.spec.num_words
    return network.num_outputs, NUM_WORDS


def _stored(name: str, value: Tensor, half: bool) -> Tensor:
    """A copy of its own: safetensors refuses tensors that share memory."""
    value = value.detach().to("cpu", copy=True).contiguous()
    if not half or not value.is_floating_point():
        return value
    small = value.half()
    if small.isfinite().all():
        return small
    raise ConfigError(f"{name} has values too large for float16; save it with half=False")


def _in_bytes(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """`(V, D)` int8 and the `(V,)` factors that make them vectors again."""
    factors = (vectors.detach().abs().amax(1).clamp(min=1e-3) / 127).half().float()
    return (vectors.detach() / factors[:, None]).round().to(torch.int8), factors


def _coder_kind(coder: SizedCoder) -> str:
    for kind, known in (("words", Vocabulary), ("wordpiece", WordPieces)):
        if isinstance(coder, known):
            return kind
    raise ConfigError(
        f"a {type(coder).__name__} cannot be stored; use a Vocabulary or WordPieces, or store the "
        "network yourself"
    )


def _coder(folder: Path, config: Mapping[str, Any]) -> SizedCoder:
    kind = config["coder"]["kind"]
    if kind == "wordpiece":
        return WordPieces()
    if kind != "words":
        raise UnknownName("coder", kind, ["wordpiece", "words"])
    words = _checked(folder / WORDS, config["files"][WORDS]).decode("utf-8", "surrogatepass")
    return Vocabulary(words.split("\n")[:-1])


def _lines(words: tuple[str, ...]) -> str:
    broken = next((word for word in words if "\n" in word), None)
    if broken is not None:
        raise ConfigError(f"a word may not hold a line break, got {broken!r}")
    return "".join(f"{word}\n" for word in words)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        known = "; shipped models are opened by SkimReader.load" * (str(folder) in shipped())
        raise ModelError(f"there is no model in {folder}: {CONFIG} is missing; {AGAIN}{known}")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as exc:
        raise ModelError(f"{path} is not JSON: {exc}; {AGAIN}") from exc
    version = config.get("format") if isinstance(config, dict) else None
    if version != FORMAT:
        raise ModelError(
            f"{path} is of format {version}, and this streamdyn reads format {FORMAT}; "
            "load it with the streamdyn that wrote it, or train it again"
        )
    return config  # type: ignore[no-any-return]


def _checked(path: Path, digest: str) -> bytes:
    if not path.is_file():
        raise ModelError(f"{path} is missing; {AGAIN}")
    data = path.read_bytes()
    if sha256(data).hexdigest() != digest:
        raise ModelError(
            f"{path} ({len(data)} bytes) is not the file that {CONFIG} was written with: it was "
            f"cut short or changed; {AGAIN}"
        )
    return data


def _fill(network: ReaderNetwork, path: Path, data: bytes) -> None:
    """Load the weights, all of them and no others."""
    try:
        found = safetensors.torch.load(data)
    except safetensors.SafetensorError as exc:
        raise ModelError(f"{path} cannot be read: {exc}; {AGAIN}") from exc
    if _FACTORS in found:
        found[_VECTORS] = found[_VECTORS] * found.pop(_FACTORS).float()[:, None]
    wanted = network.state_dict()
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    for name, value in wanted.items():
        if shapes.get(name) != tuple(value.shape):
            raise ModelError(
                f"{path} does not fit {CONFIG}: tensor {name} should be {tuple(value.shape)}, "
                f"is {shapes.get(name, 'missing')}; {AGAIN}"
            )
    strange = sorted(found.keys() - wanted.keys())
    if strange:
        raise ModelError(f"{path} does not fit {CONFIG}: {strange} are not in it; {AGAIN}")
    network.load_state_dict(found)
