"""Which action is it, and where is this action? Policies side by side, each run for real.

Every policy watches every video from the file, decoding included; the recognizer's answer after the
last look counts, or for a query the look that says it loudest. Rows are kept as they are measured:
a run that was cut short goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError, StoreError
from streamdyn.index.placing import write_explained
from streamdyn.outcome import Outcome
from streamdyn.pipelines.labelled_videos import Labelled
from streamdyn.pipelines.plots import save_plot
from streamdyn.pipelines.row_file import RowFile
from streamdyn.protocols import Policy
from streamdyn.receipt import Receipt
from streamdyn.recognizers.actions import Actions
from streamdyn.registry import build
from streamdyn.run.local import run_stream
from streamdyn.sources.video_av import VideoAv

STAGES = ("demux", "decode", "convert", "preview", "policy", "recognize")
DENSE = "full"
DEMUX_ONLY = "demux only"
KNOWN = "known"
"""Evenly spaced looks within the first action, as `known:k=8`: no policy knows where it is."""


@dataclass(frozen=True, slots=True)
class Watched:
    """One policy, one video."""

    policy: str
    """`name@seed` where it was trained from several seeds."""
    policy_version: str
    """Of what was run under that name; another version is run anew."""
    path: str
    """Of the video; for a query `path?label`."""
    recognizer: str
    """Name and version."""
    label: str
    """Of the action, or asked for."""
    answer: str
    """For a query what is shown where it was found; empty where nothing is."""
    num_items: int
    num_processed: int
    wall_ms: float
    stage_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class ActionRow:
    """One policy over all videos."""

    policy: str
    num_videos: int
    accuracy: float
    standard_error: float
    calls: float
    """Recognizer calls a video, mean."""
    wall_ms: float
    """A video, mean."""
    stage_ms: dict[str, float]
    ratio: float
    """Wall clock of the dense pass over the policy's, all videos together."""
    ratio_low: float
    """And its 95 % interval, by resampling videos."""
    ratio_high: float
    executed: float
    """Time saved over calls saved: how much of the saving that papers count was real."""


def bench_actions(
    videos: Sequence[Labelled],
    recognizer: Actions,
    policies: Mapping[str, Policy[Any] | Known],
    out: Path,
    *,
    queries: bool = False,
    on_step: Callable[[str], None] = lambda step: None,
) -> list[Watched]:
    """Watch every video by every policy that has not watched it yet; policies take turns.

    Args:
        videos: Labelled.
        recognizer: Set up.
        policies: Name → policy; `full` is the dense pass that the others are measured against.
        out: Folder of `watched.jsonl`.
        queries: Ask for every action of a video instead of for the one action that it shows. A
            policy with a field `query` is run for each, any other once for all.
        on_step: Told what runs next.

    Raises:
        ConfigError: An action is not one of the recognizer's.
        StoreError: The folder cannot be read or written.
        SourceError: A video cannot be read.
    """
    shown = {label for video in videos for label, *_ in video.events}
    if strange := sorted(shown - set(recognizer.labels)):
        raise ConfigError(f"the recognizer was not taught the actions {', '.join(strange)}")
    with write_explained(out):
        out.mkdir(parents=True, exist_ok=True)
    file = out / "watched.jsonl"
    version = f"{recognizer.name}/{recognizer.version}"
    known = {
        (row.policy, row.policy_version, row.path): row
        for row in read_rows(file)
        if row.recognizer == version
    }
    found = []
    warm: set[str] = set()
    for number, video in enumerate(videos, 1):
        on_step(f"{number} of {len(videos)}: {video.path}")
        asked = sorted({label for label, *_ in video.events}) if queries else [""]
        for name in [*policies, DEMUX_ONLY]:
            policy = policies.get(name)
            each = (
                [asked] if policy is None or not hasattr(policy, "query") else [[q] for q in asked]
            )
            for group in each:
                paths = [f"{video.path}?{query}" if query else str(video.path) for query in group]
                keys = [(name, _version(policy), path) for path in paths]
                rows = [known[key] for key in keys if key in known]
                if len(rows) < len(paths):
                    # The first look loads weights and compiled code, once a process.
                    if name not in warm and name != DENSE:
                        _watch(video, name, policy, recognizer, group)
                    warm.add(name)
                    rows = _watch(video, name, policy, recognizer, group)
                    with write_explained(file):
                        for row in rows:
                            RowFile(file).add(asdict(row))
                found += rows
    return found


