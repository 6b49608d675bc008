"""Files indexed by threads of this process, by processes and by Ray workers, in turns.

`python benchmarks/runners.py FOLDER [--policy NAME] [--workers N] [--rounds N]`; all on this
machine, the cluster is started once, before anything is timed. The rows must be equal. Ray's time
is given with the start of its workers, which load streamdyn and a model each, and without it; that
of processes with it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import ray
from measuring import header, spread

from streamdyn.config import load_config, parse_part
from streamdyn.index import SqliteIndex
from streamdyn.pipelines.process_index import ProcessIndexJob
from streamdyn.pipelines.ray_index import RayIndexJob
from streamdyn.pipelines.video_index import IndexJob, find_videos
from streamdyn.run.ray_cluster import ClusterOptions


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--policy", default="bisect:max_doubt=7")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    config = load_config(None, {"policy": parse_part(asked.policy)})
    videos = find_videos([asked.folder])
    ray.init(address="local", include_dashboard=False, logging_level="ERROR")
    kinds = ("threads", "processes", "ray, workers started", "ray")
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(asked.rounds):
            for kind in ("threads", "processes", "ray"):
                path = Path(folder) / f"{kind}-{number}.db"
                with SqliteIndex(path, root=asked.folder) as index:
                    began = time.perf_counter()
                    if kind == "ray":
                        options = ClusterOptions(workers=asked.workers, worker_cpus=0.5)
                        report = RayIndexJob(index, config, options).run(videos)
                        times["ray, workers started"].append(report.wall_seconds)
                    else:
                        job = ProcessIndexJob if kind == "processes" else IndexJob
                        report = job(index, config, jobs=asked.workers).run(videos)
                    times[kind].append(time.perf_counter() - began)
                    assert not report.failures, report.failures
                    rows.append(index.rows())
    assert all(found == rows[0] for found in rows), "the rows differ"
    header()
    print(f"{len(videos)} files, {asked.policy}, {asked.workers} workers; the rows are equal")
    print("\n| runner | seconds | over threads |\n|---|---|---|")
    for kind, seconds in times.items():
        ratios = [one / other for one, other in zip(seconds, times["threads"], strict=True)]
        print(f"| {kind} | {spread(seconds)} | {spread(ratios, 'x')} |")


if __name__ == "__main__":
    main()
