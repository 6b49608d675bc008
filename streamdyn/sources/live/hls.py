"""HLS (RFC 8216), segment by segment: every segment once, at the time it was filmed.

```
playlist ─▶ segments that were not stored yet ─▶ whole file ─▶ pictures ─▶ spool
   ▲  again and again                                              │
   └── Place: the last segment all of which is stored ◀────────────┘   kept beside the spool
```

FFmpeg's own reader takes a segment that breaks off for one that has ended, reads the whole playlist
again after every break, and does not read `EXT-X-PROGRAM-DATE-TIME`. Here a segment counts when all
of it has come, what was stored is known by its number, and a discontinuity begins a section.
"""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av

from streamdyn.errors import SourceError
from streamdyn.sources.container import video_stream
from streamdyn.sources.live.connection import Arrival, Break, arrivals, parameters_of
from streamdyn.sources.live.playlist import Part, Playlist, Segment, best_variant, read_playlist
from streamdyn.sources.live.urls import Address, redacted
from streamdyn.sources.live.web import StalledError, WebFiles

logger = logging.getLogger(__name__)
PLACE_FILE = "hls.json"
SAME_SECONDS = 60.0
"""By which the dates of a segment may differ from one reading of the playlist to the next."""
PATIENCE = 5
"""Times the stall time: a segment that cannot be had for so long is left out."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stream stands: its last segment that is stored."""

    sequence: int
    run: int
    name: str
    """Path of its URL, whose query may change."""
    filmed_at: float | None
    """By the playlist's dates."""

    @staticmethod
    def of(segment: Segment, *, is_dated: bool) -> Place:
        """A segment's."""
        name = f"{urlsplit(segment.part.url).path}@{segment.part.first}"
        return Place(segment.sequence, segment.run, name, segment.filmed_at if is_dated else None)

    def is_of(self, other: Place) -> bool:
        """Whether the segment is the same one."""
        is_same_time = (
            self.filmed_at is None
            or other.filmed_at is None
            or abs(self.filmed_at - other.filmed_at) < SAME_SECONDS
        )
        return self.sequence == other.sequence and self.name == other.name and is_same_time

    @staticmethod
    def load(folder: Path) -> Place | None:
        """That of a spool; `None` where none was kept."""
        with suppress(OSError, ValueError, TypeError):
            return Place(**json.loads((folder / PLACE_FILE).read_text()))
        return None

    def save(self, folder: Path) -> None:
        """Keep it beside a spool; where there is no room, the segment is read again."""
        with suppress(OSError):
            part = folder / f"{PLACE_FILE}.part"
            part.write_text(json.dumps(asdict(self)))
            part.replace(folder / PLACE_FILE)