def read_rows(file: Path) -> list[Watched]:
    """What is there.

    Raises:
        StoreError: It holds something else.
    """
    try:
        return [Watched(**row) for row in RowFile(file).read()]
    except TypeError as exc:
        raise StoreError(
            f"{file} holds rows of another kind: {exc}; remove the file to measure afresh"
        ) from exc


def _watch(
    video: Labelled,
    name: str,
    policy: Policy[Any] | Known | None,
    recognizer: Actions,
    queries: Sequence[str],
) -> list[Watched]:
    """One pass; a row for each query, or one where the only query is empty."""
    version = _version(policy)
    source = VideoAv(video.path, on_corrupt="skip")
    if policy is not None and hasattr(policy, "query"):
        policy = replace(policy, query=queries[0])  # type: ignore[type-var]
    if isinstance(policy, Known):
        policy = policy.within(video)
    outcomes: list[Outcome] = []
    began = time.perf_counter()
    answer, receipt = "", Receipt()
    if policy is None:
        with closing(source.open()) as cursor:
            while (block := cursor.next_block()) is not None:
                receipt.num_items = block.stop
                cursor.release(block.stop)
    else:
        summary = run_stream(
            source, policy, recognizer, on_window=lambda result: outcomes.extend(result.outcomes)
        )
        receipt = summary.receipt
        if summary.hidden is not None:
            answer = (recognizer.answer(summary.hidden)[0] or ("",))[0]
    wall_ms = (time.perf_counter() - began) * 1000
    return [
        Watched(
            name,
            version,
            f"{video.path}?{query}" if query else str(video.path),
            f"{recognizer.name}/{recognizer.version}",
            query or video.label,
            _shown(video, query, outcomes) if query else answer,
            receipt.num_items,
            receipt.num_processed,
            wall_ms,
            {stage: getattr(receipt, f"{stage}_ms") for stage in STAGES},
        )
        for query in queries
    ]


def _version(policy: Policy[Any] | Known | None) -> str:
    return "" if policy is None else policy.version


def _shown(video: Labelled, query: str, outcomes: Sequence[Outcome]) -> str:
    """What is truly shown by the picture that says the query loudest."""
    if not outcomes:
        return ""
    scores = [dict(zip(o.labels, o.scores, strict=True)).get(query, 0.0) for o in outcomes]
    place = outcomes[int(np.argmax(scores))].ordinal
    return next(
        (label for label, first, stop in video.events if first <= place and not 0 <= stop <= place),
        "",
    )


@dataclass(frozen=True)
class Known:
    """`k` evenly spaced looks within the action, by whoever knows where it is; a control."""

    k: int
    version = "1"

    def within(self, video: Labelled) -> Policy[Any]:
        """The looks at this video.

        Raises:
            ConfigError: It does not say where its action ends.
        """
        _, first, stop = video.events[0]
        if stop < 0:
            raise ConfigError(f"{video.path} is all action; `{KNOWN}` is for untrimmed streams")
        count = min(self.k, stop - first)
        items = first + ((np.arange(count) + 0.5) * (stop - first) / count).astype(int)
        chosen: Policy[Any] = build("policy", "listed", items=items.tolist())
        return chosen


@dataclass(frozen=True, slots=True, eq=False)
class OverSeeds:
    """One policy over `V` videos, each the mean over the seeds it was trained from."""

    paths: tuple[str, ...]
    right: npt.NDArray[np.float64]
    """`(V,)` in [0, 1]."""
    calls: npt.NDArray[np.float64]
    """`(V,)`."""
    wall_ms: npt.NDArray[np.float64]
    """`(V,)`."""
    stage_ms: dict[str, float]
    """A video, mean."""
    num_seeds: int


def over_seeds(watched: Sequence[Watched]) -> dict[str, OverSeeds]:
    """Policy, without its seeds → what it did, in the order they first ran."""
    by: dict[str, dict[str, list[Watched]]] = {}
    for row in watched:
        by.setdefault(row.policy.partition("@")[0], {}).setdefault(row.path, []).append(row)
    return {
        name: OverSeeds(
            tuple(videos),
            np.array([np.mean([row.label == row.answer for row in v]) for v in videos.values()]),
            np.array([np.mean([row.num_processed for row in v]) for v in videos.values()]),
            np.array([np.mean([row.wall_ms for row in v]) for v in videos.values()]),
            {
                stage: float(np.mean([row.stage_ms[stage] for v in videos.values() for row in v]))
                for stage in STAGES
            },
            max(map(len, videos.values())),
        )
        for name, videos in by.items()
    }


