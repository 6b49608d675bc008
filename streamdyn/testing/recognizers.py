"""`check_recognizer`, the conformance check for recognizers, and a recognizer that counts."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from streamdyn.clock import Pts
from streamdyn.items import FrameSpec, Item, Selection
from streamdyn.outcome import Outcome
from streamdyn.protocols import Recognizer
from streamdyn.recognizers.brightness import Brightness

SCORE_TOLERANCE = 1e-3
"""Scores and embeddings may differ this much between batch sizes: sums are ordered differently."""


class CountingRecognizer(Brightness):
    """Brightness that remembers what it was asked."""

    def __init__(self) -> None:
        self.ordinals: list[int] = []
        """Of all items it was shown, in order."""
        self.batch_sizes: list[int] = []
        """Items of each call."""

    def recognize(self, selection: Selection, hidden: None) -> tuple[list[Outcome], None]:
        """One outcome an item, in order; counted."""
        self.ordinals += [item.ordinal for item in selection.items]
        self.batch_sizes.append(len(selection))
        return super().recognize(selection, hidden)


def pictures(
    spec: FrameSpec, num_items: int, *, stream: str = "check", first: int = 0
) -> list[Item]:
    """Smooth random pictures of the size a recognizer asked for, the same ones every time.

    Args:
        spec: Size; sides that are free become 96 (width) and 64 (height) pixels.
        num_items: How many.
        stream: Id of their stream.
        first: Ordinal of the first; item `i` is shown at `i / 25` s.
    """
    width, height = spec.width or 96, spec.height or 64
    items = []
    for ordinal in range(first, first + num_items):
        corners = np.random.default_rng(ordinal).uniform(0, 255, (2, 2, 3))
        y, x = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[:, None]
        top, bottom = (row[0] * (1 - x) + row[1] * x for row in corners)
        data = (top * (1 - y) + bottom * y).astype(np.uint8)
        items.append(Item(stream, ordinal, Pts(ordinal, Fraction(1, 25)), data))
    return items


def tokens(num_items: int, *, stream: str = "check", first: int = 0) -> list[Item]:
    """Words as the source `tokens` hands them out: token `i` is the number `i` and begins at 8i.

    Args:
        num_items: How many.
        stream: Id of their stream.
        first: Ordinal of the first.
    """
    return [
        Item(
            stream,
            ordinal,
            Pts(8 * ordinal, Fraction(1)),
            np.frombuffer(str(ordinal).encode(), np.uint8),
            "token",
        )
        for ordinal in range(first, first + num_items)
    ]


def select(items: Sequence[Item]) -> Selection:
    """All items, to be processed in full."""
    return Selection.in_full(items)


def check_recognizer(
    recognizer: Recognizer,
    device: str = "cpu",
    num_items: int = 5,
    *,
    items: Sequence[Item] | None = None,
) -> None:
    """Check that a recognizer keeps its contract.

    It must not be set up yet: pickling and what the constructor may load are checked first.

    Args:
        recognizer: Freshly constructed.
        device: Where to set it up.
        num_items: Pictures to show it.
        items: To show it instead of pictures.

    Raises:
        AssertionError: It does not; the message says what was expected and what came.
    """
    items = pictures(recognizer.input, num_items) if items is None else items
    recognizer = _check_pickling(recognizer)
    recognizer.setup(device)
    recognizer.setup(device)
    outcomes, _ = recognizer.recognize(select(items), recognizer.initial_hidden())
    _check_identity(recognizer, items, outcomes)
    _check_scores(outcomes)

    again, _ = recognizer.recognize(select(items), recognizer.initial_hidden())
    _check_same(again, outcomes, "the same selection shown twice", tolerance=0)
    _check_same(_one_by_one(recognizer, items), outcomes, "items shown one by one", SCORE_TOLERANCE)
    _check_agreement(recognizer, outcomes)


def _check_pickling(recognizer: Recognizer) -> Recognizer:
    content = pickle.dumps(recognizer)
    assert len(content) < 100_000, (
        f"{recognizer.name}: pickles to {len(content)} bytes before setup(); the constructor must "
        "not load a model"
    )
    clone: Recognizer = pickle.loads(content)
    assert (clone.name, clone.version) == (recognizer.name, recognizer.version), (
        f"{recognizer.name}/{recognizer.version} comes out of pickle as "
        f"{clone.name}/{clone.version}"
    )
    return clone


def _check_identity(
    recognizer: Recognizer, items: Sequence[Item], outcomes: Sequence[Outcome]
) -> None:
    signed = f"{recognizer.name}/{recognizer.version}"
    expected = [(item.stream, item.ordinal, item.pts, signed) for item in items]
    got = [(o.stream, o.ordinal, o.pts, o.recognizer) for o in outcomes]
    assert got == expected, (
        f"{signed}: expected one outcome an item, in order, signed: {expected}; got {got}"
    )


def _check_scores(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        assert all(0 <= score <= 1 for score in outcome.scores), (
            f"{outcome!r}: scores not in [0, 1]"
        )
        assert list(outcome.scores) == sorted(outcome.scores, reverse=True), (
            f"{outcome!r}: labels must come best first, got scores {outcome.scores}"
        )
        for box in outcome.boxes:
            across, down = (box.left, box.right), (box.top, box.bottom)
            assert all(0 <= start <= stop <= 1 for start, stop in (across, down)), (
                f"{outcome!r}: not within the picture: {box}"
            )
        if outcome.embedding is None:
            continue
        length = float(np.linalg.norm(outcome.embedding.astype(np.float32)))
        assert math.isclose(length, 1, abs_tol=5e-3), (
            f"{outcome!r}: embedding must have length 1, got {length:.4f}"
        )
        assert outcome.embedding.dtype == np.float16, (
            f"{outcome!r}: embedding must be float16, got {outcome.embedding.dtype}"
        )


def _one_by_one(recognizer: Recognizer, items: Sequence[Item]) -> list[Outcome]:
    """Outcomes with the hidden state pickled in between, as a checkpoint does."""
    hidden: Any = recognizer.initial_hidden()
    outcomes = []
    for item in items:
        found, hidden = recognizer.recognize(select([item]), pickle.loads(pickle.dumps(hidden)))
        outcomes += found
    return outcomes


def _check_same(
    got: Sequence[Outcome], expected: Sequence[Outcome], case: str, tolerance: float
) -> None:
    assert len(got) == len(expected), f"{case}: {len(expected)} outcomes expected, got {len(got)}"
    for left, right in zip(got, expected, strict=True):
        assert _close(left, right, tolerance), f"{case}: expected {right!r}, got {left!r}"


def _close(left: Outcome, right: Outcome, tolerance: float) -> bool:
    found = [(o.text, len(o.scores), sorted(box.label for box in o.boxes)) for o in (left, right)]
    if found[0] != found[1] or (tolerance == 0 and left.labels != right.labels):
        return False
    # Labels of nearly equal score may change places.
    by_label = dict(zip(right.labels, right.scores, strict=True))
    last = right.scores[-1] if right.scores else 0.0
    scores_close = all(
        abs(by_label.get(label, last) - score) <= tolerance
        for label, score in zip(left.labels, left.scores, strict=True)
    )
    if left.embedding is None or right.embedding is None:
        return scores_close and left.embedding is right.embedding
    return scores_close and bool(
        np.allclose(left.embedding, right.embedding, rtol=0, atol=tolerance)
    )


def _check_agreement(recognizer: Recognizer, outcomes: Sequence[Outcome]) -> None:
    for left in outcomes:
        assert recognizer.agree(left, left) == 1, (
            f"{recognizer.name}: {left!r} disagrees with itself"
        )
        for right in outcomes:
            value = recognizer.agree(left, right)
            assert 0 <= value <= 1, f"{recognizer.name}: agree() must be in [0, 1], got {value}"
