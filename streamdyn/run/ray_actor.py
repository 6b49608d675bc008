"""What all actors of a job on Ray have in common."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from streamdyn import __version__


@dataclass(frozen=True, slots=True)
class ActorFacts:
    """What an actor is, and where."""

    version: str
    """Of streamdyn."""
    node: str
    """Name of the machine."""

    @staticmethod
    def here() -> ActorFacts:
        """Of this process."""
        return ActorFacts(__version__, platform.node())


def stand_in(folder: str) -> None:
    """Go where the driver stands, so that relative paths in options mean the same.

    Not every machine has that folder; there, a part says what it does not find.
    """
    with suppress(OSError):
        os.chdir(folder)


def ray_module() -> Any:
    """It takes seconds to load, and half of it has no types."""
    import ray

    return ray


def get(reference: Any, timeout_seconds: float | None = None) -> Any:
    """The value, when it is there."""
    return ray_module().get(reference, timeout=timeout_seconds)
