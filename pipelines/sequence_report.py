"""Rows of generated sequences as tables, and the plot of the gain against the length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from streamdyn.pipelines.bench_sequences import ROUNDS, ROWS
from streamdyn.pipelines.bench_text import speed_text
from streamdyn.pipelines.checks import Check
from streamdyn.pipelines.plots import save_plot
from streamdyn.pipelines.row_file import Row


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows as `ROWS` has them; those that an earlier version measured come last."""
    places = {name: place for place, name in enumerate(ROWS)}
    return sorted(rows, key=lambda row: places.get(f"{row['task']}/{row['row']}", len(places)))


def sequence_section(rows: Sequence[Row], plot: Path) -> str:
    """Tables of the rows, in Markdown; where some have lengths, `plot` is drawn as well.

    Raises:
        StoreError: The plot cannot be written.
    """
    lines = [
        "## Generated sequences",
        "",
        "| task | reader | cell | score | ± | read | partly | tokens | speed | training |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row["task"],
            row["row"],
            row["cell"],
            f"{row['score']:.4g}",
            f"{row['standard_error']:.2g}",
            f"{row['read_rate']:.0%}",
            f"{row['partial_rate']:.0%}" if row["partial_rate"] else "",
            f"{row['tokens_touched']:.1f}",
            speed_text(row["speed"]),
            f"{row['training_seconds']:.0f} s",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "The score is the accuracy; of adding, the mean squared error (variance 1/6). *tokens*: "
        f"read in full or partly, again what is read again; *speed* is of {ROUNDS} rounds. "
        "transkimmer, idf and label_odds have no row: the first reads word pieces, the others go "
        "by how rare or telling a word is, and here inputs are vectors, or numbers that are all "
        "equally frequent. A sentence of jumper and a clause of structural_jump are five tokens.",
    ]
    by_length = [row for row in rows if "lengths" in row]
    if by_length:
        _plot_gain(by_length, plot)
        lines += ["", f"![gain against length]({plot.name})"]
    for row in by_length:
        lines += [
            "",
            f"| {row['task']}, {row['row']}: tokens | accuracy | tokens read | speed |",
            "|---|---|---|---|",
        ]
        for point in row["lengths"]:
            lines.append(
                f"| {point['length']:,} | {100 * point['score']:.1f} "
                f"± {100 * point['standard_error']:.1f} | {point['tokens_touched']:.1f} "
                f"| {speed_text(point['speed'])} |"
            )
    return "\n".join(lines)


def sequence_checks(rows: Iterable[Row]) -> list[Check]:
    """The targets that rows have."""
    return [
        Check(
            f"{row['task']}: {row['row']}",
            f"{row['score']:.4g} at {row['read_rate']:.0%}",
            row["met"],
        )
        for row in rows
        if row["met"] is not None
    ]


def _plot_gain(rows: Iterable[Row], target: Path) -> None:
    """Wall-clock gain of p[p[0]] against the length, on logarithmic axes.

    Raises:
        StoreError: The file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panel = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
    for number, row in enumerate(rows):
        points = row["lengths"]
        lengths = [point["length"] for point in points]
        low, mid, high = (
            [point["speed"][key] for point in points] for key in ("ratio_min", "ratio", "ratio_max")
        )
        panel.plot(lengths, mid, marker="o", markersize=4, label=row["row"])
        panel.fill_between(lengths, low, high, alpha=0.25)
        # Below the first line, above the next.
        side, offset = ("right", (-4, 5)) if number % 2 else ("left", (4, -12))
        for length, ratio in zip(lengths, mid, strict=True):
            panel.annotate(
                f"{ratio:.3g}x", (length, ratio), xytext=offset, textcoords="offset points",
                ha=side, fontsize=8, color=f"C{number}",
            )  # fmt: skip
    panel.axhline(1, color="0.5", linewidth=0.8)
    panel.set(
        xscale="log",
        yscale="log",
        xlabel="numbers in the sequence",
        ylabel="times faster than a full read by nn.LSTM",
        title="p[p[0]]: at most two numbers read, whatever the length",
    )
    panel.margins(x=0.12)
    panel.grid(alpha=0.3, which="both")
    panel.legend()
    save_plot(figure, target)
