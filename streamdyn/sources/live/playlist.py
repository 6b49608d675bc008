"""What an HLS playlist says (RFC 8216): its segments, and when each of them was filmed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import m3u8

from streamdyn.errors import SourceError

_KEPT = "/:@!$&'()*+,;=~%-._"
"""Characters of a path or query that stand for themselves."""


class EncryptedError(SourceError):
    """Segments are encrypted; only FFmpeg's own reader can decrypt them."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or some bytes of one."""

    url: str
    first: int = 0
    count: int | None = None
    """`None`: to its end."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of video that can be had by itself."""

    sequence: int
    """Increases by one."""
    run: int
    """Of segments whose times go on from one another; increases at each discontinuity."""
    part: Part
    head: Part | None
    """What a decoder must know, in fragmented MP4."""
    seconds: float
    filmed_at: float | None
    """When its first picture was, seconds since the epoch; `None` where nothing says so."""
    is_gap: bool
    """There is nothing to be had."""


@dataclass(frozen=True, slots=True)
class Playlist:
    """What is to be had now."""

    segments: tuple[Segment, ...]
    has_end: bool
    """Nothing will be added."""
    longest_seconds: float
    """Of a segment."""
    is_dated: bool
    """Times are those of `EXT-X-PROGRAM-DATE-TIME`."""


def best_variant(text: str, base: str) -> str | None:
    """URL of the playlist of most bits a second, where there are several; else `None`."""
    found = _parsed(text, base)
    if not found.playlists:
        return None
    best = max(found.playlists, key=lambda variant: variant.stream_info.bandwidth or 0)
    return absolute(base, best.uri)


def read_playlist(text: str, base: str, now: float) -> Playlist:
    """A media playlist.

    Args:
        text: Of it.
        base: URL that it was had from in the end.
        now: Seconds since the epoch: in a live playlist without dates the last segment ends now.

    Raises:
        SourceError: It is none.
        EncryptedError: See there.
    """
    found = _parsed(text, base)
    if any(key is not None and key.method not in (None, "NONE") for key in found.keys):
        raise EncryptedError(f"segments of {base} are encrypted")
    named = [segment for segment in found.segments if segment.uri]
    dates, is_dated = [*_dates(named)], any(s.program_date_time for s in named)
    if not is_dated and not found.is_endlist:
        left = sum(segment.duration or 0.0 for segment in named)
        dates = [now - left + sum(s.duration or 0.0 for s in named[:n]) for n in range(len(named))]
    run, next_byte = found.discontinuity_sequence or 0, dict[str, int]()
    segments = []
    for place, segment in enumerate(named):
        run += bool(segment.discontinuity)
        head = segment.init_section
        segments.append(
            Segment(
                sequence=(found.media_sequence or 0) + place,
                run=run,
                part=_part(base, segment.uri, segment.byterange, next_byte),
                head=head and _part(base, head.uri, head.byterange, {}),
                seconds=segment.duration or 0.0,
                filmed_at=dates[place],
                is_gap=bool(segment.gap_tag),
            )
        )
    longest = max([found.target_duration or 0.0, *(s.seconds for s in segments)])
    return Playlist(tuple(segments), found.is_endlist, float(longest), is_dated)


def _dates(segments: list[m3u8.Segment]) -> Iterator[float | None]:
    """A segment without a date of its own follows the one before."""
    at: float | None = None
    for segment in segments:
        date = segment.program_date_time
        if date is not None:
            at = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        elif segment.discontinuity:
            at = None
        yield at
        at = None if at is None else at + (segment.duration or 0.0)


def _part(base: str, uri: str, byte_range: str | None, next_byte: dict[str, int]) -> Part:
    """Bytes without a place follow those before them in the same file (RFC 8216, 4.3.2.2)."""
    url = absolute(base, uri)
    if not byte_range:
        return Part(url)
    count, _, first = byte_range.partition("@")
    part = Part(url, int(first) if first else next_byte.get(url, 0), int(count))
    next_byte[url] = part.first + int(count)
    return part


def absolute(base: str, uri: str) -> str:
    """A URL as it can be asked for; user and password go along to the same host."""
    parts, from_ = urlsplit(urljoin(base, uri)), urlsplit(base)
    if "@" in from_.netloc and parts.netloc == from_.netloc.rpartition("@")[2]:
        parts = parts._replace(netloc=from_.netloc)
    path, query = quote(parts.path, safe=_KEPT), quote(parts.query, safe=_KEPT + "?")
    return urlunsplit(parts._replace(path=path, query=query, fragment=""))


def _parsed(text: str, base: str) -> m3u8.M3U8:
    if not text.lstrip("\ufeff \r\n").startswith("#EXTM3U"):
        raise SourceError("what came is no playlist: it does not begin with #EXTM3U")
    try:
        return m3u8.loads(text.lstrip("\ufeff"), uri=base)
    except (ValueError, AttributeError, IndexError, KeyError, TypeError) as exc:
        raise SourceError(f"cannot read the playlist: {type(exc).__name__}: {exc}") from exc
