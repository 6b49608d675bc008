"""What would another policy have cost and kept? Answered from a trace, without decoding.

The windows, previews and outcomes of the trace stand in for the video and the recognizer. Where
the other policy asks for an item that nobody looked at, the nearest recorded outcome stands in and
is counted as assumed; a trace of a full pass leaves nothing to assume.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from streamdyn.audit import AuditRule
from streamdyn.budget import Budget
from streamdyn.clock import Pts
from streamdyn.errors import ConfigError, SourceError
from streamdyn.items import Array, Block, FrameSpec, Item, ItemError, Selection
from streamdyn.observation import Grade
from streamdyn.outcome import Outcome
from streamdyn.protocols import Policy, Position, Recognizer, SourceInfo
from streamdyn.receipt import Receipt
from streamdyn.registry import build
from streamdyn.run.local import run_stream
from streamdyn.timeline import Propagation, WindowResult, propagate
from streamdyn.trace import block_from_json, outcome_from_json, preview_rows, read_trace

_NOTHING = np.empty((0, 0, 3), np.uint8)


class RecordedStream:
    """A trace as a source: hands out the recorded windows, and items without pixels."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.outcomes: dict[int, Outcome] = {}
        self.previews: dict[Grade, dict[int, Array]] = {}
        self.blocks: list[Block] = []
        self.receipt = Receipt()
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
        self.stream: str = self.header["stream"]

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

    def open(self, resume_from: Position | None = None) -> RecordedCursor:
        """A cursor at the start; a replay is not resumed."""
        if resume_from is not None:
            raise ConfigError(f"cannot resume the replay of {self.path}: run it from the start")
        return RecordedCursor(self)


class RecordedCursor:
    """Where we are in a trace."""

    def __init__(self, source: RecordedStream) -> None:
        self._source, self._next = source, 0
        self._receipt = Receipt()
        self._firsts = [block.first for block in source.blocks]
        self._reached: dict[int, int] = {}
        self._decoded: set[int] = set()
        width, height = source.header.get("size", (0, 0))
        self.info = SourceInfo(
            source.stream, "frame", "trace", source.blocks[0].time_base, width, height
        )

    def next_block(self) -> Block | None:
        """The next recorded items."""
        if self._next == len(self._source.blocks):
            return None
        self._next += 1
        return self._source.blocks[self._next - 1]

    def materialize(
        self, ordinals: Sequence[int], spec: FrameSpec
    ) -> tuple[list[Item], list[ItemError]]:
        """Items without pixels; counts the packets that decoding them would have fed."""
        for ordinal in ordinals:
            self._decode(ordinal)
        return [Item(self._source.stream, o, self._pts(o), _NOTHING) for o in ordinals], []

    def preview(self, grade: Grade, ordinals: Sequence[int]) -> Array:
        """The recorded previews.

        Raises:
            ConfigError: The recorded policy did not pay for one of them.
        """
        known = self._source.previews.get(grade, {})
        missing = next((o for o in ordinals if o not in known), None)
        if missing is not None:
            raise ConfigError(
                f"cannot replay with {grade} previews: the trace {self._source.path} has none of "
                f"item {missing}; record one with a policy that looks at all of them"
            )
        if grade != "audio":
            for ordinal in ordinals:
                self._decode(ordinal)
        return np.stack([known[o] for o in ordinals])

    def _place(self, ordinal: int) -> tuple[Block, int]:
        block = self._source.blocks[bisect_right(self._firsts, ordinal) - 1]
        return block, ordinal - block.first

    def _pts(self, ordinal: int) -> Pts:
        block, i = self._place(ordinal)
        return block.pts_at(i)

    def _decode(self, ordinal: int) -> None:
        if ordinal in self._decoded:
            return
        block, i = self._place(ordinal)
        gop, reach, disposable = int(block.gop[i]), int(block.reach[i]), bool(block.disposable[i])
        reached = self._reached.get(gop, 0)
        behind = reach if disposable else 0
        self._receipt.num_decoded += reach - reached if reach > reached else behind
        self._reached[gop] = max(reached, reach - disposable)
        self._decoded.add(ordinal)

    def release(self, before: int) -> None:
        """Nothing is held."""

    def hop_to(self, ordinal: int) -> None:
        """Replays read every window."""

    def take_receipt(self) -> Receipt:
        """The packets that would have been decoded."""
        spent, self._receipt = self._receipt, Receipt()
        return spent

    def close(self) -> None:
        """Nothing is open."""


class RecordedRecognizer:
    """Answers with the recorded outcomes."""

    version = "recorded"
    input = FrameSpec(None, None)
    batch_size = 1 << 20

    def __init__(self, source: RecordedStream, recognizer: Recognizer) -> None:
        self.name = recognizer.name
        self.agree = recognizer.agree
        self._source = source
        self._known = sorted(source.outcomes)
        self.num_assumed = 0
        if not self._known:
            raise ConfigError(f"cannot replay {source.path}: it holds no outcomes")

    def setup(self, device: str) -> None:
        """Nothing to load."""

    def initial_hidden(self) -> None:
        """Stateless."""

    def recognize(self, selection: Selection, hidden: Any) -> tuple[list[Outcome], Any]:
        """The recorded outcome of each item, or the nearest one."""
        return [self._answer(item) for item in selection.items], hidden

    def _answer(self, item: Item) -> Outcome:
        ordinal = item.ordinal
        outcome = self._source.outcomes.get(ordinal)
        if outcome is not None:
            return outcome
        self.num_assumed += 1
        place = bisect_left(self._known, ordinal)
        near = self._known[max(0, place - 1) : place + 1]
        source = self._source.outcomes[min(near, key=lambda known: abs(known - ordinal))]
        return replace(source, ordinal=ordinal, pts=item.pts)


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
    recorded: RecordedStream,
    policy: Policy[Any],
    recognizer: Recognizer,
    *,
    budget: Budget | None = None,
    audit: AuditRule | None = None,
    propagation: Propagation = "two-sided",
) -> ReplayResult:
    """Run a policy over a recorded stream.

    Args:
        recorded: The trace.
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
