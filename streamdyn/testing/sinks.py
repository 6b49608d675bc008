"""Conformance of a sink: what every sink owes a runner, as checks an author can call.

```python
from streamdyn.testing.sinks import check_sink

check_sink(lambda: MySink("out.bin"), read=lambda: Path("out.bin").read_bytes())
```
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from streamdyn.clock import Pts
from streamdyn.items import Block, ItemError
from streamdyn.outcome import Box, Outcome
from streamdyn.protocols import Sink
from streamdyn.receipt import Receipt
from streamdyn.timeline import Audit, Reason, WindowResult

TIME_BASE = Fraction(1, 30_000)
TICKS = 1001
"""Of one item: 29.97 a second, so that no time is a round number."""
WINDOW_ITEMS = 10
FIRST_TICKS = 2002
"""Pts of the first item: not zero."""


def sample_outcome(
    stream: str, ordinal: int, label: str, score: float = 0.5, *, recognizer: str = "sample/1"
) -> Outcome:
    """An outcome with everything in it: two labels, an embedding, text, a box.

    The embedding is the unit vector of dimension `ordinal` modulo 16.
    """
    embedding = np.zeros(16, np.float16)
    embedding[ordinal % 16] = 1
    return Outcome(
        stream=stream,
        ordinal=ordinal,
        pts=Pts(FIRST_TICKS + ordinal * TICKS, TIME_BASE),
        recognizer=recognizer,
        labels=(label, "something else"),
        scores=(score, score / 4),
        embedding=embedding,
        text=f"<sign {label}> & ünïcode",
        boxes=(Box(label, score, 0.25, 0.25, 0.75, 0.5),),
    )


def sample_window(
    stream: str, first: int, outcomes: tuple[Outcome, ...], *, num_items: int = WINDOW_ITEMS
) -> WindowResult:
    """A closed window with these outcomes; its second item failed, its last was audited."""
    ordinals = np.arange(first, first + num_items)
    pts = FIRST_TICKS + ordinals * TICKS
    block = Block(
        stream=stream,
        first=first,
        time_base=TIME_BASE,
        pts=pts,
        keyframe=ordinals % 10 == 0,
        num_bytes=(1000 + ordinals).astype(np.int32),
        disposable=ordinals % 2 == 1,
        gop=(ordinals // 10).astype(np.int32),
        reach=(1 + ordinals % 10).astype(np.int32),
    )
    reasons = np.full(num_items, Reason.SKIPPED, np.uint8)
    reasons[[o.ordinal - first for o in outcomes]] = Reason.PROCESSED
    reasons[1] = Reason.FAILED
    scores = np.linspace(0, 1, num_items, dtype=np.float32)
    scores[0] = np.nan
    last = int(ordinals[-1])
    source = outcomes[-1] if outcomes else None
    audits = (
        (Audit(last, int(pts[-1]), 0.5, 8.0, source.ordinal, source.label, "something else"),)
        if source is not None
        else ()
    )
    return WindowResult(
        window=block,
        reasons=reasons,
        scores=scores,
        outcomes=outcomes,
        errors=(ItemError(first + 1, block.pts_at(1), "invalid data"),),
        audits=audits,
        receipt=Receipt(num_items=num_items, num_processed=len(outcomes), decode_ms=1.5),
        audit_receipt=Receipt(num_processed=len(audits), decode_ms=0.25),
    )


def sample_results(stream: str, num_windows: int = 3) -> list[WindowResult]:
    """Consecutive windows; odd ones have no outcome, even ones one or two, `cat` then `dog`."""
    results = []
    for number in range(num_windows):
        first = number * WINDOW_ITEMS
        outcomes: tuple[Outcome, ...] = ()
        if number % 2 == 0:
            outcomes = (
                sample_outcome(stream, first, "cat", 0.5 + number / 100),
                sample_outcome(stream, first + 6, "dog", 0.75),
            )
        results.append(sample_window(stream, first, outcomes))
    return results


def check_sink(
    make: Callable[[], Sink], read: Callable[[], object] | None = None, *, stream: str = "sample"
) -> None:
    """Check that a sink is idempotent, over writes, over closing, and over crashes.

    Args:
        make: Opens the sink; each call opens the same storage, which is empty at first.
        read: Answers what is stored, as something that can be compared; without it the check
            only sees that nothing raises.
        stream: Id of the stream that is written.

    Raises:
        AssertionError: Says what was expected.
    """
    stored = read or (lambda: None)
    first, second, third = sample_results(stream)
    sink = make()
    _expect(isinstance(sink, Sink), "a sink must have write(result, checkpoint) and close()")
    sink.write(first, b"after the first")
    sink.write(second, b"after the second")
    once = stored()
    sink.write(second, b"after the second")
    _expect(stored() == once, "writing a window twice must change nothing")
    sink.close()
    sink.close()
    _expect(stored() == once, "closing, once or twice, must change nothing")

    sink = make()
    for result, checkpoint in ((first, b"after the first"), (second, b"after the second")):
        sink.write(result, checkpoint)
    _expect(stored() == once, "writing again after opening again must change nothing")

    # As after a crash: opened again without having been closed.
    again = make()
    again.write(third, b"after the third")
    complete = stored()
    _expect(read is None or complete != once, "a new window must be stored when write returns")
    again.write(third, None)
    _expect(stored() == complete, "writing a window again without checkpoint must change nothing")
    again.close()
    sink.close()


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
