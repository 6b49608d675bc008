"""The parts others write: `Source` and its `Cursor`, `Policy`, `Recognizer`, `Sink`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol, TypeVar, runtime_checkable

from streamdyn.items import Array, Block, FrameSpec, Item, ItemError, Kind, Selection
from streamdyn.observation import Grade, Observation
from streamdyn.outcome import Outcome
from streamdyn.plan import Plan
from streamdyn.receipt import Receipt
from streamdyn.timeline import WindowResult

State = TypeVar("State")
WHOLE_STREAM = 1 << 62
"""A policy's `lookahead` when it wants to see a file from end to end before it decides."""


@dataclass(frozen=True, slots=True)
class Position:
    """The place after the last item that was closed; a cursor opened there goes on with the next.

    A source that resumes from it must hand out the item with this ordinal next.
    """

    ordinal: int
    """Ordinal of the next item."""
    after_ticks: int | None
    """Pts of the last closed item in ticks; `None` at the start."""


@dataclass(frozen=True, slots=True)
class MediaRange:
    """Items of a file that begin at a keyframe, to be watched as if they were a file of their own.

    Ordinals and times stay those of the file.
    """

    first: int
    stop: int
    """Half open."""
    after_ticks: int | None
    """Pts of the item before the first; `None` at the start."""
    hint: tuple[int, ...] = ()
    """Of the source, so that it need not read the file from its start."""

    @property
    def position(self) -> Position:
        """Where it begins."""
        return Position(self.first, self.after_ticks)


WHOLE_FILE = MediaRange(0, WHOLE_STREAM, None)
"""What is watched of a file that is not cut."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a stream when it is opened; headers may lie, hence the names."""

    stream: str
    kind: Kind
    codec: str
    time_base: Fraction
    width: int = 0
    """As displayed, in pixels, after rotation; 0 where there is no picture."""
    height: int = 0
    rate_from_header: Fraction | None = None
    """Items a second."""
    duration_from_header_seconds: float | None = None
    num_items_from_header: int | None = None
    live: bool = False
    note: str = ""
    """What a user should know about this stream, such as unreliable times."""


@runtime_checkable
class Source(Protocol):
    """What to read; picklable, opened on the worker that reads it."""

    stream: str

    def open(self, resume_from: Position | None = None) -> Cursor:
        """A cursor at the start, or after the last closed item of an earlier run."""


@runtime_checkable
class RangeSource(Source, Protocol):
    """One whose file can be watched in ranges, several at once."""

    def ranges(self, seconds: float) -> list[MediaRange]:
        """The file cut at the first keyframe after every so many; it is read, not decoded.

        Nothing where it is not longer than that.
        """

    def open_range(self, media_range: MediaRange, resume_from: Position | None = None) -> Cursor:
        """A cursor over the items of a range, at its start or where an earlier run left it."""


@runtime_checkable
class Cursor(Protocol):
    """Where we are in a stream; lives on one worker, is used by one thread."""

    info: SourceInfo

    def next_block(self) -> Block | None:
        """The next items in pts order, undecoded; `None` when the stream has ended."""

    def materialize(
        self, ordinals: Sequence[int], spec: FrameSpec
    ) -> tuple[list[Item], list[ItemError]]:
        """Decode and convert the chosen items (increasing ordinals, blocks already handed out).

        Every ordinal comes back exactly once, as an item or as an error.
        """

    def preview(self, grade: Grade, ordinals: Sequence[int]) -> Array:
        """`(n, ...)` float32 previews of the items, NaN rows where one could not be decoded.

        Raises `ConfigError` for a grade the source does not have.
        """

    def release(self, before: int) -> None:
        """Items with a smaller ordinal will not be asked for again: forget them."""

    def hop_to(self, ordinal: int) -> None:
        """Leave all items before `ordinal` unseen; they must not have been handed out."""

    def take_receipt(self) -> Receipt:
        """What was spent since the last call."""

    def close(self) -> None:
        """Give back files, sockets and decoders; may be called twice."""


@runtime_checkable
class Policy(Protocol[State]):
    """From an observation to a plan; pure: what it remembers is in `state`, never in `self`."""

    name: str
    version: str
    previews: frozenset[Grade]
    """Previews to have of every item without asking; `packet` is free, others are paid for."""
    glances: frozenset[Grade]
    """Previews to have of the items that a plan glances at."""
    lookahead: int
    """Items to see at once; `WHOLE_STREAM` for a file from end to end."""

    def initial_state(self) -> State:
        """State before the first window; picklable."""

    def decide(self, obs: Observation, state: State) -> tuple[Plan, State]:
        """A plan for the open items of the window."""


@runtime_checkable
class Recognizer(Protocol):
    """The expensive model; sees a selection and its own hidden state and nothing else."""

    name: str
    version: str
    input: FrameSpec
    """The picture it wants."""
    batch_size: int
    """Items it takes at once at most."""

    def setup(self, device: str) -> None:
        """Load the model on the worker that will run it."""

    def initial_hidden(self) -> Any:
        """Recurrent state before the first item; `None` for a stateless recognizer."""

    def recognize(self, selection: Selection, hidden: Any) -> tuple[list[Outcome], Any]:
        """One outcome an item, in order."""

    def agree(self, propagated: Outcome, looked_up: Outcome) -> float:
        """How far the first may stand for the second, in [0, 1]; used by audits."""


@runtime_checkable
class Sink(Protocol):
    """Where results go; idempotent, since an outcome has a deterministic id."""

    def write(self, result: WindowResult, checkpoint: bytes | None) -> None:
        """Store the results of a window and the checkpoint that covers them, or neither."""

    def close(self) -> None:
        """Flush; may be called twice."""
