"""Writing files so that there is the old one or the whole new one, never a part of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamdyn.errors import StoreError, StreamdynError


@contextmanager
def put_in_place(target: Path) -> Iterator[Path]:
    """A name to write to; renamed to `target` when the body succeeds, deleted when it fails."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    with write_explained(target):
        try:
            yield part
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def write_explained(target: Path) -> Iterator[None]:
    """Turn an `OSError` of the body into a `StoreError`; our own errors say enough."""
    try:
        yield
    except StreamdynError:
        raise
    except OSError as exc:
        raise StoreError(
            f"cannot write {target}: {exc.strerror or exc}; what was there is unchanged; check "
            "the folder and the free space"
        ) from exc
