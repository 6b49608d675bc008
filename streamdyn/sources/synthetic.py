"""Streams with a known truth and a known best plan, to judge policies by.

Pictures have one brightness all over, so that the recognizer `brightness` labels them without
error.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from streamdyn.errors import ConfigError
from streamdyn.items import Array
from streamdyn.protocols import Position
from streamdyn.recognizers.brightness import BUCKETS
from streamdyn.registry import source
from streamdyn.sources.script import Script, ScriptCursor, plain_picture

StreamKind = Literal["change", "cue"]
_BACKGROUND, _EVENT = 1, 7
"""Buckets of the kind `cue`."""


@source("synthetic")
class Synthetic:
    """A stream whose best plan is known.

    `change`: scenes of one brightness each. The first item of a scene has a large packet, as a
    codec would code it. Best plan: the first item of every scene; carried forward, their outcomes
    are right for all items.

    `cue`: a dark background with bright events of one item each, at irregular distances; the packet
    before an event is large, so that a policy can know one item ahead. Best plan: the events.

    Args:
        num_items: Length of the stream.
        kind: What happens in it.
        every: Mean distance of two scenes or events; each is between half and one and a half.
        keyframe_every: Items of a GOP.
        seed: Another seed, another stream.
        stream: Id in results; made of the other arguments when not given.
    """

    def __init__(
        self,
        *,
        num_items: int = 600,
        kind: StreamKind = "change",
        every: int = 20,
        keyframe_every: int = 30,
        seed: int = 0,
        stream: str | None = None,
    ) -> None:
        if kind not in get_args(StreamKind):
            raise ConfigError(f"kind must be one of {get_args(StreamKind)}, got {kind!r}")
        if num_items < 1 or every < 4 or keyframe_every < 1:
            raise ConfigError(
                "a synthetic stream needs num_items >= 1, every >= 4 and keyframe_every >= 1, "
                f"got {num_items = }, {every = }, {keyframe_every = }"
            )
        self.num_items, self.kind, self.every = num_items, kind, every
        self.keyframe_every, self.seed = keyframe_every, seed
        self.stream = stream or f"synthetic-{kind}-{num_items}-{every}-{keyframe_every}-{seed}"
        generator = np.random.default_rng(seed)
        gaps = generator.integers(every // 2, every + every // 2 + 1, size=num_items)
        places = np.cumsum(gaps)
        places = places[places < num_items]
        num_bytes = generator.integers(200, 240, size=num_items).astype(np.int32)
        num_bytes[::keyframe_every] *= 12
        if kind == "change":
            chosen = np.concatenate([[0], places])
            steps = generator.integers(1, len(BUCKETS), size=len(chosen))
            buckets = np.cumsum(steps) % len(BUCKETS)
            self._buckets = np.repeat(buckets, np.diff(chosen, append=num_items))
            loud = places
        else:
            chosen = places
            self._buckets = np.full(num_items, _BACKGROUND)
            self._buckets[places] = _EVENT
            loud = places - 1
        num_bytes[loud] = np.maximum(num_bytes[loud] * 2, 1600)
        self._num_bytes = num_bytes
        self.best_plan: tuple[int, ...] = tuple(chosen.tolist())
        """Ordinals of the items worth processing."""
        self.truth: tuple[str, ...] = tuple(BUCKETS[b] for b in self._buckets)
        """Label of every item, as the recognizer `brightness` calls it."""

    def open(self, resume_from: Position | None = None) -> ScriptCursor:
        """A cursor at the start, or after the last closed item of an earlier run."""
        keyframe = np.arange(self.num_items) % self.keyframe_every == 0
        script = Script(self.stream, self._num_bytes, keyframe, self._picture)
        return ScriptCursor(script, resume_from)

    def _picture(self, ordinal: int) -> Array:
        return plain_picture(int(self._buckets[ordinal]) * 32 + 16)
