"""A stream that was watched before, as a source and a recognizer: nothing is decoded again.

Whatever was kept of it stands in for the video: a trace of a run, or the features of a full pass.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from streamdyn.clock import Pts
from streamdyn.errors import ConfigError
from streamdyn.items import Array, Block, FrameSpec, Item, ItemError, Selection
from streamdyn.observation import Grade
from streamdyn.outcome import Outcome
from streamdyn.protocols import Position, SourceInfo
from streamdyn.receipt import Receipt

_NOTHING = np.empty((0, 0, 3), np.uint8)


class Agreeing(Protocol):
    """What is asked of the recognizer that a recording was made with."""

    name: str

    def agree(self, propagated: Outcome, looked_up: Outcome) -> float:
        """How far the first may stand for the second, in [0, 1]."""


@dataclass(slots=True, eq=False)
class Recording:
    """What is known of a stream without its file."""

    path: str
    """Of the recording, for messages."""
    stream: str
    blocks: list[Block]
    """All items, in order."""
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    """Ordinal → what the recognizer said."""
    previews: Mapping[Grade, Mapping[int, Array]] = field(default_factory=dict)
    """Grade → ordinal → row."""
    size: tuple[int, int] = (0, 0)
    """Width and height in pixels, which set the nominal price of decoding."""
    data: Mapping[int, Array] = field(default_factory=dict)
    """Ordinal → what an item holds in place of pixels."""
    undecodable: frozenset[int] = frozenset()
    """Ordinals of items that could not be decoded."""
    receipt: Receipt = field(default_factory=Receipt)
    """What the recorded run cost, where that is known."""

    def open(self, resume_from: Position | None = None) -> RecordedCursor:
        """A cursor at the start; a recording is not resumed."""
        if resume_from is not None:
            raise ConfigError(f"cannot resume the replay of {self.path}: run it from the start")
        return RecordedCursor(self)


class RecordedCursor:
    """Where we are in a recording."""

    def __init__(self, source: Recording) -> None:
        self._source, self._next = source, 0
        self._receipt = Receipt()
        self._firsts = [block.first for block in source.blocks]
        self._reached: dict[int, int] = {}
        self._decoded: set[int] = set()
        self.info = SourceInfo(
            source.stream, "frame", "recorded", source.blocks[0].time_base, *source.size
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
        items: list[Item] = []
        errors: list[ItemError] = []
        for ordinal in ordinals:
            self._decode(ordinal)
            if ordinal in self._source.undecodable:
                reason = "could not be decoded when it was recorded"
                errors.append(ItemError(ordinal, self._pts(ordinal), reason))
            else:
                data = self._source.data.get(ordinal, _NOTHING)
                items.append(Item(self._source.stream, ordinal, self._pts(ordinal), data))
        return items, errors

    def preview(self, grade: Grade, ordinals: Sequence[int]) -> Array:
        """The recorded previews.

        Raises:
            ConfigError: One of them was not recorded.
        """
        known = self._source.previews.get(grade, {})
        missing = next((o for o in ordinals if o not in known), None)
        if missing is not None:
            raise ConfigError(
                f"cannot replay with {grade} previews: {self._source.path} has none of item "
                f"{missing}; record one with a policy that looks at all of them"
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

    def __init__(self, source: Recording, recognizer: Agreeing) -> None:
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
