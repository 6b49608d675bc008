"""The contract of a policy, as a check that anyone can call: `check_policy(MyPolicy())`."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

import numpy as np

from streamdyn.audit import AuditRule
from streamdyn.budget import Budget, BudgetMeter
from streamdyn.checkpoint import SessionState, dump, load
from streamdyn.errors import PlanError
from streamdyn.items import Array, Block
from streamdyn.observation import Grade, Observation
from streamdyn.plan import Plan
from streamdyn.protocols import Policy, Position, Recognizer, Source
from streamdyn.receipt import Receipt
from streamdyn.recognizers.brightness import Brightness
from streamdyn.run.local import run_stream
from streamdyn.sources.synthetic import Synthetic
from streamdyn.timeline import WindowResult

MAX_STATE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Watched:
    """What a policy did with a stream."""

    processed: tuple[int, ...]
    """Ordinals of the observed items."""
    plans: tuple[tuple[Block, Plan], ...]
    """Each window as shown and what was answered, in order."""
    results: tuple[WindowResult, ...]
    receipt: Receipt


def watch(
    policy: Policy[Any],
    source: Source,
    *,
    recognizer: Recognizer | None = None,
    audit_rate: float = 0.0,
    through_checkpoints: bool = False,
) -> Watched:
    """Run a policy over a source through the real engine, in this thread.

    Args:
        policy: Decides.
        source: What to watch.
        recognizer: One without hidden state; `brightness` when not given.
        audit_rate: Share of the skipped items to look at after all.
        through_checkpoints: Store and load the policy's state before every decision.

    Raises:
        PlanError: A plan that the engine refuses, or a policy that writes into its observation.
        StoreError: A state that a checkpoint cannot hold.
    """
    model = recognizer if recognizer is not None else Brightness()
    model.setup("cpu")
    recorder = _Recorder(policy, through_checkpoints)
    results: list[WindowResult] = []
    summary = run_stream(
        source, recorder, model, audit=AuditRule(audit_rate), on_window=results.append
    )
    processed = tuple(outcome.ordinal for result in results for outcome in result.outcomes)
    return Watched(processed, tuple(recorder.plans), tuple(results), summary.receipt)


class _Recorder:
    """A policy that notes what another one answers, and shows it what it must not change."""

    def __init__(self, policy: Policy[Any], through_checkpoints: bool) -> None:
        self._policy, self._through_checkpoints = policy, through_checkpoints
        self.name, self.version = policy.name, policy.version
        self.previews, self.glances = policy.previews, policy.glances
        self.lookahead = policy.lookahead
        self.plans: list[tuple[Block, Plan]] = []

    def initial_state(self) -> Any:
        return self._policy.initial_state()

    def decide(self, obs: Observation, state: Any) -> tuple[Plan, Any]:
        if self._through_checkpoints:
            state = _stored(self._policy, state)
        try:
            plan, after = self._policy.decide(_read_only(obs), state)
        except ValueError as exc:
            if "read-only" not in str(exc):
                raise
            raise PlanError(
                f"policy {self.name} writes into its observation {obs!r}: {exc}; "
                "copy what it changes"
            ) from exc
        self.plans.append((obs.window, plan))
        return plan, after


def _stored(policy: Policy[Any], state: Any) -> Any:
    session = SessionState(
        Position(0, None), f"{policy.name}/{policy.version}", state, BudgetMeter(Budget())
    )
    try:
        data = dump(session)
    except (pickle.PicklingError, AttributeError, TypeError) as exc:
        raise PlanError(
            f"the state of policy {policy.name} cannot be pickled: {exc}; keep plain data, arrays "
            "and dataclasses in it"
        ) from exc
    if len(data) > MAX_STATE_BYTES:
        raise PlanError(
            f"the state of policy {policy.name} takes {len(data)} bytes in a checkpoint; it is "
            f"written with every window, so keep it below {MAX_STATE_BYTES}"
        )
    return load(data, policy).policy_state


def _read_only(obs: Observation) -> Observation:
    shown = obs.window
    arrays = {f.name: _locked(getattr(shown, f.name)) for f in fields(Block)[3:]}
    window = Block(shown.stream, shown.first, shown.time_base, **arrays)
    previews = {grade: _locked(rows) for grade, rows in obs.previews.items()}
    return replace(
        obs,
        window=window,
        status=_locked(obs.status),
        reach_cost_ms=_locked(obs.reach_cost_ms),
        previews=previews,
    )


def _locked(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def check_policy(policy: Policy[Any], sources: Sequence[Source] | None = None) -> None:
    """Whether a policy keeps its contract; runs it over streams and raises at the first breach.

    It states its name, version, previews and lookahead; answers plans that the engine can carry
    out and closes every item; answers the same when asked again, as a copy of itself, and when its
    state went through a checkpoint before every decision; and writes into nothing it is shown.

    Args:
        policy: An instance.
        sources: Streams to show it; made-up ones when not given.

    Raises:
        PlanError: What it did wrong, on which stream, and what to change.
        StoreError: Its state does not fit into a checkpoint.
    """
    _check_attributes(policy)
    for source in sources if sources is not None else _streams():
        first = watch(policy, source, audit_rate=0.1)
        _check_closed(policy, source, first)
        for how, other, through_checkpoints in (
            ("asked a second time", policy, False),
            ("as a copy of itself", deepcopy(policy), False),
            ("with its state stored and loaded before every decision", deepcopy(policy), True),
        ):
            again = watch(other, source, audit_rate=0.1, through_checkpoints=through_checkpoints)
            _check_same(policy, source, first, again, how)


def _streams() -> list[Source]:
    return [
        Synthetic(num_items=203, kind="change", every=12, keyframe_every=30),
        Synthetic(num_items=97, kind="cue", every=10, keyframe_every=16, seed=1),
        Synthetic(num_items=1),
    ]


def _check_attributes(policy: Policy[Any]) -> None:
    who = f"policy {type(policy).__name__}"
    for key in ("name", "version"):
        value = getattr(policy, key, None)
        if not isinstance(value, str) or not value:
            raise PlanError(
                f"{who}: {key} must be a non-empty str, got {value!r}; set it on the class"
            )
    for key in ("previews", "glances"):
        value = getattr(policy, key, None)
        if not isinstance(value, frozenset) or not value <= set(get_args(Grade)):
            raise PlanError(
                f"{who}: {key} must be a frozenset of {get_args(Grade)}, got {value!r}; name only "
                "grades that exist"
            )
    lookahead = getattr(policy, "lookahead", None)
    if not isinstance(lookahead, int) or lookahead < 1:
        raise PlanError(f"{who}: lookahead must be at least 1 item, got {lookahead!r}; set it")


def _check_closed(policy: Policy[Any], source: Source, watched: Watched) -> None:
    if any(plan.stop for _, plan in watched.plans):
        return
    cursor, expected = source.open(), 0
    while (block := cursor.next_block()) is not None:
        expected = block.stop
    cursor.close()
    closed = sum(result.receipt.num_items for result in watched.results)
    if closed != expected:
        raise PlanError(
            f"policy {policy.name} closed {closed} of {expected} items of {source.stream} without "
            "a stop; close every item that is shown"
        )


def _check_same(
    policy: Policy[Any], source: Source, first: Watched, again: Watched, how: str
) -> None:
    same = len(first.plans) == len(again.plans) and all(
        _equal(a, b) for (_, a), (_, b) in zip(first.plans, again.plans, strict=True)
    )
    if not same or first.processed != again.processed:
        raise PlanError(
            f"policy {policy.name} answered otherwise on {source.stream} {how}; let the plan "
            "depend on the observation and the state only, and keep what is remembered in the state"
        )


def _equal(left: Plan, right: Plan) -> bool:
    ranked = left.scores is not None and right.scores is not None
    return (
        np.array_equal(left.actions, right.actions)
        and (left.done, left.hop, left.stop) == (right.done, right.hop, right.stop)
        and left.efforts == right.efforts
        and (left.scores is None) == (right.scores is None)
        and (not ranked or np.array_equal(left.scores, right.scores, equal_nan=True))  # type: ignore[arg-type]
    )
