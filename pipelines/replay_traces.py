"""Replay traces under other policies: what each would have cost and kept, without decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamdyn.audit import AuditRule
from streamdyn.budget import Budget
from streamdyn.errors import SourceError
from streamdyn.protocols import Policy
from streamdyn.replay import RecordedStream, ReplayResult, build_recognizer_of, replay
from streamdyn.timeline import Propagation

ALL = "all traces"
"""Stands for the stream in pooled results."""


def find_traces(paths: Sequence[str | Path]) -> list[Path]:
    """Trace files, and those in folders (`*.jsonl`), sorted.

    Raises:
        SourceError: A path does not exist, or a folder has no trace.
    """
    found: set[Path] = set()
    for path in map(Path, paths):
        inside = set(path.glob("*.jsonl")) if path.is_dir() else {path}
        if not inside:
            raise SourceError(
                f"no trace in the folder {path}: no file there ends in .jsonl; make one with: "
                "streamdyn index PATH --into FILE --trace DIR"
            )
        found |= inside
    return sorted(found)


def replay_traces(
    traces: Sequence[Path],
    policies: Mapping[str, Policy[Any]],
    *,
    budget: Budget | None = None,
    audit: AuditRule | None = None,
    propagation: Propagation = "two-sided",
) -> list[ReplayResult]:
    """Replay every trace under every policy; with several traces, pooled results come last.

    Args:
        traces: Files.
        policies: What results call them → policy.
        budget: As in a real run, for each trace.
        audit: As in a real run; a policy that tunes itself needs it.
        propagation: How skipped items get their outcome.
    """
    results: list[ReplayResult] = []
    for trace in traces:
        recorded = RecordedStream(trace)
        recognizer = build_recognizer_of(recorded)
        for label, policy in policies.items():
            result = replay(
                recorded, policy, recognizer, budget=budget, audit=audit, propagation=propagation
            )
            results.append(replace(result, policy=label))
    if len(traces) > 1:
        results += [pool([r for r in results if r.policy == label]) for label in policies]
    return results


def pool(results: Sequence[ReplayResult]) -> ReplayResult:
    """Results of one policy over several traces as one: counts and milliseconds add up."""
    items = sum(r.num_items for r in results)
    processed = sum(r.num_processed for r in results)
    audits = sum(r.num_audits for r in results)
    compared = sum(r.num_compared for r in results)
    estimates = [r.estimated_ms for r in results if r.estimated_ms is not None]
    return ReplayResult(
        stream=ALL,
        policy=results[0].policy,
        num_items=items,
        num_processed=processed,
        num_audits=audits,
        share_recognized=(processed + audits) / items,
        num_assumed=sum(r.num_assumed for r in results),
        agreement=sum(r.agreement * r.num_compared for r in results) / compared,
        num_compared=compared,
        num_decoded=sum(r.num_decoded for r in results),
        estimated_ms=sum(estimates) if len(estimates) == len(results) else None,
    )
