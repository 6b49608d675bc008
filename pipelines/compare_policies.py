"""Compare policies with the full pass on real files: what was looked at, kept, and really saved.

Every policy runs for real, in the same process and right after a full pass over the same file by
the same recognizer, decode included. Agreement is exact, since the full pass knows every item.
Strides and the oracle are worked out from the full pass with hindsight: they are the bars to beat.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from streamdyn.audit import AuditRule
from streamdyn.budget import Budget
from streamdyn.checkpoint import starting_state
from streamdyn.config import PartConfig, RunConfig
from streamdyn.errors import SourceError
from streamdyn.outcome import Outcome
from streamdyn.pipelines.bench_report import STRIDES, BenchReport, Hindsight, Run
from streamdyn.protocols import Policy, Recognizer
from streamdyn.run.local import RunSummary, run_stream
from streamdyn.timeline import Propagation, WindowResult, propagate

DEFAULT_POLICIES = ("agreement", "bisect", "change", "packet_motion", "shot", "keyframe", "stride")


def bench(
    files: Sequence[str],
    config: RunConfig,
    policies: Mapping[str, Policy[Any]],
    *,
    repeats: int = 1,
    on_step: Callable[[str], None] = lambda step: None,
) -> BenchReport:
    """Run a full pass and every policy over every file.

    Args:
        files: Videos.
        config: Source, recognizer, device, audits (for policies that tune themselves), and the
            budget, which holds for the policies and not for the full pass.
        policies: Label → policy.
        repeats: Full pass and policies are repeated this often, in turn.
        on_step: Told what runs next, for progress.

    Raises:
        SourceError: None of the files could be read.
    """
    recognizer = config.build_recognizer()
    recognizer.setup(config.device)
    report = BenchReport(f"{recognizer.name}/{recognizer.version}", config.propagation, repeats)
    report.policies = {name: {} for name in policies}
    carried: dict[str, Any] = {}
    for file in files:
        try:
            _bench_file(report, file, config, policies, recognizer, repeats, carried, on_step)
        except SourceError as exc:
            report.failures[file] = str(exc)
    if report.full and policies:
        _run_equal_stride(report, config, recognizer, on_step)
    if not report.full:
        reasons = "; ".join(report.failures.values())
        raise SourceError(f"cannot bench: none of the {len(files)} files could be read: {reasons}")
    return report


def _run_equal_stride(
    report: BenchReport,
    config: RunConfig,
    recognizer: Recognizer,
    on_step: Callable[[str], None],
) -> None:
    """Run the stride that keeps as much as the first policy, chosen with hindsight, for real."""
    first = next(iter(report.policies.values()))
    every, _ = report.best_stride(Run.pool(list(first.values())).agreement)
    name = f"best stride ({every})"
    policy = PartConfig(name="stride", every=every).build("policy")  # type: ignore[call-arg]
    report.policies[name] = {}
    for file, full in report.full.items():
        on_step(f"{Path(file).name}: {name}")
        runs = [_watch(file, config, policy, recognizer) for _ in full.wall_ms]
        agreeing = report.hindsight[file].stride_agreeing[every]
        report.policies[name][file] = replace(
            full,
            num_recognized=len(runs[-1].outcomes),
            num_agreeing=agreeing,
            wall_ms=[run.wall_ms for run in runs],
            receipt=runs[-1].summary.receipt,
        )


def _bench_file(
    report: BenchReport,
    file: str,
    config: RunConfig,
    policies: Mapping[str, Policy[Any]],
    recognizer: Recognizer,
    repeats: int,
    carried: dict[str, Any],
    on_step: Callable[[str], None],
) -> None:
    every_item = PartConfig(name="stride", every=1).build("policy")  # type: ignore[call-arg]
    starts = dict(carried)
    full_times: list[float] = []
    times: dict[str, list[float]] = {name: [] for name in policies}
    last: dict[str, _Watched] = {}
    for _ in range(repeats):
        on_step(f"{Path(file).name}: full pass")
        full = _watch(file, config, every_item, recognizer)
        full_times.append(full.wall_ms)
        for name, policy in policies.items():
            on_step(f"{Path(file).name}: {name}")
            last[name] = _watch(
                file, config, policy, recognizer, starts.get(name), config.build_budget()
            )
            times[name].append(last[name].wall_ms)
    looked_up = {o.ordinal: o for o in full.outcomes}
    report.full[file] = full.as_run(
        looked_up, recognizer, config.propagation, full_times, full_times
    )
    report.hindsight[file] = _hindsight(file, config, full, recognizer)
    for name, policy in policies.items():
        report.policies[name][file] = last[name].as_run(
            looked_up, recognizer, config.propagation, times[name], full_times
        )
        if hasattr(policy, "carry_over"):
            carried[name] = policy.carry_over(last[name].summary.policy_state)


@dataclass(slots=True)
class _Watched:
    """What one run left behind."""

    summary: RunSummary
    outcomes: list[Outcome]
    pts: Any
    wall_ms: float

    def as_run(
        self,
        looked_up: Mapping[int, Outcome],
        recognizer: Recognizer,
        propagation: Propagation,
        times: list[float],
        full_times: list[float],
    ) -> Run:
        known = {o.ordinal: o for o in self.outcomes}
        sources = propagate(self.pts, sorted(known), propagation)
        return Run(
            self.summary.receipt.num_items,
            len(known),
            self.summary.audit_receipt.num_processed,
            _agreeing(known, sources, looked_up, recognizer),
            len(looked_up),
            times,
            full_times,
            self.summary.receipt + self.summary.audit_receipt,
        )


def _watch(
    file: str,
    config: RunConfig,
    policy: Policy[Any],
    recognizer: Recognizer,
    start: Any = None,
    budget: Budget | None = None,
) -> _Watched:
    windows: list[WindowResult] = []
    tunes = hasattr(policy, "carry_over")
    state = policy.initial_state() if start is None else start
    started = time.perf_counter()
    summary = run_stream(
        config.build_source(file, file),
        policy,
        recognizer,
        audit=config.build_audit() if tunes else AuditRule(),
        propagation=config.propagation,
        resume=starting_state(policy, state, budget or Budget()),
        on_window=windows.append,
    )
    wall_ms = (time.perf_counter() - started) * 1000
    outcomes = [o for window in windows for o in window.outcomes]
    if not windows:
        raise SourceError(f"cannot bench {file}: it has no pictures")
    return _Watched(summary, outcomes, np.concatenate([w.window.pts for w in windows]), wall_ms)


def _agreeing(
    known: Mapping[int, Outcome],
    sources: Any,
    looked_up: Mapping[int, Outcome],
    recognizer: Recognizer,
) -> float:
    return sum(
        recognizer.agree(known[int(sources[ordinal])], outcome)
        for ordinal, outcome in looked_up.items()
        if ordinal < len(sources) and sources[ordinal] >= 0
    )


def _hindsight(file: str, config: RunConfig, full: _Watched, recognizer: Recognizer) -> Hindsight:
    looked_up = {o.ordinal: o for o in full.outcomes}
    n = len(full.pts)
    agreeing = {}
    for stride in STRIDES:
        chosen = [o for o in range(0, n, stride) if o in looked_up]
        sources = propagate(full.pts, chosen, config.propagation)
        agreeing[stride] = _agreeing(looked_up, sources, looked_up, recognizer)
    calls, last = 0, None
    for outcome in full.outcomes:
        if last is None or recognizer.agree(last, outcome) < 0.5:
            calls, last = calls + 1, outcome
    started = time.perf_counter()
    with closing(config.build_source(file, file).open()) as cursor:
        while (block := cursor.next_block()) is not None:
            cursor.release(block.stop)
    demux_ms = (time.perf_counter() - started) * 1000
    return Hindsight(n, len(looked_up), agreeing, calls, demux_ms)
