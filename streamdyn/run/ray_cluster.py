"""The cluster of a job: one that runs, or one that is started here and ended with the job."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streamdyn.errors import ConfigError
from streamdyn.run.ray_actor import ray_module

STORE_BYTES = 200 * 1024 * 1024
"""Of the object store of a cluster that is started here; only chosen pictures go through it, and
only where recognizers are shared."""

START_SECONDS = 120
"""To wait for an actor where there is a node that is large enough; others may be using it."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Where to run, and with how much."""

    address: str | None = None
    """Of a running cluster, as `auto` or `HOST:PORT`; by default that of the job that this runs in
    (`RAY_ADDRESS`), else one is started here."""
    workers: int | None = None
    """By default one a core of the cluster."""
    worker_cpus: float = 1.0
    """Cores of each."""
    hosts: int = 0
    """Recognizers that workers share; 0: every worker has its own."""
    host_gpus: float = 0.0
    """GPUs of each shared recognizer, or of each worker where none are shared."""


@contextmanager
def connected(cluster: ClusterOptions) -> Iterator[None]:
    """A cluster: the one at the address, one that this process is in already, or one made here."""
    ray = ray_module()
    if ray.is_initialized():
        yield
        return
    # Within `ray job submit` the address is there; another cluster of this machine is not meant.
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    try:
        if address is not None:
            if ":" in address:
                _knock(address)
            ray.init(address=address, logging_level="ERROR")
        else:
            check_shared_memory(Path("/dev/shm"), STORE_BYTES)
            ray.init(
                address="local", include_dashboard=False, logging_level="ERROR",
                object_store_memory=STORE_BYTES,
            )  # fmt: skip
    except (OSError, RuntimeError, ValueError) as exc:
        raise ConfigError(
            f"cannot reach a Ray cluster at {address or 'this machine'}: "
            f"{str(exc).strip().splitlines()[0]}; check the address, or start one with `ray start "
            "--head`"
        ) from exc
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself tries for minutes to reach who is not there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    socket.create_connection((host, int(port)), timeout=5).close()


def check_shared_memory(folder: Path, needed: int) -> None:
    """Whether the object store fits; without it Ray goes to disk in silence.

    Raises:
        ConfigError: It does not.
    """
    if not folder.exists():
        return
    total = shutil.disk_usage(folder).total
    if total < needed:
        raise ConfigError(
            f"{folder} holds {total / 1e6:.0f} MB and Ray's object store takes {needed / 1e6:.0f}; "
            "give the container more with --shm-size=512m"
        )


def check_gpus(each: float, device: str, there: float) -> None:
    """Whether recognizers get the GPUs that they need, and need those they get.

    Raises:
        ConfigError: They do not.
    """
    if each > there or (device != "cpu" and not there):
        raise ConfigError(
            f"recognizers on {device} ask for {each:g} GPUs each and the cluster has {there:g}; "
            "add a node with a GPU, or leave out --gpus and say --device cpu"
        )
    if device != "cpu" and not each:
        raise ConfigError(f"recognizers on {device} are given no GPU; say --gpus 1, or a share")
    if each and device == "cpu":
        raise ConfigError(
            f"recognizers are given {each:g} GPUs each and would run on the CPU; say --device "
            "cuda, or leave out --gpus"
        )


def told(resources: dict[str, float]) -> str:
    """Cores and GPUs, to print."""
    return ", ".join(f"{resources.get(name, 0.0):g} {name}" for name in ("CPU", "GPU"))
