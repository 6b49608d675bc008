"""Decode only what reaching the chosen pictures needs.

Each GOP is decoded on its own: from its keyframe, in decode order, disposable packets left out
unless chosen, no further than the last chosen picture; a GOP without one is never fed. Pictures
that lead an open GOP are decoded from the keyframe of the GOP before. A picture is therefore the
same whatever else was chosen, bit for bit.

```
decode order   K P b b P b b P b b        capital: others are decoded from it
chosen                   ^
fed            K P     P b                then drained, or fed on if that is cheaper
```
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import av

from streamdyn.receipt import Receipt
from streamdyn.sources.container import open_container
from streamdyn.sources.gops import Gop, GopBuilder

MAX_REORDER = 16
"""Pictures a codec may hold back (H.264 annex A.3.1, HEVC annex A.4.2: 16 at most)."""
PROBE_PACKETS = 64
Key = tuple[int, int]
"""GOP number and decode index."""


class GopDecoder:
    """Turns decode indices of a GOP into pictures; keeps decoded neighbours within a byte limit.

    The neighbours are kept as decoded (no colour conversion), since an agent that narrows in
    on a change asks for them next.
    """

    def __init__(
        self,
        gops: GopBuilder,
        codec: Any,
        receipt: Receipt,
        *,
        threads: int = 1,
        cache_bytes: int = 256 << 20,
    ) -> None:
        self._gops, self.receipt, self._cache_bytes = gops, receipt, cache_bytes
        self._codec = codec
        self._codec.thread_count = threads
        self._codec.thread_type = "AUTO" if threads > 1 else "SLICE"
        self._codec.copy_opaque = True
        self._delay = int(self._codec.reorder_depth or 0) + max(threads - 1, 0)
        self._frames: dict[Key, tuple[Any, int]] = {}
        self._cached_bytes = 0
        self._gop: Gop | None = None
        self._left: Gop | None = None  # The one that was drained, and has to be begun again.
        self._next = 0
        self._led_in = False
        self._inside: set[int] = set()  # Fed in this pass, not out yet.
        self.errors: dict[int, str] = {}
        """GOP number → what the decoder said when it failed there."""

    def pictures(self, gop: Gop, wanted: list[int]) -> Iterator[tuple[int, Any]]:
        """Decode index and frame of each wanted picture, as they come; some may never come.

        Args:
            gop: Where they are coded.
            wanted: Decode indices, any order.
        """
        leading = [i for i in wanted if i in gop.leading]
        rest = [i for i in wanted if i not in gop.leading]
        for part, lead_in in ((leading, True), (rest, self._led_in and self._gop is gop)):
            missing = set(part)
            yield from self._from_cache(gop, missing)
            if missing:
                yield from self._decode(gop, missing, lead_in=lead_in and not gop.first)
            if missing and not lead_in and not gop.first:
                # The keyframe was none that decoding can start at: begin one GOP earlier.
                self.receipt.num_fallbacks += 1
                yield from self._decode(gop, missing, lead_in=True)

    def _from_cache(self, gop: Gop, missing: set[int]) -> Iterator[tuple[int, Any]]:
        for index in sorted(missing):
            entry = self._frames.get((gop.number, index))
            if entry is not None:
                missing.discard(index)
                yield index, entry[0]

    def _decode(self, gop: Gop, missing: set[int], *, lead_in: bool) -> Iterator[tuple[int, Any]]:
        packets = self._gops.packets_of(gop)
        if self._must_restart(gop, missing, lead_in):
            yield from self._restart(gop, lead_in)
        last = max(missing)
        for index in range(self._next, len(packets)):
            if index > last and (not missing or self._draining_is_cheaper(index - last)):
                break
            self._next = index + 1
            if gop.disposable[index] and index < last and index not in missing:
                continue
            self._inside.add(index)
            yield from self._take(gop, packets[index], missing)
        if missing:
            yield from self._take(gop, None, missing)
            self._gop, self._left = None, gop

    def _must_restart(self, gop: Gop, missing: set[int], lead_in: bool) -> bool:
        if self._gop is not gop or lead_in != self._led_in:
            self.receipt.num_restarts += gop is self._left
            return True
        # What was passed and is not inside the codec any more was left out, or handed out before.
        gone = {i for i in missing if i < self._next} - self._inside
        self.receipt.num_restarts += bool(gone)
        return bool(gone)

    def _restart(self, gop: Gop, lead_in: bool) -> Iterator[tuple[int, Any]]:
        self._codec.flush_buffers()
        self._gop, self._next, self._led_in = gop, 0, lead_in
        self._inside = set()
        if lead_in:
            before = self._gops.gops.get(gop.number - 1)
            if before is not None:
                for index, packet in enumerate(self._gops.packets_of(before)):
                    if not before.disposable[index]:
                        yield from self._take(before, packet, set())

    def _draining_is_cheaper(self, fed_on: int) -> bool:
        """Draining ends this pass over the GOP: going on later means starting at its keyframe."""
        return self._next <= self._delay + 1 or fed_on > MAX_REORDER

    def _take(self, gop: Gop, packet: Any, missing: set[int]) -> Iterator[tuple[int, Any]]:
        try:
            with self.receipt.timed("decode"):
                self.receipt.num_decoded += packet is not None
                frames = self._codec.decode(packet)
        except av.error.FFmpegError as exc:
            self.errors[gop.number] = f"{type(exc).__name__}: {exc.strerror or exc}"
            return
        for frame in frames:
            number, index = frame.opaque
            if number == gop.number:
                self._inside.discard(index)
            if frame.is_corrupt:
                self.errors[number] = "the decoder marked the picture as damaged"
            elif number == gop.number and index in missing:
                missing.discard(index)
                yield index, frame
            else:
                self._keep((number, index), frame)

    def _keep(self, key: Key, frame: Any) -> None:
        if key in self._frames:
            return
        size = sum(plane.buffer_size for plane in frame.planes)
        self._frames[key] = (frame, size)
        self._cached_bytes += size
        while self._cached_bytes > self._cache_bytes:
            oldest = next(iter(self._frames))
            self._cached_bytes -= self._frames.pop(oldest)[1]

    def keep(self, gop: Gop, index: int, frame: Any) -> None:
        """Keep a picture that was handed out, since it will be asked for again."""
        self._keep((gop.number, index), frame)

    def release(self, before: Key) -> None:
        """Forget pictures of earlier GOPs."""
        for key in [k for k in self._frames if k < before]:
            self._cached_bytes -= self._frames.pop(key)[1]
        for number in [n for n in self.errors if n < before[0]]:
            del self.errors[number]


def quarter_turns(frame: Any) -> int:
    """Counter-clockwise quarter turns, 0 to 3, that bring a picture upright."""
    turns: int = round(frame.rotation / 90) % 4
    return turns


def probe_quarter_turns(path: str, stream_index: int) -> int:
    """The same of a whole stream; only a decoded picture tells, so one is decoded (1 to 50 ms).

    0 where none of the first packets can be read and decoded.
    """
    with open_container(path) as probe, suppress(av.error.FFmpegError):
        stream = probe.streams[stream_index]
        for packet in islice(probe.demux(stream), PROBE_PACKETS):
            with suppress(av.error.FFmpegError):
                for frame in packet.decode():
                    return quarter_turns(frame)
    return 0
