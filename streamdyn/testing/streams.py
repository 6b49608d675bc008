"""`ListSource`: a stream from a list, with markers that break it on purpose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamdyn.errors import ConfigError
from streamdyn.items import Array, Block
from streamdyn.protocols import Position
from streamdyn.sources.script import Script, ScriptCursor, plain_picture


class Aborted(RuntimeError):
    """An `Abort` was reached; stands for a killed process, so nothing of ours catches it."""


class Abort:
    """In a list: reading stops here with `Aborted`, once; a second run gets past it.

    The marker remembers that it was reached: run again with the same source object.
    """

    def __init__(self) -> None:
        self.reached = False

    def trigger(self) -> None:
        """Raise `Aborted` the first time."""
        if not self.reached:
            self.reached = True
            raise Aborted("reached an Abort marker; resume from the last checkpoint")


class Broken:
    """In a list: an item that cannot be decoded."""


class ListSource:
    """A stream of pictures from a list; 25 items a second.

    Args:
        items: An int from 0 to 255 (a picture of that brightness), a `(H, W, 3)` uint8 picture,
            `Broken()`, or between items `Abort()`.
        stream: Id in results.
        keyframe_every: Items of a GOP.
    """

    def __init__(
        self,
        items: Sequence[int | Array | Broken | Abort],
        *,
        stream: str = "list",
        keyframe_every: int = 8,
    ) -> None:
        if keyframe_every < 1:
            raise ConfigError(f"keyframe_every must be at least 1 item, got {keyframe_every}")
        self.stream, self.keyframe_every = stream, keyframe_every
        self.pictures: list[Array | None] = []
        self.aborts: dict[int, list[Abort]] = {}
        for item in items:
            if isinstance(item, Abort):
                self.aborts.setdefault(len(self.pictures), []).append(item)
            elif isinstance(item, Broken):
                self.pictures.append(None)
            else:
                self.pictures.append(plain_picture(item) if isinstance(item, int) else item)

    def open(self, resume_from: Position | None = None) -> ScriptCursor:
        """A cursor at the start, or after the last closed item of an earlier run."""
        n = len(self.pictures)
        keyframe = np.arange(n) % self.keyframe_every == 0
        num_bytes = np.where(keyframe, 2400, 200).astype(np.int32)
        script = Script(self.stream, num_bytes, keyframe, self.pictures.__getitem__)
        return _ListCursor(script, self.aborts, resume_from)


class _ListCursor(ScriptCursor):
    def __init__(
        self, script: Script, aborts: dict[int, list[Abort]], resume_from: Position | None
    ) -> None:
        super().__init__(script, resume_from)
        self._aborts = aborts

    def next_block(self) -> Block | None:
        """The rest of the GOP, or what comes before the next marker."""
        for abort in self._aborts.get(self.next_ordinal, ()):
            abort.trigger()
        return super().next_block()

    def _block_stop(self) -> int:
        ahead = [ordinal for ordinal in self._aborts if ordinal > self.next_ordinal]
        return min([super()._block_stop(), *ahead])
