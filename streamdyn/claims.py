"""A folder that one process alone uses: a lock that the system gives back when the process dies."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import TextIO

from streamdyn.errors import StoreError

_POLL_SECONDS = 0.1


def claim(folder: Path, name: str = "lock", *, wait_seconds: float = 0.0) -> TextIO:
    """Have a folder until the file that is returned is closed, or the process ends.

    Args:
        folder: That exists.
        name: Of the file in it that is locked.
        wait_seconds: For another that has it.

    Raises:
        StoreError: Another process has it still.
        OSError: The file cannot be made.
    """
    deadline = time.monotonic() + wait_seconds
    file = (folder / name).open("w")
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                continue
            file.close()
            raise StoreError(
                f"another process uses {folder}; end it, or name another folder"
            ) from exc
        return file
