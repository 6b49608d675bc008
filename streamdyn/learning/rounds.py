"""A training that can be cut short: what it needs to go on is in a folder after each round."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from streamdyn.errors import ConfigError, StoreError

Arrays = dict[str, npt.NDArray[Any]]


class Best:
    """The arrays of the round that was worth most; part of what is kept."""

    def __init__(self) -> None:
        self.arrays: Arrays = {}
        self.worth = -np.inf

    def offer(self, arrays: Arrays, worth: float) -> None:
        """Keep them if they are worth more."""
        if worth > self.worth:
            self.arrays, self.worth = arrays, worth

    def state_dict(self) -> dict[str, Any]:
        """As tensors."""
        tensors = {name: torch.from_numpy(np.array(a)) for name, a in self.arrays.items()}
        return {"arrays": tensors, "worth": float(self.worth)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """What `state_dict` gave."""
        self.arrays = {name: tensor.numpy() for name, tensor in state["arrays"].items()}
        self.worth = state["worth"]


class TorchDice:
    """Torch's own random numbers, which draw orders and what is dropped."""

    def state_dict(self) -> dict[str, Any]:
        """Where they are."""
        return {"state": torch.get_rng_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """What `state_dict` gave."""
        torch.set_rng_state(state["state"])


class Rounds:
    """What a training has done so far.

    Args:
        folder: Made when it is needed; `None`: nothing is kept.
        training: What is trained on what; the folder of another training is refused.
    """

    def __init__(self, folder: Path | None = None, training: str = "") -> None:
        self._folder = folder
        if folder is None:
            return
        note = folder / "training.txt"
        if not note.exists():
            _put(note, lambda new: new.write_text(training, "utf-8"))
        if (found := note.read_text("utf-8")) != training:
            raise ConfigError(
                f"{folder} holds another training ({found}; wanted is {training}); remove it, or "
                "give another folder"
            )

    def over(self, name: str, count: int, **parts: Any) -> Iterator[int]:
        """Numbers of the rounds that are left; one is over when the next is asked for.

        Args:
            name: Of these rounds.
            count: Of all rounds.
            **parts: What changes from round to round: anything with `state_dict` and
                `load_state_dict`, generators of torch and numpy.

        Raises:
            StoreError: What is kept cannot be read or written.
        """
        if self._folder is None:
            yield from range(count)
            return
        path, first = self._folder / f"{name}.pt", 0
        if path.exists():
            try:
                kept = torch.load(path, weights_only=True)
            except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as exc:
                raise StoreError(f"cannot go on from {path}: {exc}; remove it") from exc
            first = kept["round"] + 1
            for part_name, part in parts.items():
                _restore(part, kept["parts"][part_name])
        for number in range(first, count):
            yield number
            states = {part_name: _state(part) for part_name, part in parts.items()}
            done = {"round": number, "parts": states}
            _put(path, partial(torch.save, done))

    def once(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """Arrays that were made before, or that are made and kept now."""
        if self._folder is None:
            return make()
        path = self._folder / f"{name}.npz"
        if path.exists():
            with np.load(path) as kept:
                return dict(kept)
        made = make()
        # A name that ends otherwise would get the suffix once more.
        _put(path, lambda new: np.savez(new, **made), suffix=".new.npz")  # type: ignore[arg-type]
        return made

    def forget(self) -> None:
        """The training is over."""
        if self._folder is not None:
            shutil.rmtree(self._folder)


NOTHING_KEPT = Rounds()
"""A training that begins anew, and is not to be gone on with."""


def _put(path: Path, write: Callable[[Path], Any], suffix: str = ".new") -> None:
    new = path.with_suffix(suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(new)
        new.replace(path)
    except (OSError, RuntimeError) as exc:  # The latter is what torch says of a full disk.
        raise StoreError(f"cannot keep the state of the training in {path}: {exc}") from exc


def _state(part: Any) -> Any:
    if isinstance(part, torch.Generator):
        return part.get_state()
    if isinstance(part, np.random.Generator):
        return part.bit_generator.state
    return part.state_dict()


def _restore(part: Any, state: Any) -> None:
    if isinstance(part, torch.Generator):
        part.set_state(state)
    elif isinstance(part, np.random.Generator):
        part.bit_generator.state = state
    else:
        part.load_state_dict(state)