def summarized(watched: Sequence[Watched]) -> list[ActionRow]:
    """One row a policy, in the order they first ran."""
    by = over_seeds(watched)
    rows = []
    for name, mine in by.items():
        dense, own = paired(by[DENSE], mine) if DENSE in by else ([], [])
        walls = np.stack([by[DENSE].wall_ms[dense], mine.wall_ms[own]], 1) if dense else None
        ratio, low, high = (math.nan,) * 3 if walls is None else _ratio(walls)
        rows.append(
            ActionRow(
                name,
                len(mine.paths),
                float(mine.right.mean()),
                float(mine.right.std() / math.sqrt(len(mine.right))),
                float(mine.calls.mean()),
                float(mine.wall_ms.mean()),
                mine.stage_ms,
                ratio,
                low,
                high,
                _executed(by[DENSE].calls[dense], mine.calls[own], ratio) if dense else math.nan,
            )
        )
    return rows


def paired(one: OverSeeds, other: OverSeeds) -> tuple[list[int], list[int]]:
    """Places of the videos that both watched."""
    place = {path: number for number, path in enumerate(one.paths)}
    shared = [number for number, path in enumerate(other.paths) if path in place]
    return [place[other.paths[number]] for number in shared], shared


def difference(one: OverSeeds, other: OverSeeds) -> tuple[float, float, float, float]:
    """By how much the one is right more often, its 95 % interval, and the two-sided p of none.

    By resampling the videos that both watched, 10,000 times.
    """
    mine, theirs = paired(one, other)
    gains = one.right[mine] - other.right[theirs]
    dice = np.random.default_rng(0)
    drawn = gains[dice.integers(len(gains), size=(10_000, len(gains)))].mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    tail = min((drawn <= 0).mean(), (drawn >= 0).mean())
    return float(gains.mean()), float(low), float(high), min(1.0, 2 * float(tail))


def _executed(dense: Any, own: Any, ratio: float) -> float:
    share = float(own.sum() / dense.sum())
    return (1 - 1 / ratio) / (1 - share) if share < 1 else math.nan


def _ratio(pairs: Any) -> tuple[float, float, float]:
    dice = np.random.default_rng(0)
    drawn = pairs[dice.integers(len(pairs), size=(1000, len(pairs)))].sum(1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975))
    total = pairs.sum(0)
    return float(total[0] / total[1]), float(low), float(high)


def mcnemar(watched: Sequence[Watched], one: str, other: str) -> tuple[int, int, float]:
    """Videos that only the one got right, only the other, and the exact two-sided p of the split.

    Test: McNemar 1947, exact binomial form.
    """
    right = {
        name: {row.path: row.label == row.answer for row in watched if row.policy == name}
        for name in (one, other)
    }
    shared = right[one].keys() & right[other].keys()
    wins = sum(right[one][path] and not right[other][path] for path in shared)
    losses = sum(right[other][path] and not right[one][path] for path in shared)
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1)) / 2**n
    return wins, losses, min(1.0, 2 * tail)


def plot_rows(rows: Sequence[ActionRow], picture: Path) -> None:
    """Accuracy with its standard error against wall clock, one point a policy.

    Raises:
        ConfigError: The suffix of `picture` is not that of a plot.
        StoreError: The file cannot be written.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    kinds = dict.fromkeys(row.policy.partition(":")[0] for row in rows if row.calls)
    for number, kind in enumerate(kinds):
        points = [row for row in rows if row.policy.partition(":")[0] == kind and row.calls]
        points.sort(key=lambda row: row.wall_ms)
        axes.errorbar(
            [row.wall_ms for row in points],
            [100 * row.accuracy for row in points],
            [100 * row.standard_error for row in points],
            marker="o" if number < 10 else "s",  # There are ten colours.
            capsize=2,
            label=kind,
        )
        for row in points:
            axes.annotate(
                f"{row.calls:.3g}", (row.wall_ms, 100 * row.accuracy), textcoords="offset points",
                xytext=(4, 4), fontsize=8,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds a video, decoding included (number: recognizer calls)")
    axes.set_ylabel("right answers, %")
    axes.grid(alpha=0.3)
    axes.legend()
    save_plot(figure, picture)
