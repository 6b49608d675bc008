"""Runs over made-up streams in one line, and what they came to in values that compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamdyn.outcome import Outcome
from streamdyn.protocols import Policy, Recognizer, Source
from streamdyn.recognizers.brightness import Brightness
from streamdyn.run.local import RunSummary, run_stream
from streamdyn.timeline import Audit, Reason, WindowResult, propagate


@dataclass(frozen=True)
class Pass:
    results: list[WindowResult]
    summary: RunSummary

    @property
    def outcomes(self) -> dict[int, Outcome]:
        return outcomes_of(self.results)

    @property
    def processed(self) -> list[int]:
        return list(self.outcomes)

    @property
    def audits(self) -> list[Audit]:
        return [audit for result in self.results for audit in result.audits]

    @property
    def reasons(self) -> str:
        """A letter an item: skipped, Processed, partial, failed, over budget, hopped."""
        return "".join("sPpfoh"[r] for result in self.results for r in result.reasons)


def watch(
    source: Source, policy: Policy[Any], recognizer: Recognizer | None = None, **options: Any
) -> Pass:
    results: list[WindowResult] = []
    summary = run_stream(
        source, policy, recognizer or Brightness(), on_window=results.append, **options
    )
    return Pass(results, summary)


def outcomes_of(results: Sequence[WindowResult]) -> dict[int, Outcome]:
    return {outcome.ordinal: outcome for result in results for outcome in result.outcomes}


def facts(results: Sequence[WindowResult]) -> list[tuple[Any, ...]]:
    """All that must be the same in a run that was cut and resumed; costs are not."""
    return [
        (
            result.window.first,
            result.window.stop,
            [Reason(reason).name for reason in result.reasons],
            result.scores.tobytes(),
            [(o.id, o.ordinal, o.labels, o.scores, o.text) for o in result.outcomes],
            [(error.ordinal, error.reason) for error in result.errors],
            result.audits,
        )
        for result in results
    ]


def carried_labels(outcomes: dict[int, Outcome], num_items: int, mode: Any = "two-sided") -> list:
    """The label of every item of a stream of one item a tick, as carried over from the observed."""
    known = sorted(outcomes)
    sources = propagate(np.arange(num_items), known, mode)
    return [outcomes[int(s)].label if s >= 0 else "" for s in sources]


def share_equal(left: Sequence[str], right: Sequence[str]) -> float:
    return float(np.mean([a == b for a, b in zip(left, right, strict=True)]))
