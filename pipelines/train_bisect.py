"""Train `learned_bisect` on features of full passes: what between two looks did disagree with them?

The intervals to learn from are those that `bisect` gets to see in the real engine over the recorded
streams, at doubts and windows drawn anew for every run: from intervals that were left too long to
ones that were split too far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.clips.features import VideoFeatures
from streamdyn.errors import ConfigError
from streamdyn.learning.perceptrons import PerceptronRecipe, fit_perceptrons
from streamdyn.learning.rounds import NOTHING_KEPT, Rounds
from streamdyn.observation import Observation, Status
from streamdyn.plan import Action, Plan
from streamdyn.previews.interval import NUM_FEATURES, interval_features
from streamdyn.protocols import Policy
from streamdyn.recording import Agreeing, RecordedRecognizer, Recording
from streamdyn.registry import build
from streamdyn.run.local import run_stream
from streamdyn.timeline import propagate

Array = npt.NDArray[Any]
AGENT = "learned_bisect"
DOUBTS = (1.0, 60.0)
"""Of the exploring runs, drawn between these on a logarithmic scale."""
LOOKAHEADS = (64, 256)
FOR_NO_REASON = 0.5
"""How often intervals are split that left no doubt."""
MIN_GAP = 4
"""Shorter intervals are never split."""
INTERVALS_PER_VIDEO = 1500
"""About so many; a short video gives fewer."""
MOST_RUNS = 40
SHORT = 200
"""Items; of shorter videos few runs tell all, and `POOLED` of them count as one."""
SHORT_RUNS = 8
POOLED = 50


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """Of one video."""

    rows: Array
    """`(n, NUM_FEATURES)` float32."""
    shares: Array
    """`(n,)` float32, of the items between the ends, those that disagree with the nearer one."""
    sizes: Array
    """`(n,)` items between the ends."""


class _Onlooker:
    """Notes the intervals that another policy gets to see, and splits some for no reason."""

    def __init__(self, policy: Policy[Any], dice: np.random.Generator) -> None:
        self._policy, self._dice = policy, dice
        self.name, self.version = policy.name, policy.version
        self.previews, self.glances = policy.previews, policy.glances
        self.lookahead = policy.lookahead
        self.notes: dict[tuple[int, int], Array] = {}
        """Ordinals of both ends → features, as they were when they were seen first."""

    def initial_state(self) -> Any:
        return self._policy.initial_state()

    def decide(self, obs: Observation, state: Any) -> tuple[Plan, Any]:
        known, first = dict(obs.outcomes), obs.window.first
        if known and obs.left is not None:
            known[obs.left.ordinal - first] = obs.left
        intervals = [
            (a, b)
            for a, b in pairwise(sorted(known))
            if b - a > MIN_GAP and (first + a, first + b) not in self.notes
        ]
        if intervals:
            rows = interval_features(obs.window, known, intervals)
            self.notes.update(
                ((first + a, first + b), row) for (a, b), row in zip(intervals, rows, strict=True)
            )
        plan, after = self._policy.decide(obs, state)
        wide = [(a + b) // 2 for a, b in pairwise(sorted(known)) if b - a > MIN_GAP and a + b > 0]
        if wide and (plan.actions < Action.PARTIAL).all() and self._dice.random() < FOR_NO_REASON:
            chosen = np.array(wide)[self._dice.random(len(wide)) < 0.5]
            chosen = chosen[obs.status[chosen] == Status.OPEN]
            if chosen.size:
                actions = np.zeros(len(obs.window), np.uint8)
                actions[chosen] = Action.PROCESS
                return Plan(actions), state
        return plan, after


def explore(recording: Recording, agree: Agreeing, dice: np.random.Generator) -> Intervals:
    """Intervals that `bisect` meets in this stream, with what a full pass says of them."""
    num_runs = SHORT_RUNS if recording.blocks[-1].stop < SHORT else MOST_RUNS
    rows: list[Array] = []
    shares: list[float] = []
    sizes: list[int] = []
    pts = np.concatenate([block.pts for block in recording.blocks])
    recognizer = RecordedRecognizer(recording, agree)
    low, high = np.log(DOUBTS)
    seen: set[tuple[int, int]] = set()
    for _ in range(num_runs):
        options = {
            "max_doubt": float(np.exp(dice.uniform(low, high))),
            "lookahead": int(dice.integers(*LOOKAHEADS, endpoint=True)),
        }
        onlooker = _Onlooker(build("policy", "bisect", **options), dice)
        run_stream(recording, onlooker, recognizer)
        for (a, b), row in onlooker.notes.items():
            found = _disagreement(recording, agree, pts, a, b) if (a, b) not in seen else None
            seen.add((a, b))
            if found is not None:
                rows.append(row)
                shares.append(found)
                sizes.append(b - a - 1)
        if len(rows) >= INTERVALS_PER_VIDEO:
            break
    table = np.array(rows, np.float32).reshape(-1, NUM_FEATURES)
    return Intervals(table, np.array(shares, np.float32), np.array(sizes))


def _disagreement(
    recording: Recording, agree: Agreeing, pts: Array, a: int, b: int
) -> float | None:
    """Share of the items between that disagree with the nearer end; `None` where there are none."""
    between = [k for k in range(a + 1, b) if k in recording.outcomes]
    if not between:
        return None
    nearer = a + propagate(pts[a : b + 1], [0, b - a])
    ends = recording.outcomes
    agreeing = sum(agree.agree(ends[int(nearer[k - a])], ends[k]) for k in between)
    return 1 - agreeing / len(between)


def fit(
    videos: Sequence[Intervals],
    recipe: PerceptronRecipe,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
    kept: Rounds = NOTHING_KEPT,
) -> dict[str, Array]:
    """Arrays of `Perceptrons`; a video with many intervals counts less for each of them."""
    rows = np.concatenate([v.rows for v in videos])
    if not len(rows):
        raise ConfigError(
            "there is nothing to learn from: no video has items between two looks; give longer ones"
        )
    shares = np.concatenate([v.shares for v in videos])
    worth = np.concatenate([v.sizes**0.5 / max(1, len(v.sizes)) ** 0.7 for v in videos])
    return fit_perceptrons(rows, shares, worth, recipe, on_epoch, kept)


def explored(videos: Sequence[VideoFeatures], agree: Agreeing, seed: int) -> list[Intervals]:
    """Intervals of every video, one entry each; those of short ones follow, pooled."""
    dice = np.random.default_rng(seed)
    found: list[Intervals] = []
    short: list[Intervals] = []
    for video in videos:
        intervals = explore(video.recording(), agree, dice)
        (found if len(video) >= SHORT else short).append(intervals)
    order = dice.permutation(len(short))
    groups = np.array_split(order, math.ceil(len(short) / POOLED)) if short else []
    return found + [_pooled([short[i] for i in group]) for group in groups]


def _pooled(parts: Sequence[Intervals]) -> Intervals:
    fields = ("rows", "shares", "sizes")
    return Intervals(*(np.concatenate([getattr(part, f) for part in parts]) for f in fields))


def share_at(curve: Sequence[tuple[float, float]], target: float) -> float:
    """Share of the items at a target agreement, between the measured pairs (agreement, share)."""
    pairs = sorted(curve)
    return float(np.interp(target, [p[0] for p in pairs], [p[1] for p in pairs]))
