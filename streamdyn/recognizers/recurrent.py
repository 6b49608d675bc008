"""A trained reader as a recognizer: it reads the tokens it is given, and answers after each.

Which tokens these are is for the policy to say; the reader's own gates are not asked. The answer to
a text is its last outcome: under the policy `reader` with the same model it is the reader's own.
"""

from __future__ import annotations

from copy import deepcopy
from hashlib import sha256
from math import exp
from pathlib import Path
from typing import Any

import numpy as np

from streamdyn.errors import ConfigError, RecognizerError
from streamdyn.items import FrameSpec, Item, Selection
from streamdyn.outcome import Outcome
from streamdyn.plan import FULL_EFFORT, Action
from streamdyn.registry import recognizer

_FAR = 60.0
"""A knob so far out that a gate takes one side; its exponential is still a float32."""


@recognizer("recurrent")
class Recurrent:
    """Reads tokens with the network of a trained reader, and says after each what it thinks.

    PROCESS reads a token in full; PARTIAL skims it, where the network knows how. It is compiled for
    the CPU and runs there whatever the device.

    Args:
        model: Name of a shipped model, or a folder.
        rate: That of the policy `reader`, for a network that skims a token more or less by it.
    """

    input = FrameSpec(None, None)
    batch_size = 64

    def __init__(self, *, model: str, rate: float | None = None) -> None:
        if rate is not None and not 0 < rate <= 1:
            raise ConfigError(f"rate must be in (0, 1], got {rate}")
        self.model, self.rate = model, rate
        self.name = f"recurrent-{Path(model).name}"
        self.version = _version(model)
        self._executor: Any = None
        """A `streamdyn.text.network.Executor`, once set up."""

    def setup(self, device: str) -> None:
        """Load the model.

        Raises:
            ModelError: It is not there, or damaged.
            ConfigError: It is not recurrent.
        """
        from streamdyn.text import pretrained
        from streamdyn.text.network import ReaderNetwork

        folder = pretrained.shipped().get(self.model, self.model)
        found = pretrained.load(folder)
        if not isinstance(found.network, ReaderNetwork):
            raise ConfigError(
                f"recognizer 'recurrent' cannot use {self.model}: it has no state to read a token "
                "into; choose a recurrent reader"
            )
        self.version = _version(folder)
        self._id_of, self._labels = found.coder.id_of, found.labels
        self._knob = 0.0 if self.rate is None else found.calibration.knob_for(self.rate)
        self._executor = found.network.executor()
        # Some readers look at every token and either read or skim it; the knob can force them.
        self._reads_or_skims = self._advance(self.initial_hidden(), 0, _FAR) == Action.PARTIAL

    def initial_hidden(self) -> Any:
        """A `streamdyn.text.network.ReadState` before the first token."""
        return self._loaded().start()

    def recognize(self, selection: Selection, hidden: Any) -> tuple[list[Outcome], Any]:
        """One outcome an item, in order.

        Raises:
            RecognizerError: It is not set up, or cannot do what is asked of an item.
        """
        executor, state = self._loaded(), deepcopy(hidden)
        for item, effort in zip(selection.items, selection.efforts, strict=True):
            if item.kind != "token" or effort != FULL_EFFORT:
                raise RecognizerError(
                    f"recognizer {self.name!r} cannot take {item!r} with {effort}: it reads tokens "
                    "and skims as its network was trained to; choose the source 'tokens' and a "
                    "policy without efforts"
                )
        texts = [i.data.tobytes().decode("utf-8", "surrogatepass") for i in selection.items]
        ids = [self._id_of(text) for text in texts]
        if self._reads_or_skims or set(selection.actions) != {Action.PROCESS}:
            answers = []
            for item, token, action in zip(selection.items, ids, selection.actions, strict=True):
                self._update(item, token, action, state)
                answers.append(executor.logits(state).tolist())
        else:
            answers = executor.read(state, np.array(ids, np.int32)).tolist()
        outcomes = map(self._outcome, selection.items, texts, answers)
        return list(outcomes), state

    def agree(self, propagated: Outcome, looked_up: Outcome) -> float:
        """1 if both labels are the same, else 0."""
        return float(propagated.label == looked_up.label)

    def _loaded(self) -> Any:
        if self._executor is None:
            raise RecognizerError(
                f"recognizer {self.name!r} is not loaded; call setup(device) before it is used"
            )
        return self._executor

    def _update(self, item: Item, token: int, action: Action, state: Any) -> None:
        if self._reads_or_skims:
            took = self._advance(state, token, _FAR if action == Action.PARTIAL else -_FAR)
        elif action == Action.PARTIAL:
            took = self._advance(state, token, self._knob)
        else:
            self._executor.read(state, np.array([token], np.int32))
            took = Action.PROCESS
        if took != action:
            raise RecognizerError(
                f"recognizer {self.name!r} cannot update its state from {item!r} in part; choose "
                "a policy that processes whole items, a model that skims, or the policy's own rate"
            )

    def _advance(self, state: Any, token: int, knob: float) -> int:
        (took,) = self._executor.advance(state, np.array([token], np.int32), knob=knob)
        return int(took)

    def _outcome(self, item: Item, text: str, logits: list[float]) -> Outcome:
        # Of a few labels: numpy would take longer than the reading.
        greatest = max(logits)
        powers = [exp(logit - greatest) for logit in logits]
        total = sum(powers)
        order = sorted(range(len(powers)), key=lambda i: -powers[i])
        return Outcome(
            item.stream,
            item.ordinal,
            item.pts,
            f"{self.name}/{self.version}",
            labels=tuple(self._labels[i] for i in order),
            scores=tuple(powers[i] / total for i in order),
            # A lone surrogate is no text that could be stored.
            text=text if text.isascii() else text.encode("utf-8", "replace").decode(),
        )


def _version(folder: str | Path) -> str:
    """Changes with the model's files, whose checksums its config.json holds."""
    config = Path(folder) / "config.json"
    return f"1-{sha256(config.read_bytes()).hexdigest()[:12]}" if config.is_file() else "1"
