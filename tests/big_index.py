"""An index of one long file in which everything that can happen to an item happens."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from streamdyn.clock import Pts
from streamdyn.index import MediaRow, SqliteIndex
from streamdyn.items import Block, ItemError
from streamdyn.outcome import Outcome
from streamdyn.receipt import Receipt
from streamdyn.timeline import Audit, Reason, WindowResult

TIME_BASE = Fraction(1, 12_800)
LABELS = ("street", "bus", "street", "cat", "door", "umbrella")


def add_long_file(
    index: SqliteIndex, path: str, *, num_items: int = 200_000, window_items: int = 2000
) -> MediaRow:
    """Add a file that is done: items at 25 a second, one in 40 looked at.

    In each window two items failed, ten were over budget, thirty were hopped over, one audit
    agrees and one does not; in every fourth window items were looked at in part.
    """
    media = MediaRow(
        path, codec="h264", width=1920, height=1080, rate=Fraction(25), time_base=TIME_BASE,
        num_items=num_items, note="times were <worked out> from the order of the packets",
    )  # fmt: skip
    sink = index.begin(media, "c")
    for first in range(0, num_items, window_items):
        sink.write(_window(path, first, window_items), None)
    sink.finish()
    return media


def _window(path: str, first: int, n: int) -> WindowResult:
    ordinals = np.arange(first, first + n)
    keyframe = ordinals % 250 == 0
    noise = np.random.default_rng(first).integers(0, 900, n)
    busy = 1 + np.abs(np.sin(ordinals / 9000))
    num_bytes = np.where(keyframe, 90_000, 2000 * busy + noise).astype(np.int32)
    block = Block(
        path, first, TIME_BASE, ordinals * 512, keyframe, num_bytes, ~keyframe,
        (ordinals // 250).astype(np.int32), (ordinals % 250 + 1).astype(np.int32),
    )  # fmt: skip
    reasons = np.zeros(n, np.uint8)
    reasons[::40] = Reason.PARTIAL if first // n % 4 == 3 else Reason.PROCESSED
    reasons[[11, 12]] = Reason.FAILED
    reasons[101:111] = Reason.OVER_BUDGET
    reasons[521:551] = Reason.HOPPED
    outcomes = tuple(_outcome(path, int(o)) for o in ordinals[::40])
    errors = tuple(
        ItemError(first + i, Pts((first + i) * 512, TIME_BASE), "a broken <slice>")
        for i in (11, 12)
    )
    audits = tuple(
        Audit(first + i, (first + i) * 512, agreement, 250.0, first, "street", "bus")
        for i, agreement in ((777, 1.0), (1333, 0.0))
    )
    calls, milliseconds = len(outcomes), 5.0 * len(outcomes)
    receipt = Receipt(
        num_items=n, num_demuxed=n, num_decoded=n // 2, num_converted=calls, num_processed=calls,
        num_skipped=n - calls, num_over_budget=10, num_errors=2, demux_ms=20.0, decode_ms=500.0,
        convert_ms=40.0, policy_ms=3.0, recognize_ms=milliseconds, sink_ms=2.0,
    )  # fmt: skip
    audit_receipt = Receipt(
        num_decoded=200, num_converted=2, num_processed=2, decode_ms=200.0, recognize_ms=10.0
    )
    scores = np.full(n, np.nan, np.float32)
    return WindowResult(block, reasons, scores, outcomes, errors, audits, receipt, audit_receipt)


def _outcome(path: str, ordinal: int) -> Outcome:
    fast = 60_000 <= ordinal < 90_000
    label = LABELS[(ordinal // (80 if fast else 7000)) % len(LABELS)]
    pts = Pts(ordinal * 512, TIME_BASE)
    return Outcome(path, ordinal, pts, "sample/1", (label,), (0.25 + ordinal % 7 / 10,))
