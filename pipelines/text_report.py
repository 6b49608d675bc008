"""What `bench text` measured, as a page of tables and plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from streamdyn.index.placing import put_in_place
from streamdyn.pipelines.bench_text import ROWS, exit_key, speed_text
from streamdyn.pipelines.checks import Check, check_table
from streamdyn.pipelines.plots import save_plot
from streamdyn.pipelines.row_file import Row
from streamdyn.pipelines.sequence_report import in_order, sequence_checks, sequence_section
from streamdyn.pipelines.text_recipes import FAMILIES, RECIPES, TRANSFORMER
from streamdyn.pipelines.text_runs import FULL

_COLORS = dict(zip(FAMILIES, ("C0", "C1", "C2", "C3", "C4", "C5", "0.6"), strict=True))
_MARKERS = "osDv^P*X"
_WHOLE = 0.95
"""Read rate from which everything was read; a transformer takes 510 tokens at most."""
_FIFTH = 0.21
"""Read rate up to which a fifth was read."""


def pooled_rows(rows: Iterable[Row]) -> list[Row]:
    """One row for each task and reader: means over folds, test texts added up."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["row"]), []).append(row)
    order = {name: place for place, name in enumerate(ROWS)}
    pooled = [_pool(group) for group in groups.values()]
    return sorted(pooled, key=lambda row: (row["task"], order[row["row"]]))


def write_page(rows: Sequence[Row], page: Path, sequences: Sequence[Row] = ()) -> None:
    """Write `page` and, beside it, its plots.

    Args:
        rows: Of `bench_text`.
        page: Markdown.
        sequences: Rows of `bench_sequences`.

    Raises:
        StoreError: A file cannot be written.
    """
    rows, sequences = pooled_rows(rows), in_order(sequences)
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    picture, gain = page.with_suffix(".png"), page.with_name(f"{page.stem}_length.png")
    if rows:
        plot_curves(rows, picture)
    parts = [
        "# Readers of text, measured",
        "Made by `streamdyn bench text --page`; every figure is of an executed run on the test "
        "part, text by text, on one thread. *read*: share of the tokens read in full; *partly*: "
        "share of partial updates. *FLOPs*: of the full read over the reader's. *speed*: wall "
        "clock of a full read by torch's fused cell (for transkimmer: of the same MiniLM in "
        "onnxruntime with all tokens and layers) over the reader's, decisions included, paired "
        "text by text, median of 5 rounds with the smallest and the greatest; behind the "
        "semicolon the same where both also cut the text into tokens, as a call from text to "
        "answer does. ± is one standard error. *at 20 %*: the knob that comes nearest to reading "
        "so far of held-out texts on average, with what was read of the test part; *20 % at "
        "most*: `rate=0.2`, which no text exceeds. *full* in the last column: the same weights "
        "made to read everything, with what they read where that is less. A text of ten tokens "
        "is read in less time than a call to torch takes: there the FLOPs say more than the "
        "speed. Targets count the tokens' time, and a fifth is up to 21 %.",
        *([f"![accuracy against read rate]({picture.name})"] if rows else []),
        *(_task_table(task, [row for row in rows if row["task"] == task]) for task in tasks),
        *([sequence_section(sequences, gain)] if sequences else []),
        "## Targets",
        check_table([*checks(rows), *sequence_checks(sequences)]),
    ]
    with put_in_place(page) as part:
        part.write_text("\n\n".join(parts) + "\n", "utf-8")


def checks(rows: Sequence[Row]) -> list[Check]:
    """The targets of this project for the rows that are there."""
    table = {(row["task"], row["row"]): row for row in rows}
    found: list[Check] = []
    for task, reader, least in (
        ("imdb", FULL, 0.90),
        ("imdb", TRANSFORMER, 0.91),
        ("rotten_tomatoes", FULL, 0.78),
        ("sst", FULL, 0.82),
        ("trec", FULL, 0.90),
    ):
        if (task, reader) in table:
            figures = table[task, reader]
            entry = figures["as_trained"] if reader == FULL else figures["points"]["1.0"]
            found.append(
                Check(
                    f"{task}: full read of {reader} at least {least:.0%}",
                    _accuracy(entry),
                    entry["accuracy"] >= least,
                )
            )
    for row in rows:
        task, name = row["task"], row["row"]
        if "points" not in row or row["family"] == "trivial":
            continue
        if task in ("imdb", "movie_reviews"):
            found += _long_checks(task, name, row, table)
        if (
            task == "rotten_tomatoes"
            and row["family"] in ("skip update", "partial update")
            and (task, FULL) in table
        ):
            found.append(_half_check(task, name, row, table[task, FULL]["as_trained"]))
        rise = _rise(list(row["points"].values()))
        found.append(
            Check(
                f"{task}: {name} gets no better by reading less, within 2 standard errors",
                f"{rise:.1f}",
                rise <= 2,
            )
        )
        speed = row["speed"]["0.5"]["ratio_with_tokens"]
        found.append(Check(f"{task}: {name} at 50 % at least 1.5x", f"{speed:.2f}x", speed >= 1.5))
    return found


