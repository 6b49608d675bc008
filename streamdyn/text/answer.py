"""A text read from its beginning, and what a reading is made of however it was read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamdyn.text.budget_knob import ReadBudget
from streamdyn.text.network import Actions, Executor, Floats, Ids, ReadState
from streamdyn.text.reading import Reading
from streamdyn.text.words import TextCoder, Tokens

Chooser = Callable[[ReadState, Ids, int], Actions]


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """What a reader took from one text."""

    actions: Actions
    """`(T,)` uint8 of `Action`."""
    logits: Floats
    """`(num_outputs,)`."""
    reads: int
    """Tokens read in full, re-reads counted again where they are known."""
    stop_index: int | None
    """Tokens before the stop; `None` where it did not stop or is not known."""
    flops: float
    """Multiply-adds times two that were computed; nan where they are not counted."""


def taken(executor: Executor, state: ReadState, actions: Actions) -> Taken:
    """What the compiled reader took, now that the text has ended."""
    return Taken(
        actions, executor.logits(state), state.num_full, state.stop_index, executor.flops(state)
    )


@dataclass(frozen=True, slots=True)
class Desk:
    """What a reader shares with its sessions."""

    executor: Executor
    """The compiled reader; never changed by reading."""
    coder: TextCoder
    """Text → ids."""
    labels: tuple[str, ...]
    """One an output."""
    knob_for: Callable[[float], float]
    """Rate → knob."""
    choose: Chooser | None
    """Picks the best tokens of a whole text, where they are known before reading."""
    mode: str
    """`exact` or `block`."""
    options: Mapping[str, Any]
    """Of the executor, besides the budget."""
    fingerprint: Callable[[], str]
    """Of the weights: a snapshot is only for the reader that wrote it."""
    now: Callable[[], float]
    """Clock in seconds."""

    def read(self, text: str, budget: ReadBudget) -> Reading:
        """Read one text from its beginning."""
        began = self.now()
        tokens = self.coder.encode(text)
        coded = self.now()
        state, cap = self.executor.start(), budget.cap(len(tokens))
        if self.choose is not None and budget.capped:
            actions = self.choose(state, tokens.ids, cap)
        else:
            knob = budget.knob(len(tokens), self.knob_for)
            actions = self.executor.advance(
                state, tokens.ids, knob=knob, max_reads=cap, mode=self.mode, **self.options
            )
        read = self.now()
        seconds = {"tokenize": coded - began, "read": read - coded}
        return self.reading(text, tokens, taken(self.executor, state, actions), seconds, read)

    def reading(
        self, source: str, tokens: Tokens, took: Taken, seconds: dict[str, float], since: float
    ) -> Reading:
        """The answer; what happened after `since` is the time of its stage, `classify`."""
        powers = np.exp(took.logits - took.logits.max())
        shares = (powers / powers.sum()).tolist()
        scores = dict(zip(self.labels, shares, strict=True))
        return Reading(
            source=source,
            tokens=tokens,
            actions=took.actions,
            label=max(scores, key=scores.__getitem__),
            scores=scores,
            reads=took.reads,
            stop_index=took.stop_index,
            flops=took.flops,
            seconds={**seconds, "classify": self.now() - since},
        )
