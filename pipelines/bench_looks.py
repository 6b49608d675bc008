"""Where does each policy look? A picture of it, for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.items import Block
from streamdyn.outcome import Outcome
from streamdyn.pipelines.plots import save_plot
from streamdyn.previews.glimpses import seconds_of
from streamdyn.protocols import Policy, Recognizer
from streamdyn.run.local import run_stream
from streamdyn.sources.video_av import VideoAv


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """Where one policy looked in one video."""

    path: str
    policy: str
    num_items: int
    ordinals: tuple[int, ...]
    seconds: tuple[float, ...]
    labels: tuple[str, ...]


def bench_looks(
    paths: Sequence[str],
    recognizer: Recognizer,
    policies: Mapping[str, Policy[Any]],
    *,
    on_step: Callable[[str], None] = lambda step: None,
) -> list[Looks]:
    """Run every policy over every video.

    Args:
        paths: Videos.
        recognizer: Set up.
        policies: Name → policy.
        on_step: Told what runs next.

    Raises:
        SourceError: A video cannot be read.
    """
    found = []
    for path in paths:
        for name, policy in policies.items():
            on_step(f"{Path(path).name}: {name}")
            outcomes: list[Outcome] = []
            summary = run_stream(
                VideoAv(path, on_corrupt="skip"),
                policy,
                recognizer,
                on_window=lambda result, out=outcomes: out.extend(result.outcomes),
            )
            found.append(
                Looks(
                    path,
                    name,
                    summary.receipt.num_items,
                    tuple(outcome.ordinal for outcome in outcomes),
                    tuple(float(outcome.pts.seconds) for outcome in outcomes),
                    tuple(outcome.label for outcome in outcomes),
                )
            )
    return found


def plot_looks(found: Sequence[Looks], picture: Path) -> None:
    """A panel a video: a row of ticks a policy, over the sizes of the packets.

    Raises:
        ConfigError: The suffix of `picture` is not that of a plot.
        SourceError: A video cannot be read.
        StoreError: The file cannot be written.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    paths = list(dict.fromkeys(looks.path for looks in found))
    names = list(dict.fromkeys(looks.policy for looks in found))
    height = 0.9 + 0.24 * len(names)
    figure, panels = plt.subplots(
        len(paths), figsize=(9, height * len(paths)), layout="constrained", squeeze=False
    )
    for path, axes in zip(paths, panels[:, 0], strict=True):
        seconds, sizes = _packets(path)
        top = len(names) - 0.5
        axes.fill_between(seconds, top, top + sizes, color="0.8", linewidth=0, step="mid")
        for place, name in enumerate(reversed(names)):
            looks = next(one for one in found if (one.path, one.policy) == (path, name))
            axes.vlines(looks.seconds, place - 0.35, place + 0.35, color=f"C{place % 10}", lw=1)
        axes.set_yticks(range(len(names)), reversed(names), fontsize=7)
        margin = 0.01 * (seconds[-1] - seconds[0])
        axes.set_xlim(seconds[0] - margin, seconds[-1] + margin)
        axes.set_title(f"{Path(path).name} (grey: packet sizes)", fontsize=9, loc="left")
        axes.tick_params(axis="x", labelsize=8)
    panels[-1, 0].set_xlabel("seconds")
    save_plot(figure, picture)


def _packets(path: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """When each item is shown, and its packet's size in [0, 2] by rank."""
    blocks = []
    with closing(VideoAv(path).open()) as cursor:
        while (block := cursor.next_block()) is not None:
            blocks.append(block)
            cursor.release(block.stop)
    whole = Block.join(blocks)
    ranks = np.argsort(np.argsort(whole.num_bytes, kind="stable"))
    return seconds_of(whole), 2 * ranks / max(1, len(ranks) - 1)
