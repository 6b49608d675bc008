"""The page of `streamdyn bench agents`: tables with intervals, targets with misses, plots."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamdyn.index.placing import put_in_place, write_explained
from streamdyn.pipelines.bench_actions import (
    DENSE,
    STAGES,
    ActionRow,
    OverSeeds,
    Watched,
    difference,
    over_seeds,
    plot_rows,
    summarized,
)
from streamdyn.pipelines.bench_agents import OF_HEADS, OTHER_HEADS, Measured
from streamdyn.pipelines.checks import Check, check_table
from streamdyn.pipelines.clip_controls import ClipControls
from streamdyn.pipelines.plots import save_plot
from streamdyn.pipelines.row_file import Row

EVEN = "uniform_k"
INTRO = """\
# Video agents, measured

Made by `streamdyn bench agents CLIPS --idle FILE ... --video DIR --page FILE`. Every figure is of
executed runs from the files, decoding included, on one core; nobody was taught on the recordings
or the footage that it is judged on. *right*: ± is one standard error over videos, each the mean
over the seeds that its agent was trained from. *calls*: of the recognizer on whole pictures, a
video; `context=4` adds four on small ones, which count in the time. *ms*: wall clock, and what of
it went into demuxing, decoding, converting, previews, deciding and recognizing. *speed*: wall
clock of looking at every frame over the policy's, with a 95 % interval over videos. *executed*:
time saved over calls saved, how much of the saving that papers count was real. *against even
looks*: by how many points it is right more often than even spacing of about as many calls, on the
same videos, with the p of no difference (resampled videos). *as right, faster*: wall clock of the
fastest even spacing that is right as often, over the policy's; *over*: none of those measured is,
and the one that is right most often stands in."""


def write_page(measured: Measured, page: Path) -> None:
    """Write the page, and its plots beside it.

    Raises:
        StoreError: A file cannot be written.
    """
    with write_explained(page):
        page.parent.mkdir(parents=True, exist_ok=True)
    plots: dict[str, str] = {}
    for task in ("clips", "streams", "queries"):
        rows = getattr(measured, task)
        if rows:
            picture = page.with_name(f"{page.stem}_{task}.png")
            plot_rows(summarized(rows), picture)
            plots[task] = picture.name
    if measured.agreement:
        picture = page.with_name(f"{page.stem}_agreement.png")
        plot_agreement(measured.agreement, picture)
        plots["agreement"] = picture.name
    with put_in_place(page) as part:
        part.write_text(page_of(measured, plots), "utf-8")


def page_of(measured: Measured, plots: Mapping[str, str]) -> str:
    """Markdown.

    Args:
        measured: What is not there is left out.
        plots: Task → name of its picture.
    """
    parts = [INTRO]
    sections = (
        ("clips", "Clips: which action is it?"),
        ("streams", "Untrimmed streams: which action is in them?"),
        ("queries", "Streams of 20 clips: where is this action?"),
    )
    for task, title in sections:
        rows: list[Watched] = getattr(measured, task)
        if rows:
            controls = measured.controls if task == "clips" else ()
            what = "questions" if task == "queries" else task
            parts += [f"## {title}", _table(rows, controls, what)]
            parts += _picture(task, plots)
        if task == "streams" and measured.heads:
            parts += [_heads(measured)]
    if measured.agreement:
        parts += ["## Every frame: agreement with the full pass", _agreement(measured.agreement)]
        parts += _picture("agreement", plots)
    if found := targets(measured):
        parts += ["## Targets", check_table(found)]
    return "\n\n".join(parts) + "\n"


def _picture(task: str, plots: Mapping[str, str]) -> list[str]:
    return [f"![{task}]({plots[task]})"] if task in plots else []


def _table(watched: Sequence[Watched], controls: Sequence[ClipControls], what: str) -> str:
    rows, by = summarized(watched), over_seeds(watched)
    even = [row for row in rows if row.policy.startswith(EVEN)]
    lines = [
        "| policy | right | calls | ms | speed | executed | against even looks "
        "| as right, faster |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = f"{row.policy} (every frame)" if row.policy == DENSE else row.policy
        stages = "/".join(f"{row.stage_ms[stage]:.0f}" for stage in STAGES)
        cells = [
            name,
            _right(by[row.policy].right) if row.calls else "",
            f"{row.calls:.1f}",
            f"{row.wall_ms:,.0f}" + f" ({stages})" * bool(row.calls),
            f"{row.ratio:.1f}x ({row.ratio_low:.1f} to {row.ratio_high:.1f})",
            "" if math.isnan(row.executed) else f"{row.executed:.0%}",
            *(_against(row, even, by) if row.calls and row not in even else ("", "")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    for name, field in (("metadata alone", "metadata"), ("any frame right", "any_look")):
        if controls:
            lines.append(f"| {name} (control) | {_control(controls, field)} |" + " |" * 6)
    seeds = max(found.num_seeds for found in by.values())
    how = f", split in {seeds} ways" if controls else f", agents of {seeds} seeds"
    return "\n".join([*lines, "", f"{rows[0].num_videos:,} {what}{how * (seeds > 1)}."])


def _right(right: Any) -> str:
    return f"{100 * right.mean():.1f} ± {100 * right.std() / math.sqrt(len(right)):.1f} %"


def _heads(measured: Measured) -> str:
    """How looks are pooled, over how they are chosen."""
    by = over_seeds([*measured.streams, *measured.heads])
    lines = [
        "The same streams by other heads on the same pictures, with agents of the first seed: the "
        "mean of all looks, and a GRU that takes them in one after another.",
        "",
        "| head | " + " | ".join(OF_HEADS) + " |",
        "|---|" + "---|" * len(OF_HEADS),
    ]
    for head in ("attention", *OTHER_HEADS):
        cells = []
        for name in OF_HEADS:
            found = by.get(name if head == "attention" else f"{name} by {head}")
            cells.append("" if found is None else _right(found.right))
        lines.append(f"| {head} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _against(
    row: ActionRow, even: Sequence[ActionRow], by: Mapping[str, OverSeeds]
) -> tuple[str, str]:
    if not even:
        return "", ""
    nearest = min(even, key=lambda other: abs(math.log(other.calls / row.calls)))
    gain, low, high, p = difference(by[row.policy], by[nearest.policy])
    count = nearest.policy.partition("=")[2]
    told = f"{count}: {100 * gain:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}), {_p(p)}"
    faster, is_bound = faster_than_even(row, even)
    return told, f"{'over ' * is_bound}{faster:.1f}x"


def _p(p: float) -> str:
    return f"p {p:.2g}" if p else "p < 0.0002"


def faster_than_even(row: ActionRow, even: Sequence[ActionRow]) -> tuple[float, bool]:
    """Wall clock of the fastest even spacing that is right as often, over the policy's.

    Where none is, that of the one that is right most often, and true: more looks would be needed.
    """
    as_right = [other.wall_ms for other in even if other.accuracy >= row.accuracy]
    best = max(even, key=lambda other: other.accuracy)
    return (min(as_right) if as_right else best.wall_ms) / row.wall_ms, not as_right


def _control(controls: Sequence[ClipControls], field: str) -> str:
    by: dict[str, list[bool]] = {}
    for one in controls:
        for path, right in zip(one.paths, getattr(one, field), strict=True):
            by.setdefault(path, []).append(right)
    means = np.array([np.mean(found) for found in by.values()])
    return _right(means)


# Agreement.


def pooled(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Policy → share, agreement, speed and its interval, and worst file, all files as one."""
    found: dict[str, dict[str, float]] = {}
    for policy in dict.fromkeys(row["policy"] for row in rows):
        mine = [row for row in rows if row["policy"] == policy]
        table = np.array(
            [
                [
                    row["num_recognized"], row["num_items"], row["num_agreeing"],
                    row["num_compared"], row["wall_ms"][0], row["full_wall_ms"][0],
                ]
                for row in mine
            ]
        )  # fmt: skip
        dice = np.random.default_rng(0)
        drawn = table[dice.integers(len(table), size=(1000, len(table)))].sum(1)
        looked, items, agreeing, compared, wall, full = table.sum(0)
        low, high = np.quantile(drawn[:, 5] / drawn[:, 4], (0.025, 0.975))
        agreements = np.quantile(drawn[:, 2] / drawn[:, 3], (0.025, 0.975))
        found[policy] = {
            "share": looked / items,
            "agreement": agreeing / compared,
            "agreement_low": float(agreements[0]),
            "agreement_high": float(agreements[1]),
            "ratio": full / wall,
            "ratio_low": float(low),
            "ratio_high": float(high),
            "worst": float((table[:, 2] / table[:, 3]).min()),
        }
    return found


