"""Opening a container: a file, a URL that FFmpeg knows, or a file in an object store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av

from streamdyn.errors import SourceError
from streamdyn.sources.remote import RemoteFile, is_remote

OPEN_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 20.0


def open_container(path: str, options: dict[str, str] | None = None) -> Any:
    """Open a file or URL for reading.

    Raises:
        SourceError: It cannot be opened; says why and what to do.
        MissingExtra: The package for a store's URLs is not installed.
    """
    is_url = "://" in path
    file_or_name = RemoteFile(path) if is_remote(path) else path
    if not is_url:
        file = Path(path)
        if not file.exists():
            raise SourceError(f"cannot open {path}: no such file; check the path")
        if file.is_dir():
            raise SourceError(f"cannot open {path}: it is a directory; name a file in it")
        if file.stat().st_size == 0:
            raise SourceError(f"cannot open {path}: the file has zero bytes; copy it again")
    try:
        return av.open(
            file_or_name,
            options={"fflags": "+genpts", **(options or {})},
            timeout=(OPEN_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS) if is_url else None,
        )
    except (av.error.FFmpegError, OSError) as exc:
        raise SourceError(
            f"cannot open {path}: {exc.strerror or exc}; it is not a media file that FFmpeg can "
            "read, or it is cut off at the start or end; convert or copy it again"
        ) from exc


def video_stream(container: Any, path: str) -> Any:
    """The first real video stream (cover pictures are none).

    Raises:
        SourceError: There is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if stream.codec_context is None:
                raise SourceError(
                    f"cannot decode {path}: no decoder for its codec in this FFmpeg build; "
                    "convert it to H.264"
                )
            return stream
    kinds = sorted({s.type for s in container.streams}) or ["nothing"]
    raise SourceError(
        f"cannot watch {path}: it has no video stream, only {', '.join(kinds)}; "
        "use the source 'audio' for sound"
    )
