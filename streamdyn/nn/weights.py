"""Weights of video agents: one safetensors file each, which says whose they are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ModelError

FORMAT = "1"
SHIPPED = Path(__file__).resolve().parent.parent / "models" / "video"
"""Files `agent.safetensors`, each with a card `agent.md`."""


@dataclass(frozen=True, slots=True, eq=False)
class AgentWeights:
    """A trained agent, as it is stored."""

    arrays: Mapping[str, npt.NDArray[np.float32]]
    facts: Mapping[str, Any]
    """What is known of it, as plain data: options, training data, figures, command."""
    digest: str
    """Twelve hex digits; other weights, other digits."""


def save_weights(
    path: Path, agent: str, arrays: Mapping[str, npt.NDArray[np.float32]], facts: Mapping[str, Any]
) -> None:
    """Write the whole file or none.

    Args:
        path: Its folder is made.
        agent: Name of the policy.
        arrays: All finite.
        facts: Plain data.
    """
    from safetensors.numpy import save

    plain = {name: np.ascontiguousarray(a, np.float32) for name, a in arrays.items()}
    data = save(plain, {"agent": agent, "format": FORMAT, "facts": json.dumps(facts)})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)


def load_weights(model: str | None, agent: str) -> AgentWeights:
    """Weights that `save_weights` wrote.

    Args:
        model: A file; `None`: the one that comes with streamdyn.
        agent: Whose weights are wanted.

    Raises:
        ModelError: There is no such file, it is cut short, or it is of another agent or format.
    """
    path = Path(model) if model is not None else SHIPPED / f"{agent}.safetensors"
    try:
        found = os.stat(path)  # noqa: PTH116 - it is on the path of every decision.
    except OSError as exc:
        raise ModelError(
            f"cannot read the weights of {agent} from {path}: {exc.strerror}; train them with "
            f"`streamdyn train video {agent}`"
        ) from exc
    return _loaded(path, agent, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=16)
def _loaded(path: Path, agent: str, changed_ns: int, size: int) -> AgentWeights:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    data = path.read_bytes()
    try:
        arrays = load(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])["__metadata__"]
        held = header["agent"], header["format"]
        facts = json.loads(header["facts"])
    except (SafetensorError, KeyError, ValueError) as exc:
        raise ModelError(
            f"{path} ({len(data)} bytes) holds no weights of an agent: {exc}; train them again"
        ) from exc
    if held != (agent, FORMAT):
        raise ModelError(
            f"{path} is of agent {held[0]!r}, format {held[1]}; wanted is {agent!r}, format "
            f"{FORMAT}"
        )
    broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise ModelError(f"{path} holds numbers that are not finite, in {broken}; train it again")
    return AgentWeights(arrays, facts, sha256(data).hexdigest()[:12])
