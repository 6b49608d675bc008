"""Files over HTTP, each whole or not at all, within a time, until told to stop."""

from __future__ import annotations

import gzip
import logging
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from http.cookiejar import CookieJar
from urllib.parse import urlsplit

from streamdyn.errors import SourceError
from streamdyn.sources.live.playlist import Part
from streamdyn.sources.live.urls import redacted, request_of

logger = logging.getLogger(__name__)
PIECE = 1 << 16
MAX_BYTES = 256 << 20
"""Of a file; what is longer has no end."""
PAUSE_SECONDS = 0.25
"""Before a file is asked for again."""
SLOW = 6
"""Times the stall time: a file that takes longer is given up, though something comes."""


class StalledError(SourceError):
    """Connected, and nothing came."""


class WebFiles:
    """Asks one server for files; keeps its cookies.

    Args:
        stall_seconds: A file of which nothing comes for so long is given up.
        is_over: Set: give up whatever goes on.
    """

    def __init__(self, stall_seconds: float, is_over: threading.Event) -> None:
        self._stall_seconds, self._is_over = stall_seconds, is_over
        cookies = urllib.request.HTTPCookieProcessor(CookieJar())
        self._opener = urllib.request.build_opener(cookies)

    def get(self, part: Part, seconds: float = 0.0) -> tuple[bytes, str]:
        """A file, and the URL that it was had from in the end.

        Args:
            part: Of it.
            seconds: To try again when it cannot be had.

        Raises:
            SourceError: It cannot be had.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._whole(part)
            except (OSError, HTTPException, ValueError, EOFError) as exc:
                said = redacted(str(getattr(exc, "reason", None) or exc) or type(exc).__name__)
                if time.monotonic() > deadline or self._is_over.wait(PAUSE_SECONDS):
                    raise SourceError(f"cannot get {redacted(part.url)}: {said}") from exc
                logger.info("again: %s: %s", redacted(part.url), said)

    def _whole(self, part: Part) -> tuple[bytes, str]:
        headers = {"User-Agent": "streamdyn", "Accept-Encoding": "identity"}
        if part.count is not None:
            headers["Range"] = f"bytes={part.first}-{part.first + part.count - 1}"
        request = request_of(part.url, headers)
        with self._opener.open(request, timeout=self._stall_seconds) as answer:
            data = self._read(answer)
            declared = answer.headers.get("Content-Length")
            if declared is not None and int(declared) != len(data):
                raise ValueError(f"{len(data)} of {declared} bytes came")
            if answer.headers.get("Content-Encoding", "").lower() == "gzip":
                data = gzip.decompress(data)
            if part.count is not None:
                if answer.status != 206:  # It was not asked for a range, it says, and gives all.
                    data = data[part.first : part.first + part.count]
                if len(data) != part.count:
                    raise ValueError(f"{len(data)} of {part.count} bytes came")
            user = urlsplit(part.url).netloc.rpartition("@")[0]
            there = urlsplit(answer.geturl())
            if user and there.netloc == urlsplit(part.url).netloc.rpartition("@")[2]:
                there = there._replace(netloc=f"{user}@{there.netloc}")
            return data, there.geturl()

    def _read(self, answer: HTTPResponse) -> bytes:
        pieces: list[bytes] = []
        began, size = time.monotonic(), 0
        while piece := answer.read1(PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_BYTES:
                raise ValueError(f"it is longer than {MAX_BYTES} bytes")
            if time.monotonic() - began > SLOW * self._stall_seconds:
                raise ValueError(f"only {size} bytes came in {SLOW * self._stall_seconds:.0f} s")
            if self._is_over.is_set():
                raise ValueError("told to stop")
        return b"".join(pieces)
