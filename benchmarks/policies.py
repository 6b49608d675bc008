"""Calls, agreement and wall time of policies on real videos, against the full pass and strides.

Pooled over files: calls and items are summed, and so are milliseconds. Audit calls count. The best
single stride is chosen with hindsight from the full passes, under the same propagation.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median

from measuring import header, spread, verdict

from streamdyn.config import load_config, parse_part
from streamdyn.pipelines.bench_report import BenchReport, Run, plot
from streamdyn.pipelines.compare_policies import bench
from streamdyn.pipelines.video_index import find_videos
from streamdyn.registry import build

POLICIES = (
    "agreement",
    "bisect",
    "bisect:lookahead=25",
    "packet_motion",
    "keyframe",
    "change",
    "shot",
    "uniform_k",
    "random",
)
QUIET = 0.98
"""A file is quiet where keyframes alone agree this well with the full pass."""


def print_files(report: BenchReport) -> None:
    """One line a file."""
    names = list(report.policies)
    print(f"\n{'file':34} items full_s oracle  " + "  ".join(f"{n[:21]:>21}" for n in names))
    for file, full in report.full.items():
        cells = []
        for name in names:
            run = report.policies[name][file]
            cells.append(f"{run.share:6.1%} {run.agreement:.3f} {median(run.ratios):5.1f}x")
        print(
            f"{Path(file).name[:34]:34} {full.num_items:5} {median(full.wall_ms) / 1000:6.2f} "
            f"{report.oracle_share([file]):6.1%}  " + "  ".join(f"{c:>21}" for c in cells)
        )


def print_pooled(report: BenchReport) -> None:
    """One line a policy."""
    print(
        f"\n{'policy, pooled':24} share  agreement  wall ratio (spread)      "
        "demux decode convert preview policy recognize ms   stride of equal agreement"
    )
    for name, runs in report.policies.items():
        run = Run.pool(list(runs.values()))
        stages = [
            getattr(run.receipt, f"{stage}_ms")
            for stage in ("demux", "decode", "convert", "preview", "policy", "recognize")
        ]
        stride, share = report.best_stride(run.agreement)
        print(
            f"{name:24} {run.share:6.2%} {run.agreement:.4f}  {spread(run.ratios, 'x'):24}"
            + "".join(f"{ms:8.0f}" for ms in stages)
            + f"   {stride}: {share:.2%}"
        )
    full = Run.pool(list(report.full.values()))
    demux = sum(h.demux_ms for h in report.hindsight.values())
    print(
        f"full pass: {full.num_items} items, {spread(full.wall_ms, ' ms')}; demux alone "
        f"{demux:.0f} ms ({median(full.wall_ms) / demux:.0f}x); greedy oracle "
        f"{report.oracle_share():.2%}"
    )


def main() -> None:
    """Run the bench and check the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    header()
    policies = {}
    for text in POLICIES:
        part = parse_part(text)
        policies[text] = build("policy", part.pop("name"), **part)
    report = bench(
        find_videos(args.paths),
        load_config(None),
        policies,
        repeats=args.repeats,
        on_step=lambda step: print(step, file=sys.stderr),
    )
    print_files(report)
    print_pooled(report)
    if args.json:
        args.json.write_text(json.dumps(report.as_dict(), indent=1))
    if args.plot:
        plot(report, args.plot)
    print()
    tuned = Run.pool(list(report.policies["agreement"].values()))
    every, share = report.best_stride(0.95)
    print(f"best stride of at least 0.95, with hindsight: {every} ({share:.2%} of the items)")
    verdict("agreement of 'agreement'", tuned.agreement, 0.95, at_most=False)
    verdict("share of items it recognizes", tuned.share, 0.09, at_most=True)
    verdict("its calls over that stride's", tuned.share / share, 0.75, at_most=True)
    _, equal = report.best_stride(tuned.agreement)
    verdict(
        "its calls over the stride's of equal agreement", tuned.share / equal, 0.75, at_most=True
    )
    live = Run.pool(list(report.policies["bisect:lookahead=25"].values()))
    verdict("agreement with a lookahead of 25 items", live.agreement, 0.95, at_most=False)
    verdict("share of items with a lookahead of 25 items", live.share, 0.09, at_most=True)
    verdict("wall time of the full pass over 'agreement'", median(tuned.ratios), 6, at_most=False)
    quiet = [f for f, run in report.policies["keyframe"].items() if run.agreement >= QUIET]
    if quiet:
        run = Run.pool([report.policies["agreement"][f] for f in quiet])
        print(f"files whose keyframes agree: {', '.join(Path(f).name for f in quiet)}")
        verdict("the same on those files", median(run.ratios), 10, at_most=False)


if __name__ == "__main__":
    main()
