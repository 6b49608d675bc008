"""The engine: the only place where a plan is carried out.

A `Session` is sans-I/O towards the recognizer: `run()` yields a `Request` and is sent an `Answer`,
and yields a `WindowResult` whenever items are closed. It knows no threads and no Ray; a runner
drives it. One stream in one breath:

```
fill the window ─▶ decide ─▶ carry out what was decided ─▶ any item open? ── yes ─▶ decide again
                                                                 │ no
                          close: audits, receipt, result ◀───────┘
```
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from streamdyn.audit import AuditDesk, AuditRule, PendingAudit
from streamdyn.budget import Budget
from streamdyn.checkpoint import SessionState, starting_state
from streamdyn.errors import ConfigError, PlanError, RecognizerError
from streamdyn.items import Array, Block, Item, Selection
from streamdyn.observation import Grade, Observation, Status
from streamdyn.outcome import Outcome
from streamdyn.plan import FULL_EFFORT, Action, Plan
from streamdyn.protocols import Cursor, Policy, Position, Recognizer
from streamdyn.reach import nominal_ms_per_packet
from streamdyn.receipt import Receipt
from streamdyn.timeline import Propagation, Reason, WindowResult
from streamdyn.trace import Trace
from streamdyn.window import OpenWindow, by_spec, media_seconds

Purpose = Literal["plan", "audit"]


@dataclass(frozen=True, slots=True)
class Request:
    """What the recognizer should look at; audits must not touch its hidden state."""

    selection: Selection
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class Answer:
    """One outcome for each item of a request, in order, and what they cost."""

    outcomes: Sequence[Outcome]
    receipt: Receipt


Events = Generator[Request | WindowResult, Answer | None, None]
Asking = Generator[Request, Answer, list[Outcome]]


class Session:
    """One stream, one policy; drives a cursor and asks for recognition.

    Args:
        cursor: Opened at `resume.position` when resuming.
        policy: Decides.
        recognizer: Only its `input`, `batch_size` and `agree` are used.
        budget: Kept whatever the policy asks for.
        audit: How many skipped items to look at after all.
        propagation: How audits predict what was skipped.
        trace: Told of every decision.
        resume: State of an earlier session at its last closed window.

    Raises:
        ConfigError: The policy wants to see no items at once.
    """

    def __init__(
        self,
        cursor: Cursor,
        policy: Policy[Any],
        recognizer: Recognizer,
        *,
        budget: Budget | None = None,
        audit: AuditRule | None = None,
        propagation: Propagation = "two-sided",
        trace: Trace | None = None,
        resume: SessionState | None = None,
    ) -> None:
        if not isinstance(policy.lookahead, int) or policy.lookahead < 1:
            raise ConfigError(
                f"cannot run policy {policy.name!r}: its lookahead is {policy.lookahead!r}; it "
                "must be a whole number of items, at least 1"
            )
        self._cursor, self._policy, self._recognizer = cursor, policy, recognizer
        self._trace = trace
        info = cursor.info
        self._ms_per_packet = nominal_ms_per_packet(info.width, info.height)
        self.state = resume or starting_state(policy, policy.initial_state(), budget or Budget())
        self._audits = AuditDesk(
            audit or AuditRule(),
            propagation,
            recognizer.agree,
            self.state.tally,
            self.state.pending_audits,
        )
        self._buffer: Block | None = None
        self._ended = False

    def run(self) -> Events:
        """Drive the stream to its end."""
        while not self.state.stopped:
            if self.state.hop_left:
                yield from self._hop()
            block = self._fill(self._policy.lookahead)
            if block is None:
                break
            yield from self._watch(block)
        self.state.stopped = True

    def _fill(self, num_items: int) -> Block | None:
        """The next `num_items` items, fewer only at the end; takes them out of the buffer."""
        blocks = [] if self._buffer is None else [self._buffer]
        held = sum(map(len, blocks))
        # A file is read one block further, so that its last window is known to be the last.
        while held < num_items + (not self._cursor.info.live) and not self._ended:
            block = self._cursor.next_block()
            if block is None:
                self._ended = True
            else:
                blocks.append(block)
                held += len(block)
        if not blocks:
            return None
        joined = Block.join(blocks)
        taken = min(num_items, held)
        self._buffer = joined.slice(taken, held) if taken < held else None
        return joined.slice(0, taken)

    def _hop(self) -> Events:
        """Leave items unseen; they are demuxed, which is nearly free, so that time stays exact."""
        while self.state.hop_left and (block := self._fill(min(self.state.hop_left, 4096))):
            self.state.hop_left -= len(block)
            self._pass_by(block)
            window = self._open(block)
            window.status[:] = Status.SKIPPED
            window.reasons[:] = Reason.HOPPED
            yield from self._close(window)
        self.state.hop_left = 0

    def _pass_by(self, block: Block) -> None:
        seconds = media_seconds(block, self.state.position.after_ticks)
        self.state.meter.pass_by(len(block), seconds)

    def _open(self, block: Block) -> OpenWindow:
        if self._trace is not None:
            self._trace.window(block)
        return OpenWindow.of(block, self._ms_per_packet)

    def _watch(self, block: Block) -> Events:
        window, state = self._open(block), self.state
        self._pass_by(block)
        self._preview(window, self._policy.previews - {"packet"}, range(len(block)))
        last_outcomes: dict[int, Outcome] = {}
        round_number = 0
        while True:
            obs = self._observe(window, last_outcomes)
            thought = Receipt()
            with thought.timed("policy"):
                plan, state.policy_state = self._policy.decide(obs, state.policy_state)
            state.meter.spend(thought)
            window.receipt += thought
            self._check(window, plan)
            if self._trace is not None:
                self._trace.plan(block, plan, round_number, obs.reach_cost_ms)
            last_outcomes = yield from self._carry_out(window, plan, obs)
            round_number += 1
            if plan.stop or plan.done is not None or not window.open_items().any():
                break
        yield from self._close_some(window, plan)

    def _observe(self, window: OpenWindow, last_outcomes: dict[int, Outcome]) -> Observation:
        return Observation(
            window=window.block,
            status=window.status.copy(),
            ended=self._ended and self._buffer is None,
            reach_cost_ms=window.reach.cost_ms(),
            agree=self._recognizer.agree,
            outcomes=dict(window.outcomes),
            last_outcomes=last_outcomes,
            left=self.state.left,
            previews=dict(window.previews),
            budget_left=self.state.meter.left(),
            audits=self._audits.summary(),
        )

    def _carry_out(
        self, window: OpenWindow, plan: Plan, obs: Observation
    ) -> Generator[Request, Answer, dict[int, Outcome]]:
        can_change = window.open_items()
        if plan.scores is not None:
            window.scores[can_change] = plan.scores[can_change]
        window.status[can_change & (plan.actions == Action.SKIP)] = Status.SKIPPED
        glanced = np.flatnonzero(can_change & (plan.actions == Action.GLANCE))
        if glanced.size:
            self._preview(window, self._policy.glances, glanced)
            window.status[glanced] = Status.GLANCED
        chosen = np.flatnonzero(can_change & (plan.actions >= Action.PARTIAL))
        allowed = self._within_budget(window, plan, chosen, obs.budget_left.items)
        before = set(window.outcomes)
        for start in range(0, len(allowed), self._recognizer.batch_size):
            batch = allowed[start : start + self._recognizer.batch_size]
            yield from self._recognize(window, plan, batch)
        return {i: o for i, o in window.outcomes.items() if i not in before}

    def _check(self, window: OpenWindow, plan: Plan) -> None:
        who, n = self.state.policy, len(window.block)
        if len(plan.actions) != n:
            raise PlanError(
                f"policy {who} answered {len(plan.actions)} actions for a window of {n} items"
            )
        if plan.actions.max(initial=0) > max(Action):
            raise PlanError(f"policy {who} answered an unknown action {plan.actions.max()}")
        is_open = window.open_items()
        decided = is_open & (plan.actions != Action.OPEN)
        again = (window.status == Status.GLANCED) & (plan.actions == Action.GLANCE)
        if not (decided & ~again).any() and not plan.stop and plan.done is None and is_open.any():
            raise PlanError(f"policy {who} left all {is_open.sum()} open items open: no progress")
        if plan.done is not None:
            beyond = np.arange(n) >= plan.done
            if (
                beyond & ((window.status == Status.OBSERVED) | (plan.actions >= Action.PARTIAL))
            ).any():
                raise PlanError(
                    f"policy {who} closed {plan.done} items and chose one after them; close it too"
                )

    def _within_budget(
        self, window: OpenWindow, plan: Plan, chosen: Array, limit: float | None
    ) -> Array:
        if limit is None or len(chosen) <= limit:
            return chosen
        wanted = chosen
        if plan.scores is not None:
            wanted = chosen[np.argsort(-plan.scores[chosen], kind="stable")]
        kept, refused = np.sort(wanted[: int(limit)]), wanted[int(limit) :]
        window.status[refused] = Status.SKIPPED
        window.reasons[refused] = Reason.OVER_BUDGET
        return kept

    def _recognize(
        self, window: OpenWindow, plan: Plan, indices: Array
    ) -> Generator[Request, Answer, None]:
        block, receipt = window.block, Receipt()
        items: dict[int, Item] = {}
        for spec, group in by_spec(self._recognizer.input, plan, indices):
            found, errors = self._cursor.materialize([block.first + i for i in group], spec)
            items.update((item.ordinal - block.first, item) for item in found)
            window.errors.extend(errors)
            failed = [error.ordinal - block.first for error in errors]
            window.status[failed], window.reasons[failed] = Status.FAILED, Reason.FAILED
        window.reach.take(indices)
        order = sorted(items)
        if order:
            actions = tuple(Action(int(plan.actions[i])) for i in order)
            efforts = tuple(plan.efforts.get(i, FULL_EFFORT) for i in order)
            selection = Selection(tuple(items[i] for i in order), actions, efforts)
            outcomes = yield from self._ask(selection, "plan", receipt)
            window.outcomes.update(zip(order, outcomes, strict=True))
            partial = np.array([action == Action.PARTIAL for action in actions])
            window.status[order] = Status.OBSERVED
            window.reasons[order] = np.where(partial, Reason.PARTIAL, Reason.PROCESSED)
            receipt.num_partial += int(partial.sum())
            receipt.num_processed += int((~partial).sum())
        receipt += self._cursor.take_receipt()
        self.state.meter.spend(receipt)
        window.receipt += receipt

    def _ask(self, selection: Selection, purpose: Purpose, receipt: Receipt) -> Asking:
        answer = yield Request(selection, purpose)
        outcomes = list(answer.outcomes)
        if [o.ordinal for o in outcomes] != [item.ordinal for item in selection.items]:
            raise RecognizerError(
                f"recognizer {self._recognizer.name} answered for items "
                f"{[o.ordinal for o in outcomes]}, asked was {[i.ordinal for i in selection.items]}"
            )
        receipt.recognize_ms += answer.receipt.recognize_ms
        receipt.transfer_ms += answer.receipt.transfer_ms
        receipt.queue_ms += answer.receipt.queue_ms
        if self._trace is not None:
            self._trace.outcomes(outcomes, purpose)
        return outcomes

    def _preview(
        self, window: OpenWindow, grades: Iterable[Grade], indices: Sequence[int] | Array
    ) -> None:
        for grade in sorted(grades):
            ordinals = [window.block.first + int(i) for i in indices]
            rows = self._cursor.preview(grade, ordinals)
            if self._trace is not None:
                self._trace.preview(grade, ordinals, rows)
            if grade not in window.previews:
                shape = (len(window.block), *rows.shape[1:])
                window.previews[grade] = np.full(shape, np.nan, np.float32)
            window.previews[grade][np.asarray(indices)] = rows
            window.reach.take(np.asarray(indices))
            window.receipt.num_glanced += len(rows)
        receipt = self._cursor.take_receipt()
        self.state.meter.spend(receipt)
        window.receipt += receipt

    def _close_some(self, window: OpenWindow, plan: Plan) -> Events:
        """Close the window, or the first `plan.done` items of it, and hand the rest back."""
        n, done = len(window.block), int(plan.done or len(window.block))
        if done < n:
            rest = window.block.slice(done, n)
            last_closed = int(window.block.pts[done - 1])
            self.state.meter.give_back(len(rest), media_seconds(rest, last_closed))
            self._buffer = rest if self._buffer is None else Block.join([rest, self._buffer])
            window = window.first_items(done)
        window.status[window.open_items()] = Status.SKIPPED
        self.state.hop_left, self.state.stopped = int(plan.hop), bool(plan.stop)
        yield from self._close(window)

    def _close(self, window: OpenWindow) -> Events:
        block, state = window.block, self.state
        skipped = np.flatnonzero(window.status == Status.SKIPPED)
        packets = window.reach.packets()
        audit_receipt = Receipt()
        drawn = self._audits.draw(block, skipped, packets)
        looked_up: list[Outcome] = []
        window.receipt += self._cursor.take_receipt()
        for start in range(0, len(drawn), self._recognizer.batch_size):
            batch = list(drawn)[start : start + self._recognizer.batch_size]
            found, errors = self._cursor.materialize(batch, self._recognizer.input)
            window.errors.extend(errors)
            if found:
                selection = Selection.in_full(found)
                looked_up += yield from self._ask(selection, "audit", audit_receipt)
        audit_receipt += self._cursor.take_receipt()
        audit_receipt.num_processed = len(looked_up)
        outcomes = tuple(window.outcomes[i] for i in sorted(window.outcomes))
        audits = self._audits.settle(
            state.left,
            outcomes,
            [PendingAudit(outcome, drawn[outcome.ordinal], None) for outcome in looked_up],
            final=state.stopped or self._cursor.info.live or (self._ended and self._buffer is None),
        )
        state.tally.num_items += len(block)
        state.tally.num_observed += len(outcomes)
        if outcomes:
            state.left = outcomes[-1]
        state.position = Position(block.stop, int(block.pts[-1]))
        window.receipt.num_items, window.receipt.num_skipped = len(block), len(skipped)
        window.receipt.num_over_budget = int((window.reasons == Reason.OVER_BUDGET).sum())
        self._cursor.release(block.stop)
        if self._trace is not None:
            self._trace.receipt(block.first, block.stop, window.receipt)
        yield WindowResult(
            block,
            window.reasons,
            window.scores,
            outcomes,
            tuple(window.errors),
            audits,
            window.receipt,
            audit_receipt,
        )
