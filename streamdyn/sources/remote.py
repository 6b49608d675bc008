"""Files of object stores (`s3://`, `gs://` and so on), found and read through fsspec.

Credentials and endpoints are those of the environment, as for any other program of that store:
`AWS_PROFILE`, `AWS_ENDPOINT_URL` and so on. FFmpeg itself opens the other URLs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from streamdyn.errors import MissingExtra, SourceError, StreamdynError

_PACKAGES = {
    "s3": ("s3fs", "s3"),
    "s3a": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "gcs": ("gcsfs", "gcs"),
    "az": ("adlfs", "azure"),
    "abfs": ("adlfs", "azure"),
    "abfss": ("adlfs", "azure"),
}
"""Scheme → the package that fsspec needs for it, and the extra that has it."""


@dataclass(frozen=True, slots=True)
class RemoteFacts:
    """What a store says of a file without sending it."""

    num_bytes: int
    fingerprint: str
    """Changes when the file does."""


def is_remote(path: str) -> bool:
    """Whether a path is a URL of an object store."""
    scheme, is_url, _ = path.partition("://")
    return bool(is_url) and scheme in _PACKAGES


def facts_of(path: str) -> RemoteFacts:
    """Size and fingerprint of a file.

    Raises:
        SourceError: It is not there, or may not be read.
        MissingExtra: The package for such stores is not installed.
    """
    with _explained(path):
        found = _file_system(path).info(path)
        if found["type"] != "file":
            raise SourceError(f"cannot open {path}: it is a folder; name a file in it")
        # Every store has its own name for it, and a time of change.
        marks = {k: str(v) for k, v in found.items() if k.lower() in ("etag", "md5hash", "crc32c")}
        marks = marks or {k: str(v) for k, v in found.items() if k.lower() in ("lastmodified",)}
    size = int(found["size"])
    text = f"{size} {sorted(marks.items())}"
    return RemoteFacts(size, hashlib.sha256(text.encode()).hexdigest()[:20])


def find_files(path: str, suffixes: frozenset[str]) -> list[str]:
    """A file as it is; below a folder, all files with one of the suffixes, sorted.

    Raises:
        SourceError: There is nothing, or it may not be listed.
        MissingExtra: The package for such stores is not installed.
    """
    with _explained(path):
        store = _file_system(path)
        if store.isfile(path):
            return [path]
        scheme = path.partition("://")[0]
        files = [f"{scheme}://{store._strip_protocol(name)}" for name in store.find(path)]
    found = [name for name in files if PurePosixPath(name).suffix.lower() in suffixes]
    if not found:
        what = "no video file below it" if files else "no such file or folder"
        raise SourceError(f"cannot index {path}: {what}; check the path and the credentials")
    return sorted(found)


class RemoteFile:
    """A file of a store for FFmpeg to read, a block at a time; what fails says so.

    Raises:
        SourceError: It is not there, or may not be read.
        MissingExtra: The package for such stores is not installed.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        with _explained(path):
            self._file = _file_system(path).open(path, "rb")

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        with _explained(self.name):
            found: bytes = self._file.read(size)
            return found

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        with _explained(self.name):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Where it stands."""
        return int(self._file.tell())

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


def _file_system(path: str) -> Any:
    scheme = path.partition("://")[0]
    try:
        import fsspec

        store, _ = fsspec.core.url_to_fs(path)
    except ImportError as exc:
        package, extra = _PACKAGES[scheme]
        raise MissingExtra(package, f"reading {scheme}:// paths", extra) from exc
    # What is listed may have changed since.
    store.invalidate_cache()
    return store


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except StreamdynError:
        raise
    except FileNotFoundError as exc:
        raise SourceError(f"cannot open {path}: no such file; check the path") from exc
    except Exception as exc:
        # Every store has exceptions of its own.
        raise SourceError(
            f"cannot read {path}: {type(exc).__name__}: {exc}; check the network, the credentials "
            "and the endpoint in the environment"
        ) from exc
