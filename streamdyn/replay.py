"""What would another policy have cost and kept? Answered from a trace, without decoding.

The windows, previews and outcomes of the trace stand in for the video and the recognizer. Where
the other policy asks for an item that nobody looked at, the nearest recorded outcome stands in and
is counted as assumed; a trace of a full pass leaves nothing to assume.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamdyn.audit import AuditRule
from streamdyn.budget import Budget
from streamdyn.errors import ConfigError, SourceError
from streamdyn.items import Array
from streamdyn.observation import Grade
from streamdyn.outcome import Outcome
from streamdyn.protocols import Policy, Recognizer
from streamdyn.receipt import Receipt
from streamdyn.recording import Agreeing, RecordedRecognizer, Recording
from streamdyn.registry import build
from streamdyn.run.local import run_stream
from streamdyn.timeline import Propagation, WindowResult, propagate
from streamdyn.trace import block_from_json, outcome_from_json, preview_rows, read_trace


class RecordedStream(Recording):
    """A trace as a source: hands out the recorded windows, and items without pixels."""

    def __init__(self, path: str | Path) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self.previews: dict[Grade, dict[int, Array]] = {}
        super().__init__(str(path), "", [], self.outcomes, self.previews)
        self.header: dict[str, Any] = {}
        for number, record in enumerate(read_trace(path), 1):
            try:
                self._take(record)
            except (ArithmeticError, LookupError, TypeError, ValueError) as exc:
                raise SourceError(
                    f"cannot replay line {number} of the trace {path}: it is damaged ({exc!r}); "
                    "record the trace again"
                ) from exc
        if not self.blocks:
            raise ConfigError(f"cannot replay {path}: it holds no windows; the run saw no items")
        self.stream = self.header["stream"]
        self.size = tuple(self.header.get("size", (0, 0)))

    def _take(self, record: dict[str, Any]) -> None:
        match record.pop("type"):
            case "stream":
                self.header = record
            case "window":
                block = block_from_json(record, self.header["stream"])
                # Items handed back by an early close are shown again in the next window.
                seen = self.blocks[-1].stop if self.blocks else block.first
                if block.first > seen:
                    raise ValueError(f"the window of items {seen}..{block.first} is missing")
                if block.stop > seen:
                    self.blocks.append(block.slice(max(0, seen - block.first), len(block)))
            case "preview":
                rows = self.previews.setdefault(record["grade"], {})
                rows.update(zip(record["items"], preview_rows(record), strict=True))
            case "outcome":
                outcome = outcome_from_json(record)
                self.outcomes[outcome.ordinal] = outcome
            case "receipt":
                del record["first"], record["stop"]
                self.receipt += Receipt(**record)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What another policy would have done."""

    stream: str
    policy: str
    num_items: int
    num_processed: int
    num_audits: int
    """Looked at after all, on top."""
    share_recognized: float
    """Recognizer calls per item, audits included."""
    num_assumed: int
    """Of these calls: never looked at in the recorded run; the nearest outcome stood in."""
    agreement: float
    """Mean over the items with a recorded outcome, in [0, 1]."""
    num_compared: int
    num_decoded: int
    """Packets that a decoder would have been fed, from the recorded reach of each item."""
    estimated_ms: float | None
    """From the recorded run's milliseconds per packet, picture and call; `None` without them."""

    def as_dict(self) -> dict[str, Any]:
        """Every field by name."""
        return asdict(self)


def replay(
    recorded: Recording,
    policy: Policy[Any],
    recognizer: Agreeing,
    *,
    budget: Budget | None = None,
    audit: AuditRule | None = None,
    propagation: Propagation = "two-sided",
) -> ReplayResult:
    """Run a policy over a recorded stream.

    Args:
        recorded: The trace, or the features of a full pass.
        policy: The other policy.
        recognizer: Only its `agree` is used.
        budget: As in a real run.
        audit: As in a real run; a policy that tunes itself needs it.
        propagation: How skipped items get their outcome.
    """
    stand_in = RecordedRecognizer(recorded, recognizer)
    results: list[WindowResult] = []
    summary = run_stream(
        recorded,
        policy,
        stand_in,
        budget=budget,
        audit=audit,
        propagation=propagation,
        on_window=results.append,
    )
    outcomes = {o.ordinal: o for result in results for o in result.outcomes}
    pts = np.concatenate([result.window.pts for result in results])
    first = results[0].window.first
    sources = propagate(pts, sorted(o - first for o in outcomes), propagation)
    scores = [
        recognizer.agree(outcomes[first + int(sources[o - first])], found)
        if sources[o - first] >= 0
        else 0.0
        for o, found in recorded.outcomes.items()
        if o < first + len(pts)
    ]
    spent, total = recorded.receipt, summary.receipt + summary.audit_receipt
    estimate = None
    if spent.num_decoded and spent.num_processed:
        call_ms = (spent.recognize_ms + spent.convert_ms) / spent.num_processed
        preview_ms = spent.preview_ms / max(1, spent.num_glanced)
        estimate = (
            spent.demux_ms
            + total.num_decoded * spent.decode_ms / spent.num_decoded
            + total.num_glanced * preview_ms
            + total.num_processed * call_ms
            + total.policy_ms
        )
    return ReplayResult(
        recorded.stream,
        f"{policy.name}/{policy.version}",
        summary.receipt.num_items,
        summary.receipt.num_processed,
        summary.audit_receipt.num_processed,
        total.num_processed / total.num_items,
        stand_in.num_assumed,
        float(np.mean(scores)),
        len(scores),
        total.num_decoded,
        estimate,
    )


def build_recognizer_of(recorded: RecordedStream) -> Recognizer:
    """The recognizer a trace was made with, for its `agree`; not set up."""
    return build("recognizer", recorded.header["recognizer"], **recorded.header["options"])  # type: ignore[no-any-return]
