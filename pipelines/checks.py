"""Targets of this project and whether what was measured meets them: one table on every page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """A target and what was measured."""

    text: str
    value: str
    is_met: bool


def check_table(found: Sequence[Check]) -> str:
    """Markdown, misses in bold."""
    told = {True: "met", False: "**missed**"}
    lines = [f"| {check.text} | {check.value} | {told[check.is_met]} |" for check in found]
    return "\n".join(["| target | measured | |", "|---|---|---|", *lines])
