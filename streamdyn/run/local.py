"""Run a session in this process: no threads, no Ray, one stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from streamdyn import checkpoint
from streamdyn.audit import Agreement, AuditRule
from streamdyn.budget import Budget
from streamdyn.checkpoint import SessionState
from streamdyn.engine import Answer, Session
from streamdyn.items import Selection
from streamdyn.protocols import Cursor, Policy, Recognizer, Sink, Source
from streamdyn.receipt import Receipt
from streamdyn.timeline import Propagation, WindowResult
from streamdyn.trace import Trace


@runtime_checkable
class Elsewhere(Protocol):
    """A recognizer that runs in another process and says itself what its answers cost."""

    def take_receipt(self) -> Receipt:
        """What was spent since the last call."""


@dataclass(slots=True)
class RunSummary:
    """What a run over one stream did."""

    stream: str
    receipt: Receipt = field(default_factory=Receipt)
    audit_receipt: Receipt = field(default_factory=Receipt)
    agreement: Agreement | None = None
    """`None` where nothing was audited."""
    policy_state: Any = None
    """Where the policy stood at the end, to start the next stream from."""
    hidden: Any = None
    """The recognizer's recurrent state at the end."""


def drive(
    session: Session,
    recognizer: Recognizer,
    on_looks: Callable[[Selection], None] | None = None,
) -> Iterator[WindowResult]:
    """Run a session against a recognizer of this process; the results as windows close.

    Args:
        session: To run.
        recognizer: Set up.
        on_looks: Told of what is recognized, before it is.
    """
    if session.state.hidden is None:
        session.state.hidden = recognizer.initial_hidden()
    events = session.run()
    answer: Answer | None = None
    while True:
        try:
            event = events.send(answer)
        except StopIteration:
            return
        if isinstance(event, WindowResult):
            answer = None
            yield event
            continue
        if on_looks is not None:
            on_looks(event.selection)
        receipt, is_plan = Receipt(), event.purpose == "plan"
        hidden = session.state.hidden if is_plan else recognizer.initial_hidden()
        with receipt.timed("recognize"):
            outcomes, hidden = recognizer.recognize(event.selection, hidden)
        if isinstance(recognizer, Elsewhere):
            receipt = recognizer.take_receipt()
        if is_plan:
            session.state.hidden = hidden
        answer = Answer(outcomes, receipt)


def run_cursor(
    cursor: Cursor,
    policy: Policy[Any],
    recognizer: Recognizer,
    *,
    sink: Sink | None = None,
    budget: Budget | None = None,
    audit: AuditRule | None = None,
    propagation: Propagation = "two-sided",
    trace: Trace | None = None,
    resume: SessionState | None = None,
    on_window: Callable[[WindowResult], None] | None = None,
) -> RunSummary:
    """Watch a stream from where its cursor stands to its end.

    Args:
        cursor: Opened at `resume.position`, or at the start.
        policy: Chooses.
        recognizer: Looks; `setup` was called.
        sink: Gets the result of every window with the checkpoint that covers it.
        budget: Limits; a resumed run keeps those it began with.
        audit: How many skipped items to look at after all.
        propagation: How audits predict skipped items.
        trace: Told of every decision.
        resume: The state to go on from.
        on_window: Called after each window is stored, for progress.

    Raises:
        StreamdynError: Anything that went wrong with the source, the plan or the recognizer.
    """
    session = Session(
        cursor,
        policy,
        recognizer,
        budget=budget,
        audit=audit,
        propagation=propagation,
        trace=trace,
        resume=resume,
    )
    summary = RunSummary(cursor.info.stream)
    for result in drive(session, recognizer):
        if sink is not None:
            with result.receipt.timed("sink"):
                sink.write(result, checkpoint.dump(session.state))
        summary.receipt += result.receipt
        summary.audit_receipt += result.audit_receipt
        if on_window is not None:
            on_window(result)
    if audit is not None and audit.rate:
        summary.agreement = session.state.tally.agreement()
    summary.policy_state = session.state.policy_state
    summary.hidden = session.state.hidden
    return summary


def run_stream(
    source: Source, policy: Policy[Any], recognizer: Recognizer, **options: Any
) -> RunSummary:
    """Watch one stream from its start, or from `resume`, to its end; options of `run_cursor`."""
    resume: SessionState | None = options.get("resume")
    with closing(source.open(None if resume is None else resume.position)) as cursor:
        return run_cursor(cursor, policy, recognizer, **options)
