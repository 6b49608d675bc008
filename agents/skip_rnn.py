"""Skip RNN over frames: the state itself says how many frames to leave out before the next look.

A GRU takes in the embedding of each frame looked at. From its state follows an increment, and the
next look is where increments add up to one half; what lies between is not decoded for its own sake.
The gate and the cell are those of the reader of texts (`agents/readers/skip_rnn.py`).

Paper: Campos et al. 2018, Skip RNN: Learning to Skip State Updates in Recurrent Neural Networks,
arXiv:1708.06834, equations 1 to 9 and section 3.1 (skips are known ahead). Differs: steps of three
frames; the loss is that of the answer by the frames looked at, pooled as the recognizer `actions`
pools them, instead of an answer from the last state, which the state of 24 numbers would have to
carry through all that follows; `thrift` subtracts from the increment's logit.

Cost: about 0.1 ms a look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError, PlanError
from streamdyn.nn.weights import load_weights
from streamdyn.observation import Grade, Observation, Status
from streamdyn.plan import Action, Plan
from streamdyn.previews.glimpses import seen
from streamdyn.previews.hops import LONGEST_WAIT
from streamdyn.registry import policy

Floats = npt.NDArray[np.float32]


@policy("skip_rnn")
@dataclass(frozen=True, kw_only=True)
class SkipRnn:
    """Process an item, then skip as many as the state says; never back, so it works live.

    For a recognizer whose outcomes hold embeddings of lite0, as `actions`.

    Args:
        thrift: Added in favour of skipping more; 0 is as trained.
        lookahead: Items to plan at once, two at least: it is asked again after a look.
        model: File with weights; those that come with streamdyn when not given.
    """

    thrift: float = 0.0
    lookahead: int = 64
    model: str | None = None
    name = "skip_rnn"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()

    def __post_init__(self) -> None:
        if self.lookahead < 2 or not np.isfinite(self.thrift):
            raise ConfigError(
                f"skip_rnn needs lookahead >= 2 and a finite thrift, got {self.lookahead = }, "
                f"{self.thrift = }"
            )
        load_weights(self.model, self.name)

    @property
    def version(self) -> str:
        """Changes with the weights."""
        return f"1-{load_weights(self.model, self.name).digest}"

    def initial_state(self) -> Floats | None:
        """No look so far: the state has the size of the weights."""
        return None

    def decide(self, obs: Observation, state: Floats | None) -> tuple[Plan, Floats | None]:
        """Look at the first item; then close the window up to the next look."""
        n = len(obs.window)
        if obs.status[0] == Status.OPEN and obs.budget_left.items != 0:
            return Plan.process_next(n, 0), state
        every = int(load_weights(self.model, self.name).facts["every"])
        looks, embeddings = seen(obs.outcomes, self.name)
        hop = every
        if len(looks):
            state, steps = self._advanced(state, embeddings[0])
            hop = every * steps
        actions = np.zeros(n, np.uint8)
        actions[: min(hop, n)] = Action.SKIP
        return Plan(actions, done=min(hop, n), hop=max(0, hop - n)), state

    def _advanced(self, state: Floats | None, embedding: Floats) -> tuple[Floats, int]:
        # Compiled code loads with the first look.
        from streamdyn.nn.kernels import gru_step

        arrays: Any = load_weights(self.model, self.name).arrays
        if embedding.shape != arrays["mean"].shape:
            raise PlanError(
                f"policy skip_rnn was taught embeddings of {len(arrays['mean'])} numbers and got "
                f"one of {len(embedding)}; use the recognizer that it was taught with"
            )
        x = (arrays["basis"] @ (embedding - arrays["mean"])).astype(np.float32)
        bias = arrays["increment_bias"]
        h = np.zeros(len(arrays["increment"]), np.float32) if state is None else state.copy()
        gru_step(x, h, arrays["wx"], arrays["wh"], arrays["bx"], arrays["bh"])
        logit = float(h @ arrays["increment"]) + float(bias[0]) - self.thrift
        return h, steps_ahead(np.float32(1 / (1 + np.exp(-logit))))


def steps_ahead(increment: np.float32) -> int:
    """Steps until increments add up to one half, at least 1; summed as training sums them."""
    gate, steps = increment, 1
    while gate < np.float32(0.5) and steps < LONGEST_WAIT:
        gate = gate + min(increment, np.float32(1) - gate)
        steps += 1
    return steps
