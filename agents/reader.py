"""Read a text as a trained reader does: its gates decide here, its recognizer is shown the rest.

The recognizer `recurrent` of the same model makes the same updates from what is chosen, so that the
last outcome of a text is what the reader itself would answer. A gate must know the state as it is,
and an outcome tells what the recognizer said, not its state: so the reading is gone through in the
policy's own state too, and a token that is read is paid for twice. What a jump passes over beyond
the window is not even shown.

Cost: the preview `token` of every token shown, and the reading itself. The readers and their papers
are in agents/readers/.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError
from streamdyn.items import Array
from streamdyn.observation import Grade, Observation
from streamdyn.plan import Action, Plan
from streamdyn.previews.token import token_features, token_names
from streamdyn.registry import policy


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    """A loaded model, ready to read; only ever read from, so that policies may share it."""

    executor: Any
    """`streamdyn.text.network.Executor`."""
    calibration: Any
    """`streamdyn.text.calibration.Calibration`."""
    mode: str
    names: npt.NDArray[np.int64]
    """Names of the words of its vocabulary, increasing, after a -1 that is none."""
    ids: npt.NDArray[np.int32]
    """Their ids."""

    def ids_of(self, previews: Array) -> npt.NDArray[np.int32]:
        """`(n,)` int32 from rows of the preview `token`."""
        wanted = token_names(previews)
        place = np.searchsorted(self.names, wanted, side="right") - 1
        return np.where(self.names[place] == wanted, self.ids[place], self.ids[0])


@lru_cache(maxsize=4)
def _loaded(model: str) -> _Model:
    from streamdyn.text import pretrained
    from streamdyn.text.network import ReaderNetwork
    from streamdyn.text.words import UNKNOWN_ID, Vocabulary

    found = pretrained.load(pretrained.shipped().get(model, model))
    if not (isinstance(found.network, ReaderNetwork) and isinstance(found.coder, Vocabulary)):
        raise ConfigError(
            f"policy 'reader' cannot read with {model}: it is no recurrent reader of words; choose "
            "another model"
        )
    executor, words = found.network.executor(), found.coder.words
    # One that may go back reads the first token, and cannot yet say that it did.
    _advanced(model, executor, executor.start(), np.array([UNKNOWN_ID], np.int32), ended=False)
    names = token_names(token_features(words))
    order = np.argsort(names)
    ids = np.array([found.coder.id_of(word) for word in words], np.int32)
    return _Model(
        executor,
        found.calibration,
        found.mode,
        np.append(-1, names[order]),
        np.append(np.int32(UNKNOWN_ID), ids[order]),
    )


@policy("reader")
@dataclass(frozen=True, kw_only=True)
class Reader:
    """Process, skim or skip the tokens that a trained reader reads, skims or skips.

    A limit on items is kept by the reading itself: it goes on from what it was allowed to read.

    Args:
        model: Name of a shipped model, or a folder; the recognizer `recurrent` needs the same.
        rate: Share of the tokens to read on average, in (0, 1]; `None`: as the model was trained.
        lookahead: Tokens to plan at once; a reader that looks ahead needs more than it looks, one
            that decides at the end needs the whole text.
    """

    model: str
    rate: float | None = None
    lookahead: int = 64
    name = "reader"
    version = "1"
    previews = frozenset[Grade](("token",))
    glances = frozenset[Grade]()

    def __post_init__(self) -> None:
        if self.rate is not None and not 0 < self.rate <= 1:
            raise ConfigError(f"reader needs a rate in (0, 1], got {self.rate}")

    def initial_state(self) -> Any:
        """A `ReadState` before the first token."""
        return _loaded(self.model).executor.start()

    def decide(self, obs: Observation, state: Any) -> tuple[Plan, Any]:
        """Close what the reader decides on; it looks at no token before `plan.hop` is over."""
        first = obs.window.first
        if state.position < first:
            # Left out by a hop: what they were does not matter.
            state, _ = self._read(state, np.zeros(first - state.position, np.int32))
        ids = _loaded(self.model).ids_of(obs.previews["token"][state.position - first :])
        left = obs.budget_left.items
        limit = None if left is None else int(left)
        after, actions = self._read(state, ids, limit, ended=obs.ended)
        chosen = np.flatnonzero(actions >= Action.PARTIAL)
        if limit and len(chosen) > limit:
            # Skimming counts as well: it goes on from the first token that is one too many.
            ids = ids[: chosen[limit]]
            after, actions = self._read(state, ids, limit, ended=False)
        if not len(actions):
            raise ConfigError(
                f"reader {self.model} decides on no token before it has seen over {len(ids)}; "
                f"lookahead must be larger, got {self.lookahead}"
            )
        padding = np.zeros(len(obs.window) - len(actions), np.uint8)
        plan = Plan(
            np.append(actions, padding),
            done=len(actions) if len(padding) else None,
            hop=0 if len(padding) else after.skip_until - after.position,
            stop=after.stopped,
        )
        return plan, after

    def _read(
        self, state: Any, ids: npt.NDArray[np.int32], limit: int | None = 0, *, ended: bool = False
    ) -> tuple[Any, npt.NDArray[np.uint8]]:
        model = _loaded(self.model)
        how = {
            "knob": 0.0 if self.rate is None else model.calibration.knob_for(self.rate),
            "ended": ended,
            "mode": model.mode,
        }
        if limit is not None:
            how["max_reads"] = state.num_full + limit
        return _advanced(self.model, model.executor, state, ids, **how)


def _advanced(
    model: str, executor: Any, state: Any, ids: npt.NDArray[np.int32], **how: Any
) -> tuple[Any, npt.NDArray[np.uint8]]:
    """Where the reading stands after these tokens, and the actions that were decided on."""
    after = deepcopy(state)
    actions = executor.advance(after, ids, **how)
    if after.num_full - state.num_full > (actions == Action.PROCESS).sum():
        raise ConfigError(
            f"reader {model} goes back to tokens it has passed, and a stream does not; read the "
            "text with SkimReader"
        )
    return after, actions
