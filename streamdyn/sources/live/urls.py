"""What kind of live source a URL names, how FFmpeg is to open it, and how to print it."""

from __future__ import annotations

import base64
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from streamdyn.errors import ConfigError

Kind = Literal["rtsp", "hls", "mpegts", "rtmp", "http", "device", "file"]
_BY_SCHEME: dict[str, Kind] = {
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "rtmp": "rtmp",
    "rtmps": "rtmp",
    "udp": "mpegts",
    "tcp": "mpegts",
    "srt": "mpegts",
    "http": "http",
    "https": "http",
    "file": "file",
}
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+(?=@)")
_SECRET_QUERY = re.compile(
    r"(?<=[?&])((?:[^=&\s]*(?:token|pass|pwd|key|secret|sig|auth)[^=&\s]*)=)[^&\s]*", re.IGNORECASE
)


def redacted(text: str) -> str:
    """A URL, or a message that holds some, without user names, passwords, tokens and keys."""
    return _SECRET_QUERY.sub(r"\1***", _CREDENTIALS.sub("***", text))


def request_of(
    url: str, headers: Mapping[str, str], data: bytes | None = None, method: str | None = None
) -> urllib.request.Request:
    """An HTTP request; a user and password that stand in the URL go into a header (RFC 7617)."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if at:
        token = base64.b64encode(unquote(user).encode()).decode()
        url = urlunsplit(parts._replace(netloc=host))
    request = urllib.request.Request(url, data, dict(headers), method=method)
    if at:  # Not for another host that the server may name.
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


@dataclass(frozen=True, slots=True)
class Address:
    """A live source's URL, taken apart.

    Args:
        url: As given.
    """

    url: str

    @property
    def kind(self) -> Kind:
        """How it is read.

        Raises:
            ConfigError: A scheme that is not known.
        """
        scheme = urlsplit(self.url).scheme.lower() if "://" in self.url else ""
        if not scheme:
            return "device" if self.url.startswith("/dev/video") else "file"
        if scheme not in _BY_SCHEME:
            raise ConfigError(
                f"cannot watch {redacted(self.url)}: no live source has the scheme {scheme!r}; "
                f"known: {', '.join(sorted(_BY_SCHEME))}, a file, or a camera as /dev/video0"
            )
        is_playlist = urlsplit(self.url).path.lower().endswith(".m3u8")
        return "hls" if is_playlist else _BY_SCHEME[scheme]

    @property
    def is_file(self) -> bool:
        """It has an end, and can be read from its start again."""
        return self.kind == "file"

    @property
    def name(self) -> str:
        """To print."""
        return redacted(self.url)

    @property
    def location(self) -> str:
        """For FFmpeg."""
        return self.url.removeprefix("file://") if self.is_file else self.url

    @property
    def format(self) -> str | None:
        """Of the container, where FFmpeg cannot find it out."""
        return {"device": "v4l2", "mpegts": "mpegts"}.get(self.kind)

    def options(self, stall_seconds: float, *, may_skip: bool = False) -> dict[str, str]:
        """For FFmpeg: TCP for RTSP, timeouts in the protocol, a short look at the start.

        Args:
            stall_seconds: A read that takes longer fails.
            may_skip: Segments of HLS that cannot be had are left out.
        """
        microseconds = str(int(stall_seconds * 1e6))
        options = {"fflags": "+genpts", "fpsprobesize": "0"}
        if self.kind == "rtsp":
            options |= {"rtsp_transport": "tcp", "timeout": microseconds}
        elif self.kind == "hls":
            # From the oldest segment on: what was seen is recognized, what was missed is not lost.
            options |= {
                "live_start_index": "-100000",
                "seg_max_retry": "0" if may_skip else "1000000",
                "rw_timeout": microseconds,
            }
        elif self.kind != "file":
            options |= {"rw_timeout": microseconds} if self.kind != "device" else {}
        return options

    def check(self) -> None:
        """Fail now where waiting will not help.

        Raises:
            ConfigError: A scheme that is not known, or a file that is not there.
        """
        if self.kind in ("file", "device") and not Path(self.location).exists():
            raise ConfigError(f"cannot watch {self.url}: there is no such file; check the path")
