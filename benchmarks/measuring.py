"""What every benchmark prints around its figures, and how a paired ratio is taken."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median


def header() -> None:
    """The machine and the command."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    print(
        f"machine: {model}, {len(os.sched_getaffinity(0))} cores, Python {sys.version.split()[0]}"
    )
    print(f"load:    {os.getloadavg()[0]:.1f}")
    print(f"command: python {shlex.join(sys.argv)}")


def paired(
    first: Callable[[], object], second: Callable[[], object], repeats: int
) -> tuple[list[float], list[float]]:
    """Seconds of both, run in turn after one unmeasured round; which goes first alternates."""
    times: tuple[list[float], list[float]] = ([], [])
    first(), second()
    for turn in range(repeats):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            started = time.perf_counter()
            (first, second)[side]()
            times[side].append(time.perf_counter() - started)
    return times


def spread(values: list[float], unit: str = "") -> str:
    """Median with the smallest and the largest."""
    return f"{median(values):.3g}{unit} ({min(values):.3g} to {max(values):.3g})"


def verdict(what: str, value: float, limit: float, *, at_most: bool) -> bool:
    """Print whether a target holds."""
    holds = value <= limit if at_most else value >= limit
    sign = "<=" if at_most else ">="
    print(f"target:  {what} {sign} {limit:g}: {value:.3g}, {'holds' if holds else 'MISSED'}")
    return holds
