"""Run a session in this process: no threads, no Ray, one stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from streamdyn import checkpoint
from streamdyn.audit import Agreement, AuditRule
from streamdyn.budget import Budget
from streamdyn.engine import Answer, Session
from streamdyn.protocols import Policy, Recognizer, Sink, Source
from streamdyn.receipt import Receipt
from streamdyn.timeline import Propagation, WindowResult
from streamdyn.trace import Trace


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


def drive(session: Session, recognizer: Recognizer) -> Iterator[WindowResult]:
    """Run a session against a recognizer of this process; the results as windows close."""
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
        receipt, is_plan = Receipt(), event.purpose == "plan"
        hidden = session.state.hidden if is_plan else recognizer.initial_hidden()
        with receipt.timed("recognize"):
            outcomes, hidden = recognizer.recognize(event.selection, hidden)
        if is_plan:
            session.state.hidden = hidden
        answer = Answer(outcomes, receipt)


def run_stream(
    source: Source,
    policy: Policy[Any],
    recognizer: Recognizer,
    *,
    sink: Sink | None = None,
    budget: Budget | None = None,
    audit: AuditRule | None = None,
    propagation: Propagation = "two-sided",
    trace: Trace | None = None,
    resume: bytes | None = None,
    policy_state: Any = None,
    on_window: Callable[[WindowResult], None] | None = None,
) -> RunSummary:
    """Watch one stream from where it was left to its end.

    Args:
        source: What to read.
        policy: Chooses.
        recognizer: Looks; `setup` was called.
        sink: Gets the result of every window with the checkpoint that covers it.
        budget: Limits.
        audit: How many skipped items to look at after all.
        propagation: How audits predict skipped items.
        trace: Told of every decision.
        resume: A checkpoint of the sink; `None` starts afresh.
        policy_state: Where the policy starts, instead of its initial state.
        on_window: Called after each window is stored, for progress.

    Raises:
        StreamdynError: Anything that went wrong with the source, the plan or the recognizer.
    """
    state = None if resume is None else checkpoint.load(resume, policy)
    summary = RunSummary(source.stream)
    with closing(source.open(None if state is None else state.position)) as cursor:
        session = Session(
            cursor,
            policy,
            recognizer,
            budget=budget,
            audit=audit,
            propagation=propagation,
            trace=trace,
            resume=state,
        )
        if state is None and policy_state is not None:
            session.state.policy_state = policy_state
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
    return summary
