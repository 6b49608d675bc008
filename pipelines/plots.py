"""Saving a plot: whole or not at all, and never left in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamdyn.errors import ConfigError
from streamdyn.index.placing import put_in_place


def plot_format(target: Path) -> str:
    """`png` or `svg`, by the suffix.

    Raises:
        ConfigError: Another suffix.
    """
    suffix = target.suffix.lower().removeprefix(".")
    if suffix not in ("png", "svg"):
        raise ConfigError(f"cannot plot to {target}: its name must end in .png or .svg")
    return suffix


def save_plot(figure: Any, target: Path, dpi: int = 110) -> None:
    """Write a `matplotlib.figure.Figure` of pyplot and close it.

    Raises:
        ConfigError: The suffix of `target` is not that of a plot.
        StoreError: The file cannot be written.
    """
    from matplotlib import pyplot as plt

    try:
        with put_in_place(target) as part:
            figure.savefig(part, dpi=dpi, format=plot_format(target))
    finally:
        plt.close(figure)
