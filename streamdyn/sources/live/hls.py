"""The files of an HLS stream (RFC 8216), each whole or not at all, and the times they are of.

FFmpeg's demuxer takes a segment that breaks off for one that has ended, and goes on with the next:
what was missing is gone, and nobody is told. Here a file counts when all of it has come. And
FFmpeg does not read `EXT-X-PROGRAM-DATE-TIME`, by which a playlist says when it was filmed.
"""

from __future__ import annotations

import io
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

import m3u8

from streamdyn.errors import SourceError
from streamdyn.sources.live.urls import Address, redacted, request_of

logger = logging.getLogger(__name__)
PAUSE_SECONDS = 0.25
"""Before a file is asked for again."""
MAX_BYTES = 1 << 30
"""Of a file; what is longer has no end."""


class StalledError(SourceError):
    """Connected, and nothing came."""


class EncryptedError(SourceError):
    """Segments are encrypted; only FFmpeg's own reader can decrypt them."""


class HlsFiles:
    """Opens the files of one connection, for `av.open(..., io_open=files.open)`.

    Args:
        address: Of the playlist.
        stall_seconds: A file that cannot be had for so long breaks the connection.
        may_skip: Such a segment is left out instead.
    """

    def __init__(self, address: Address, stall_seconds: float, *, may_skip: bool) -> None:
        self._address, self._stall_seconds, self._may_skip = address, stall_seconds, may_skip
        self._filmed_at: dict[str, float | None] = {}  # Segment → seconds since the epoch.
        self._last_segment_at = time.monotonic()
        self.first_filmed_at: float | None = None
        """When the first segment that was opened begins, by the playlist; if it says so."""
        self.filmed_at: float | None = None
        """Likewise, the last one."""
        self._has_begun = False
        self._is_broken = False

    def open(self, url: str, flags: int, options: Mapping[str, str]) -> io.BytesIO:
        """A whole file; an empty one once the connection has broken.

        Args:
            url: Of a playlist, a segment, or what a segment needs.
            flags: Of FFmpeg; not used.
            options: Of FFmpeg: a range of bytes, headers.

        Raises:
            SourceError: It cannot be had.
            StalledError: A live playlist names nothing new for too long.
            EncryptedError: See there.
        """
        if self._is_broken:  # FFmpeg tries others before it gives up.
            return io.BytesIO()
        try:
            if url in self._filmed_at:
                return io.BytesIO(self._segment(url, options))
            data = self._fetched(url, options)
            if data.lstrip()[:7] == b"#EXTM3U":
                data = self._noted(url, data)
            return io.BytesIO(data)
        except SourceError:
            self._is_broken = True
            raise

    def _segment(self, url: str, options: Mapping[str, str]) -> bytes:
        self.filmed_at = self._filmed_at[url]
        if not self._has_begun:
            self._has_begun, self.first_filmed_at = True, self.filmed_at
        try:
            data = self._fetched(url, options)
        except SourceError as exc:
            if not self._may_skip:
                raise
            logger.warning("%s: left out: %s", self._address.name, exc)
            data = b""
        self._last_segment_at = time.monotonic()
        return data

    def _fetched(self, url: str, options: Mapping[str, str]) -> bytes:
        """Tried again and again for a while."""
        began = time.monotonic()
        while True:
            try:
                return _whole(url, options, self._stall_seconds)
            except (OSError, HTTPException, ValueError) as exc:
                said = redacted(str(getattr(exc, "reason", None) or exc) or type(exc).__name__)
                if time.monotonic() - began + PAUSE_SECONDS > self._stall_seconds:
                    raise SourceError(f"cannot get {redacted(url)}: {said}") from exc
                logger.info("%s: again: %s: %s", self._address.name, redacted(url), said)
                time.sleep(PAUSE_SECONDS)

    def _noted(self, url: str, data: bytes) -> bytes:
        """What a playlist says; of several variants it names one, the best."""
        try:
            playlist = m3u8.loads(data.decode("utf-8", "replace"), uri=url)
        except (ValueError, AttributeError, IndexError) as exc:
            raise SourceError(f"cannot read the playlist {redacted(url)}: {exc}") from exc
        if playlist.is_variant:
            best = max(playlist.playlists, key=lambda variant: variant.stream_info.bandwidth or 0)
            line = f"#EXT-X-STREAM-INF:BANDWIDTH={best.stream_info.bandwidth or 1}"
            return f"#EXTM3U\n{line}\n{best.absolute_uri}\n".encode()
        if any(key is not None and key.method not in (None, "NONE") for key in playlist.keys):
            raise EncryptedError(f"segments of {redacted(url)} are encrypted")
        self._filmed_at = {
            segment.absolute_uri: None if at is None else at.timestamp()
            for segment in playlist.segments
            for at in [segment.current_program_date_time]
        }
        waited = time.monotonic() - self._last_segment_at
        if not playlist.is_endlist and waited > self._stall_seconds:
            raise StalledError(f"{self._address.name} names no new segment for {waited:.0f} s")
        return data


def _whole(url: str, options: Mapping[str, str], timeout_seconds: float) -> bytes:
    headers = {"User-Agent": options.get("user_agent", "streamdyn")}
    if "offset" in options:
        stop = int(options["end_offset"]) - 1 if "end_offset" in options else ""
        headers["Range"] = f"bytes={options['offset']}-{stop}"
    request = request_of(url, headers)
    # An answer that breaks off raises `IncompleteRead`.
    with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:
        data: bytes = answer.read(MAX_BYTES)
        if answer.read(1):
            raise ValueError(f"it is longer than {MAX_BYTES} bytes")
        declared: Any = answer.headers.get("Content-Length")
    if declared is not None and int(declared) != len(data):
        raise ValueError(f"{len(data)} of {declared} bytes came")
    return data
