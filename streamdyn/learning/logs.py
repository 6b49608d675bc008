"""How a training went, in files that TensorBoard shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from streamdyn.errors import MissingExtra, StoreError

Log = Callable[[str, int, float], None]
"""Told a name as `loss`, the number of the epoch or round, and a value."""


def no_log(name: str, number: int, value: float) -> None:
    """Nobody wants to know."""


@contextmanager
def tensorboard_log(folder: Path | None, run: str) -> Iterator[Log]:
    """A log that goes to `folder/run`; nowhere where there is no folder.

    Raises:
        MissingExtra: `tensorboardX` is not installed.
        StoreError: The folder cannot be written.
    """
    if folder is None:
        yield no_log
        return
    try:
        from tensorboardX import SummaryWriter
    except ImportError as exc:
        raise MissingExtra("tensorboardX", "a log for TensorBoard", "logs") from exc
    try:
        writer = SummaryWriter(str(folder / run))
    except OSError as exc:
        raise StoreError(f"cannot write a log to {folder / run}: {exc.strerror or exc}") from exc
    try:
        yield lambda name, number, value: writer.add_scalar(f"{run}/{name}", value, number)
    finally:
        writer.close()