class HlsConnection:
    """A playlist that is followed.

    Args:
        address: Of the playlist.
        stall_seconds: Nothing new for so long breaks the connection; at least three segments'.
        place: Where the stream stands; `None`: it begins.
        is_over: Set: end.
        on_stored: Told of every segment whose pictures were all taken.
        on_lost: Told of segments that could not be had: how many, and why.

    Raises:
        SourceError: The playlist cannot be had.
        EncryptedError: See there.
    """

    knows_times = True

    def __init__(
        self,
        address: Address,
        stall_seconds: float,
        *,
        place: Place | None,
        is_over: threading.Event,
        on_stored: Callable[[Place], None],
        on_lost: Callable[[int, str], None],
    ) -> None:
        self.address = address
        self._stall_seconds, self._is_over = stall_seconds, is_over
        self._on_stored, self._on_lost = on_stored, on_lost
        self._place = place
        self._files = WebFiles(stall_seconds, is_over)
        self._playlist_url = address.url
        self._heads: dict[Part, bytes] = {}
        self._parameters: dict[str, Any] = {}
        self._playlist = self._reloaded()
        self._new_since = time.monotonic()  # When it named something new last.

    @property
    def has_end(self) -> bool:
        """A recording on demand, or one that has ended."""
        return self._playlist.has_end

    def parameters(self) -> dict[str, Any]:
        """What a decoder of the current segment must know."""
        return self._parameters

    def pictures(self) -> Iterator[Arrival]:
        """Coded pictures in decode order; the first ones may have been stored before.

        Raises:
            SourceError: A file cannot be had.
            StalledError: The playlist names nothing new for too long.
        """
        before = self._start()
        while not self._is_over.is_set():
            for segment in self._after(before):
                yield from self._pictures_of(segment, before)
                if self._is_over.is_set():  # It may have been given up.
                    return
                before = Place.of(segment, is_dated=self._playlist.is_dated)
                self._on_stored(before)
                self._new_since = time.monotonic()
            if self._playlist.has_end:
                return
            self._wait()

    def _start(self) -> Place | None:
        """What the first segment to read comes after; `None`: nothing before it is known."""
        place, segments = self._place, self._playlist.segments
        if place is None or not segments:
            return None
        deadline = time.monotonic() + self._stall_seconds
        # A server that is behind the one we were given is waited for.
        while segments and segments[-1].sequence < place.sequence and not self._is_over.is_set():
            if time.monotonic() > deadline:
                logger.warning("%s: its segments are counted anew", self.address.name)
                return None
            self._is_over.wait(min(1.0, self._stall_seconds / 4))
            self._playlist = self._reloaded()
            segments = self._playlist.segments
        if not segments:
            return None
        for segment in segments:
            found = Place.of(segment, is_dated=self._playlist.is_dated)
            if found.sequence == place.sequence:
                return found if found.is_of(place) else None
        missed = segments[0].sequence - place.sequence - 1
        if missed:
            self._on_lost(missed, f"{missed} segments were gone before they were read")
        return place

    def _after(self, before: Place | None) -> Iterator[Segment]:
        for segment in self._playlist.segments:
            if not segment.is_gap and (before is None or segment.sequence > before.sequence):
                yield segment

    def _pictures_of(self, segment: Segment, before: Place | None) -> Iterator[Arrival]:
        try:
            parameters, found = self._demuxed(segment)
        except (SourceError, av.error.FFmpegError) as exc:
            if not self._is_over.is_set():
                self._on_lost(1, f"a segment is left out: {redacted(str(exc))}")
            return
        breaks = Break(
            has_new_times=before is None or segment.run != before.run,
            filmed_at=segment.filmed_at,
            follows=before is not None and segment.sequence == before.sequence + 1,
            is_exact=self._playlist.is_dated and segment.filmed_at is not None,
        )
        is_break = breaks.has_new_times or parameters != self._parameters
        self._parameters = parameters
        for place, arrival in enumerate(found):
            yield replace(arrival, breaks=breaks) if is_break and not place else arrival

    def _demuxed(self, segment: Segment) -> tuple[dict[str, Any], list[Arrival]]:
        patience = PATIENCE * self._stall_seconds
        data = self._files.get(segment.part, patience)[0]
        if segment.head is not None:
            if segment.head not in self._heads:
                self._heads = {segment.head: self._files.get(segment.head, patience)[0]}
            data = self._heads[segment.head] + data
        with av.open(io.BytesIO(data), options={"fpsprobesize": "0"}) as container:
            stream = video_stream(container, self.address.name)
            return parameters_of(stream), [*arrivals(container, stream, self.address.name)]

    def _wait(self) -> None:
        """For the next reading of the playlist (RFC 8216, 6.3.4)."""
        longest = self._playlist.longest_seconds
        last = self._last_sequence()
        self._is_over.wait(max(0.1, longest / 2))
        if self._is_over.is_set():
            return
        self._playlist = self._reloaded()
        if self._last_sequence() != last:
            self._new_since = time.monotonic()
        waited = time.monotonic() - self._new_since
        if waited > max(self._stall_seconds, 3 * longest):
            raise StalledError(f"{self.address.name} names no new segment for {waited:.0f} s")

    def _last_sequence(self) -> int:
        segments = self._playlist.segments
        return segments[-1].sequence if segments else -1

    def _reloaded(self) -> Playlist:
        data, base = self._files.get(Part(self._playlist_url), self._stall_seconds)
        text = data.decode("utf-8", "replace")
        try:
            variant = best_variant(text, base)
            if variant is not None:
                self._playlist_url = variant
                data, base = self._files.get(Part(variant), self._stall_seconds)
                text = data.decode("utf-8", "replace")
            return read_playlist(text, base, time.time())
        except SourceError as exc:
            raise type(exc)(f"{self.address.name}: {exc}") from exc

    def close(self) -> None:
        """Nothing is kept open between files."""
