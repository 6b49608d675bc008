"""The ONNX file of EfficientNet-Lite0: written once from the weights, into a cache folder."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from streamdyn.errors import RecognizerError

GRAPH_VERSION = 1
"""Part of the file name: raise it when the graph changes."""


def cached_file(weights: Path, folder: Path) -> Path:
    """The ONNX file of these weights in `folder`, written first if it is not there.

    Two processes may do so at once: each writes a file of its own and renames it. Where the file
    is there already, torch is not even imported.

    Raises:
        RecognizerError: The folder cannot be written to.
    """
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    target = folder / f"lite0-{digest}-v{GRAPH_VERSION}.onnx"
    if target.exists():
        return target
    content = _write_graph(weights)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as own:
            part = Path(own) / target.name
            part.write_bytes(content)
            part.replace(target)
    except OSError as exc:
        raise RecognizerError(
            f"cannot write the network of recognizer lite0 to {target}: {exc}; free some space or "
            "set XDG_CACHE_HOME to a folder that can be written to"
        ) from exc
    return target


def _write_graph(weights: Path) -> bytes:
    from streamdyn.recognizers.networks.lite0 import fold, read_weights
    from streamdyn.recognizers.networks.lite0_onnx import graph

    return bytes(graph(fold(read_weights(weights))).SerializeToString())
