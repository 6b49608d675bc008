"""Where live text comes from: a file that grows, standard input, server-sent events, Redis."""

from __future__ import annotations

import codecs
import glob
import json
import os
import select
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit, urlunsplit

from streamdyn.errors import ConfigError, MissingExtra, SourceError
from streamdyn.sources.live.urls import redacted, request_of

PIECE_BYTES = 1 << 16
IDLE_SECONDS = 0.1
LATE_SECONDS = 1.5
"""A file that was renamed is read on for so long: its writer may not know of it yet."""
Place = Mapping[str, Any]
"""Where a feed stands, as JSON takes it; reading goes on there."""


class Feed(Protocol):
    """A source of text."""

    has_end: bool
    """Its end is no fault."""

    def read(self, place: Place, is_over: Callable[[], bool]) -> Iterator[tuple[str, Place]]:
        """Pieces of text with where the feed stands after each; an empty piece while it waits.

        Args:
            place: Where it stood; empty at first.
            is_over: Asked while it waits.

        Raises:
            SourceError: It broke off.
        """


def feed_of(url: str, encoding: str) -> Feed:
    """The feed that an address names: `-`, a file, http(s)://, redis://HOST/DB?stream=KEY.

    Raises:
        ConfigError: A scheme that is not known.
    """
    if url == "-":
        return StandardInput(encoding)
    scheme = urlsplit(url).scheme.lower() if "://" in url else "file"
    if scheme == "file":
        return FollowedFile(Path(url.removeprefix("file://")), encoding)
    if scheme in ("http", "https"):
        return ServerSentEvents(url)
    if scheme in ("redis", "rediss", "unix"):
        return RedisFeed(url)
    raise ConfigError(
        f"cannot read {redacted(url)}: no live text has the scheme {scheme!r}; known: - (standard "
        "input), a file, http, https, redis, rediss, unix"
    )


class StandardInput:
    """Standard input; it cannot be read twice, so that what was read is only in the spool.

    Args:
        encoding: Of the text.
    """

    has_end = True

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding

    def read(self, place: Place, is_over: Callable[[], bool]) -> Iterator[tuple[str, Place]]:
        """Until it ends."""
        decoder = codecs.getincrementaldecoder(self._encoding)("replace")
        number = sys.stdin.fileno()
        while not is_over():
            # What is read must be kept: nothing is read once it is over.
            if not select.select([number], [], [], 2 * IDLE_SECONDS)[0]:
                yield "", {}
                continue
            data = os.read(number, PIECE_BYTES)
            if not data:
                return
            yield decoder.decode(data), {}


class FollowedFile:
    """A file that others write, as `tail -F` follows it.

    Renamed and made anew: the rest of the old one is read first. Cut short: read from its start.

    Args:
        path: It may come later.
        encoding: Of the text; what is not written in it is replaced.
    """

    has_end = False

    def __init__(self, path: Path, encoding: str) -> None:
        self._path, self._encoding = path, encoding

    def read(self, place: Place, is_over: Callable[[], bool]) -> Iterator[tuple[str, Place]]:
        """For ever."""
        known, offset = place.get("inode"), int(place.get("offset", 0))
        while not is_over():
            try:
                with self._with_inode(known).open("rb") as file:
                    inode = os.fstat(file.fileno()).st_ino
                    start = offset if inode == known else 0
                    for text, stop in self._follow(file, start, is_over):
                        yield text, {"inode": inode, "offset": stop}
                    known, offset = None, 0
            except FileNotFoundError:
                time.sleep(IDLE_SECONDS)
                yield "", place
            except OSError as exc:
                raise SourceError(f"cannot read {self._path}: {exc.strerror or exc}") from exc

    def _with_inode(self, known: int | None) -> Path:
        """The file that was read, though it has another name by now; else that of the name."""
        if known is not None:
            for path in self._path.parent.glob(f"{glob.escape(self._path.name)}*"):
                with suppress(OSError):
                    if path.stat().st_ino == known:
                        return path
        return self._path

    def _follow(
        self, file: Any, start: int, is_over: Callable[[], bool]
    ) -> Iterator[tuple[str, int]]:
        """Until another file has its name, or it was cut short; text and the byte after it."""
        decoder = codecs.getincrementaldecoder(self._encoding)("replace")
        file.seek(start)
        stop, idle = start, 0
        while True:
            data = file.read(PIECE_BYTES)
            if data:
                idle = 0
                stop += len(data)
                text = decoder.decode(data)
                yield text, stop - len(decoder.getstate()[0])
                continue
            idle = idle + 1 if self._is_another(file, stop) else 0
            if idle > LATE_SECONDS / IDLE_SECONDS or self._is_cut(file, stop) or is_over():
                return
            time.sleep(IDLE_SECONDS)
            yield "", stop - len(decoder.getstate()[0])

    @staticmethod
    def _is_cut(file: Any, stop: int) -> bool:
        return os.fstat(file.fileno()).st_size < stop

    def _is_another(self, file: Any, stop: int) -> bool:
        try:
            return self._path.stat().st_ino != os.fstat(file.fileno()).st_ino
        except FileNotFoundError:  # Renamed, and not made anew yet.
            return False