def _long_checks(
    task: str, name: str, row: Row, table: Mapping[tuple[str, str], Row]
) -> list[Check]:
    whole, point = row["points"]["1.0"], row["points"]["0.2"]
    if whole["read_rate"] < _WHOLE and (task, FULL) in table:
        # It cannot be made to read everything: what does is its bar.
        whole = table[task, FULL]["as_trained"]
    full, fifth = whole["accuracy"], point["accuracy"]
    is_fifth = point["read_rate"] <= _FIFTH
    least = 2.5 if name == TRANSFORMER else 3.0
    speed = row["speed"]["0.2"]["ratio_with_tokens"]
    rivals = {
        other: table[task, other]["points"]["0.2"]["accuracy"]
        for other in ("last_k", "random", "idf", "label_odds")
        if (task, other) in table
    }
    best = max(rivals, key=rivals.__getitem__, default="")
    made = [
        Check(
            f"{task}: {name} at 20 % within 1.5 points of its full read",
            f"{100 * (fifth - full):+.1f} at {point['read_rate']:.0%}",
            is_fifth and fifth >= full - 0.015,
        ),
        Check(f"{task}: {name} at 20 % at least {least}x", f"{speed:.2f}x", speed >= least),
    ]
    if best:
        made.append(
            Check(
                f"{task}: {name} at 20 % beats the best trivial policy ({best})",
                f"{100 * (fifth - rivals[best]):+.1f}",
                is_fifth and fifth > rivals[best],
            )
        )
    return made


def _rise(points: Sequence[Mapping[str, float]]) -> float:
    """By how many standard errors, at most, a point is above one that reads more."""
    points = sorted(points, key=lambda point: -point["read_rate"])
    return max(
        (less["accuracy"] - more["accuracy"])
        / max(float(np.hypot(less["standard_error"], more["standard_error"])), 1e-9)
        for more, less in combinations(points, 2)
    )


def _half_check(task: str, name: str, row: Row, full: Mapping[str, float]) -> Check:
    """At the best of the measured points that need no more than half the FLOPs."""
    points = [row["as_trained"], *row["points"].values()]
    halved = [point for point in points if 2 * point["flops"] <= full["flops"]]
    best = max((point["accuracy"] for point in halved), default=0.0)
    return Check(
        f"{task}: {name} within 0.7 points of full at 2x fewer FLOPs",
        f"{100 * (best - full['accuracy']):+.1f}",
        best >= full["accuracy"] - 0.007,
    )