def _agreement(rows: Sequence[Row]) -> str:
    files = len({row["path"] for row in rows})
    items = sum({row["path"]: row["num_items"] for row in rows}.values())
    lines = [
        f"{files} videos, {items:,} frames, pooled; `learned_bisect` has not seen the video it is "
        "judged on. In brackets 95 % intervals over videos.",
        "",
        "| policy | frames looked at | agreement | worst video | speed |",
        "|---|---|---|---|---|",
    ]
    for policy, run in pooled(rows).items():
        lines.append(
            f"| {policy} | {run['share']:.2%} | {run['agreement']:.4f} "
            f"({run['agreement_low']:.3f} to {run['agreement_high']:.3f}) | {run['worst']:.3f} "
            f"| {run['ratio']:.1f}x ({run['ratio_low']:.1f} to {run['ratio_high']:.1f}) |"
        )
    return "\n".join(lines)


def plot_agreement(rows: Sequence[Row], picture: Path) -> None:
    """Agreement against share, one line a policy.

    Raises:
        ConfigError: The suffix of `picture` is not that of a plot.
        StoreError: The file cannot be written.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    runs = pooled(rows)
    kinds: dict[str, list[dict[str, float]]] = {}
    for policy, run in runs.items():
        live = " (1 s ahead)" * ("lookahead" in policy)
        kinds.setdefault(policy.partition(":")[0] + live, []).append(run)
    for kind, points in kinds.items():
        points.sort(key=lambda run: run["share"])
        axes.plot(
            [100 * run["share"] for run in points],
            [run["agreement"] for run in points],
            marker="o",
            label=kind,
        )
        for run in points:
            axes.annotate(
                f"{run['ratio']:.0f}x", (100 * run["share"], run["agreement"]),
                textcoords="offset points", xytext=(4, -10), fontsize=8,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("frames looked at, % (number: times faster than the full pass)")
    axes.set_ylabel("agreement with the full pass")
    axes.grid(alpha=0.3)
    axes.legend()
    save_plot(figure, picture)


# Targets.


def targets(measured: Measured) -> list[Check]:
    """Those of this project that can be told by what was measured."""
    found: list[Check] = []
    if measured.clips:
        found += _of_clips(summarized(measured.clips))
    if measured.streams:
        found += _of_streams(summarized(measured.streams))
    if measured.queries:
        found += _of_queries(summarized(measured.queries))
    if measured.agreement:
        found += _of_agreement(pooled(measured.agreement))
    return found


def _of_clips(rows: Sequence[ActionRow]) -> list[Check]:
    by = {row.policy: row for row in rows}
    agents = [row for row in rows if row.policy.startswith("frame_exit") and row.calls <= 2]
    if f"{EVEN}:k=4" not in by or not agents:
        return []
    four, best = by[f"{EVEN}:k=4"], max(agents, key=lambda row: row.accuracy)
    told = f"{best.policy}: {100 * best.accuracy:.1f} % at {best.calls:.2f} calls"
    gain = best.accuracy - four.accuracy
    return [
        Check(f"clips: as right as 4 even looks ({100 * four.accuracy:.1f} %) in 2 calls", told,
               gain >= 0),
        Check("clips, stretch: 1.5 points above it", f"{100 * gain:+.1f}", gain >= 0.015),
    ]  # fmt: skip


def _of_streams(rows: Sequence[ActionRow]) -> list[Check]:
    by = {row.policy: row for row in rows}
    even = [row for row in rows if row.policy.startswith(EVEN)]
    agents = [
        row for row in rows
        if row.calls and row.policy.partition(":")[0] not in (DENSE, EVEN, "random", "known")
    ]  # fmt: skip
    found = []
    known = by.get("known:k=12")
    few = [row for row in agents if row.calls <= 12]
    if known is not None and few:
        best = max(few, key=lambda row: row.accuracy)
        share = best.accuracy / known.accuracy
        found.append(
            Check(
                "streams: 85 % of the accuracy of knowing the action's frames, in 12 calls",
                f"{best.policy}: {share:.0%} at {best.calls:.1f} calls",
                share >= 0.85,
            )
        )
    for row in agents:
        found.append(
            Check(f"streams: {row.policy} 8x faster than every frame", f"{row.ratio:.1f}x",
                   row.ratio >= 8)
        )  # fmt: skip
        found.append(
            Check(f"streams: {row.policy} executes 85 % of the saving counted",
                   f"{row.executed:.0%}", row.executed >= 0.85)
        )  # fmt: skip
        if even:
            faster, is_bound = faster_than_even(row, even)
            found.append(
                Check(f"streams: {row.policy} 1.5x faster than even looks that are as right",
                       f"{'over ' * is_bound}{faster:.1f}x", faster >= 1.5)
            )  # fmt: skip
    return found


def _of_queries(rows: Sequence[ActionRow]) -> list[Check]:
    by = {row.policy: row for row in rows}
    agents = [row for row in rows if row.policy.startswith("query_search")]
    if DENSE not in by or not agents:
        return []
    told, is_met = [], False
    for least, fewer in ((0.97, 10), (0.94, 16)):
        few = [row for row in agents if row.calls * fewer <= by[DENSE].calls]
        best = max(few, key=lambda row: row.accuracy, default=None)
        if best is not None:
            share = best.accuracy / by[DENSE].accuracy
            told.append(f"{best.policy}: {share:.1%} at {best.calls:.1f} calls")
            is_met |= share >= least
    text = "queries: 97 % of every frame's accuracy at a tenth of its calls, or 94 % at a sixteenth"
    return [Check(text, "; ".join(told) or "none", is_met)]


def _of_agreement(runs: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    found = []
    for text, least_share, is_live in (
        ("agreement: 0.95 of all frames by looking at 5 %", 0.05, False),
        ("agreement: the same with one second of lookahead, 6 %", 0.06, True),
    ):
        agents = {name: run for name, run in runs.items() if not name.startswith("stride")}
        kept = {
            name: run
            for name, run in agents.items()
            if run["agreement"] >= 0.95 and ("lookahead" in name) == is_live
        }
        if not kept:
            found.append(Check(text, "none reaches 0.95", False))
            continue
        name = min(kept, key=lambda one: kept[one]["share"])
        run = kept[name]
        told = f"{name}: {run['share']:.2%} at {run['agreement']:.3f}, {run['ratio']:.1f}x"
        found.append(Check(text, told, run["share"] <= least_share))
        found.append(Check(f"{text}: 8x faster", f"{run['ratio']:.1f}x", run["ratio"] >= 8))
    return found