class ServerSentEvents:
    """An HTTP stream of events (WHATWG HTML, section 9.2); the data of each is a line of text.

    After a break it asks for what comes after the last id that it was given.

    Args:
        url: Of the stream.
    """

    has_end = False

    def __init__(self, url: str) -> None:
        self._url = url

    def read(self, place: Place, is_over: Callable[[], bool]) -> Iterator[tuple[str, Place]]:
        """Until the connection breaks."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        last = str(place.get("last", ""))
        if last:
            headers["Last-Event-ID"] = last
        request = request_of(self._url, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                data: list[str] = []
                for raw in answer:
                    line = raw.decode("utf-8", "replace").rstrip("\r\n")
                    name, _, value = line.partition(":")
                    value = value.removeprefix(" ")
                    if name == "data":
                        data.append(value)
                    elif name == "id":
                        last = value
                    elif not line:
                        text = "".join(f"{one}\n" for one in data)
                        data.clear()
                        yield text, {"last": last}
                    if is_over():
                        return
        except (HTTPException, ValueError) as exc:
            # They may say the password.
            raise SourceError(f"cannot read {redacted(self._url)}: {type(exc).__name__}") from None
        except OSError as exc:
            said = redacted(str(getattr(exc, "reason", None) or exc))
            raise SourceError(f"cannot read {redacted(self._url)}: {said}") from exc


class RedisFeed:
    """A Redis stream; the field `text` of each entry is a line.

    Args:
        url: Of the server, with `stream=KEY` and perhaps `field=NAME` behind a question mark.

    Raises:
        ConfigError: It names no stream.
        MissingExtra: The package `redis` is not installed.
    """

    has_end = False

    def __init__(self, url: str) -> None:
        try:
            import redis
        except ImportError as exc:
            raise MissingExtra("redis", "reading a Redis stream", "redis") from exc
        parts = urlsplit(url)
        asked = parse_qs(parts.query)
        if "stream" not in asked:
            raise ConfigError(
                f"cannot read {redacted(url)}: it names no stream; write redis://HOST/0?stream=KEY"
            )
        self._key, self._field = asked["stream"][0], asked.get("field", ["text"])[0].encode()
        self._name = redacted(url)
        self._server = urlunsplit(parts._replace(query=""))
        self._redis: Any = redis

    def read(self, place: Place, is_over: Callable[[], bool]) -> Iterator[tuple[str, Place]]:
        """From the oldest entry on, or after the last one that was read."""
        last = str(place.get("last", "0-0"))
        client = self._redis.Redis.from_url(self._server, socket_timeout=10, retry=None)
        try:
            while not is_over():
                found = client.xread({self._key: last}, count=500, block=200)
                entries = found[0][1] if found else []
                lines = [fields.get(self._field, b"") for _, fields in entries]
                last = entries[-1][0].decode() if entries else last
                text = "".join(f"{line.decode('utf-8', 'replace')}\n" for line in lines)
                yield text, {"last": last}
        except self._redis.exceptions.RedisError as exc:
            raise SourceError(f"cannot read {self._name}: {exc}") from exc
        finally:
            client.close()


def packed(text: str, place: Place) -> bytes:
    """A piece of text with where its feed stands after it."""
    return json.dumps(place).encode() + b"\n" + text.encode("utf-8", "surrogatepass")


def unpacked(data: bytes) -> tuple[str, dict[str, Any]]:
    """Undo `packed`."""
    place, _, text = data.partition(b"\n")
    found: dict[str, Any] = {}
    with suppress(ValueError):
        found = json.loads(place)
    return text.decode("utf-8", "surrogatepass"), found