def plot_curves(rows: Sequence[Row], target: Path) -> None:
    """Accuracy against read rate, one panel for each task.

    Raises:
        StoreError: The file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    width = min(2, len(tasks))
    height = -(-len(tasks) // width)
    figure, panels = plt.subplots(
        height, width, figsize=(7.5 * width, 4.6 * height), layout="constrained", squeeze=False
    )
    for panel in panels.flat[len(tasks) :]:
        panel.axis("off")
    for task, panel in zip(tasks, panels.flat, strict=False):
        for row in (row for row in rows if row["task"] == task and "points" in row):
            family = row["family"]
            number = [name for name in RECIPES if RECIPES[name].family == family].index(row["row"])
            points = list(row["points"].values())
            panel.errorbar(
                [point["read_rate"] for point in points],
                [point["accuracy"] for point in points],
                [point["standard_error"] for point in points],
                elinewidth=0.5,
                color=_COLORS[family],
                marker=_MARKERS[number % len(_MARKERS)],
                linestyle=":" if family == "trivial" else "-",
                markersize=4,
                linewidth=1,
                label=f"{row['row']} ({family})",
            )
        full = [row for row in rows if row["task"] == task and row["row"] == FULL]
        for row in full:
            panel.axhline(row["as_trained"]["accuracy"], color="k", linewidth=0.8, label="full")
        panel.set(xscale="log", title=task, xlabel="tokens read in full", ylabel="accuracy")
        panel.set_xticks([0.05, 0.1, 0.2, 0.5, 1], ["5 %", "10 %", "20 %", "50 %", "100 %"])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    # A reader looks the same in every panel.
    entries: dict[str, Any] = {}
    for panel in panels.flat:
        handles, labels = panel.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(entries.values(), entries, loc="outside lower center", fontsize=8, ncols=5)
    save_plot(figure, target)


def _pool(group: Sequence[Row]) -> Row:
    first = dict(group[0])
    first["folds"] = len(group)
    first["as_trained"] = _mean([row["as_trained"] for row in group])
    if "points" in first:
        first["points"] = {
            key: _mean([row["points"][key] for row in group]) for key in first["points"]
        }
        for part in {"capped", "speed", "exits"} & first.keys():
            first[part] = {key: _mean([row[part][key] for row in group]) for key in first[part]}
    return first


def _mean(entries: Sequence[Mapping[str, float]]) -> dict[str, float]:
    merged = {key: float(np.mean([entry[key] for entry in entries])) for key in entries[0]}
    if "n" in merged:
        merged["n"] = sum(entry["n"] for entry in entries)
        merged["standard_error"] /= len(entries) ** 0.5
    return merged


def _task_table(task: str, rows: Sequence[Row]) -> str:
    full = next((row for row in rows if row["row"] == FULL), None)
    lines = [
        f"## {task}",
        "",
        "| reader | family | as trained | read | partly | FLOPs | speed | at 50 % | speed | "
        "at 20 % | speed | 20 % at most | full |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        own = row["as_trained"]
        less = full["as_trained"]["flops"] / own["flops"] if full else None
        if row["row"] == TRANSFORMER:
            less = row["points"]["1.0"]["flops"] / own["flops"]
        cells = [
            row["row"],
            "" if row["row"] == FULL else row["family"],
            _accuracy(own),
            f"{own['read_rate']:.0%}",
            f"{own['partial_rate']:.0%}" if own["partial_rate"] else "",
            f"{less:.1f}x" if less else "",
        ]
        if "points" in row:
            points, speed = row["points"], row["speed"]
            most = f"{points['1.0']['read_rate']:.0%}"
            cells += [
                speed_text(speed["as_trained"]),
                _accuracy(points["0.5"]) + f" ({points['0.5']['read_rate']:.0%})",
                speed_text(speed["0.5"]),
                _accuracy(points["0.2"]) + f" ({points['0.2']['read_rate']:.0%})",
                speed_text(speed["0.2"]),
                _accuracy(row["capped"]["0.2"]),
                _accuracy(points["1.0"]) + f" ({most})" * (most != "100%"),
            ]
        else:
            cells += ["1x", "", "", "", "", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    longest = max(rows, key=lambda row: row["folds"])
    folds = longest["folds"]
    end = f"{longest['as_trained']['n']:,.0f} test texts" + (f" in {folds} folds" * (folds > 1))
    fewer = [f"{row['row']} ({row['folds']})" for row in rows if row["folds"] < folds]
    if fewer:
        end += f"; folds of the others: {', '.join(fewer)}"
    missing = [name for name in (FULL, *RECIPES) if name not in {row["row"] for row in rows}]
    if missing:
        end += f"; not measured yet: {', '.join(missing)}"
    return "\n".join([*lines, "", end + ".", *(line for row in rows for line in _exits(row))])


def _exits(row: Row) -> list[str]:
    """What stopping after some of the layers gives, with all tokens read."""
    if "exits" not in row:
        return []
    full = row["points"]["1.0"]
    lines = [
        "",
        f"{row['row']}, all tokens read, stopping at the first layer that is sure:",
        "",
        "| confidence | accuracy | FLOPs | speed |",
        "|---|---|---|---|",
        f"| all layers | {_accuracy(full)} | 1.0x | 1x |",
    ]
    for confidence, point in row["exits"].items():
        less = full["flops"] / point["flops"]
        speed = speed_text(row["speed"][exit_key(confidence)])
        lines.append(f"| {confidence} | {_accuracy(point)} | {less:.1f}x | {speed} |")
    return lines


def _accuracy(entry: Mapping[str, float]) -> str:
    return f"{100 * entry['accuracy']:.1f} ± {100 * entry['standard_error']:.1f}"
