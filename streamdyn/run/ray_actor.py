"""What all actors of a job on Ray have in common."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from streamdyn import __version__
from streamdyn.errors import ConfigError


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
    """The value, when it is there; what the actor raised is raised as it was there."""
    from ray.exceptions import RayTaskError

    try:
        return ray_module().get(reference, timeout=timeout_seconds)
    except RayTaskError as exc:
        raise exc.cause from exc


def remote(kind: Any, **options: Any) -> Any:
    """A class whose instances are actors."""
    return ray_module().remote(**options)(kind)


def here(*, or_elsewhere: bool = False, node: str | None = None) -> Any:
    """Where to place an actor: on this machine, or another one of the cluster.

    Args:
        or_elsewhere: Where it cannot be there.
        node: Id of the other one.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = node or ray_module().get_runtime_context().get_node_id()
    return NodeAffinitySchedulingStrategy(node, soft=or_elsewhere)


def check_version(who: str, found: ActorFacts) -> None:
    """Refuse actors of another version.

    Raises:
        ConfigError: They are.
    """
    if found.version != __version__:
        raise ConfigError(
            f"{who} on {found.node} have streamdyn {found.version} and this is {__version__}; "
            "install the same version on all machines"
        )


def last_line(exc: BaseException) -> str:
    """Of a long report of Ray: what went wrong."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1] if lines else repr(exc)
