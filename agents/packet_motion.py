"""Stride in bits instead of items: look again once the encoder has coded enough that is new.

A P or B packet codes what could not be predicted, so its size is a free measure of change. Sizes
are taken relative to the running median of their kind (keyframe, needed by others, disposable) and
added up; an item is processed when the sum since the last processed one reaches `every` usual
packets, so calls come closer together in motion, and a packet that large is processed at once. So
is a keyframe before its time: encoders put one where the scene changes.

```
relative size   1 1 1 1 4 5 1 1 1 1 9  1      every = 8
sum             1 2 3 4 8 5 6 7 8 1 10 1
processed               P       P   P
```

Cost: no preview and no decoding to decide; under 5 µs an item in windows of 64.
Packet sizes gate video inference in Yuan et al. 2023, PacketGame, ACM SIGCOMM.
Differs: no learned predictor, only the sum of relative sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from streamdyn.errors import ConfigError
from streamdyn.observation import Grade, Observation
from streamdyn.plan import Plan
from streamdyn.previews.packet import Cadence, SizeHistory
from streamdyn.registry import policy


@dataclass(frozen=True, slots=True)
class PacketMotionState:
    """What is usual in this stream, and how much was coded since the last processed item."""

    history: SizeHistory = field(default_factory=SizeHistory)
    cadence: Cadence = field(default_factory=Cadence)
    coded: float | None = None
    """Sum of relative sizes; `None` before the first item."""


@policy("packet_motion")
@dataclass(frozen=True, kw_only=True)
class PacketMotion:
    """Process an item whenever enough was coded since the last one.

    Args:
        every: Usual packets between two processed items, at least 1; in a quiet stream a stride.
        lookahead: Items to plan at once; their sizes are part of the median.
    """

    every: float = 40.0
    lookahead: int = 64
    name = "packet_motion"
    version = "1"
    previews = frozenset[Grade]()
    glances = frozenset[Grade]()
    knob = ("every", 1.0, 1000.0)
    """What `agreement` tunes: the option, its finest and its coarsest value."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"packet_motion needs every >= 1 packets, got {self.every}")

    def initial_state(self) -> PacketMotionState:
        """Nothing seen."""
        return PacketMotionState()

    def decide(self, obs: Observation, state: PacketMotionState) -> tuple[Plan, PacketMotionState]:
        """Close the window at once."""
        block = obs.window
        relative = state.history.relative(block)
        early = state.cadence.early(block)
        coded = self.every if state.coded is None else state.coded
        chosen = []
        for index, (size, is_early) in enumerate(
            zip(relative.tolist(), early.tolist(), strict=True)
        ):
            coded += size
            if coded >= self.every or is_early:
                chosen.append(index)
                coded = 0.0
        after = PacketMotionState(
            state.history.extended(block), state.cadence.extended(block), coded
        )
        return Plan.process_only(len(block), chosen, scores=relative), after
