"""One long file by one and by two workers, whole and split at keyframes, in turns.

`python benchmarks/one_long_file.py VIDEO [--split SECONDS] [--policy NAME] [--rounds N]`, in
threads of this process. What two workers make of a split file must be what one makes of it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from measuring import header, spread, verdict

from streamdyn.config import load_config, parse_part
from streamdyn.index import SqliteIndex
from streamdyn.pipelines.video_index import IndexJob

KINDS = (("whole", 1), ("whole", 2), ("split", 1), ("split", 2))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video")
    parser.add_argument("--split", type=float, default=10.0)
    parser.add_argument("--policy", default="bisect:max_doubt=7")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    whole = load_config(None, {"policy": parse_part(asked.policy)})
    configs = {"whole": whole, "split": whole.model_copy(update={"split_seconds": asked.split})}
    times: dict[tuple[str, int], list[float]] = {kind: [] for kind in KINDS}
    looks, rows = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(asked.rounds + 1):
            for how, workers in KINDS:
                path = Path(folder) / f"{how}-{workers}-{number}.db"
                with SqliteIndex(path, root=Path(asked.video).parent) as index:
                    began = time.perf_counter()
                    report = IndexJob(index, configs[how], jobs=workers).run([asked.video])
                    seconds = time.perf_counter() - began
                    assert not report.failures, report.failures
                    if how == "split":
                        rows.append(index.rows())
                looks[how] = report.receipt.num_processed
                if number:  # The first round warms up.
                    times[how, workers].append(seconds)
    assert all(found == rows[0] for found in rows), "the rows differ"
    header()
    print(f"{Path(asked.video).name}, {asked.policy}, ranges of {asked.split:g} s; rows are equal")
    print("\n| file | workers | looks | seconds | times as fast as whole by one |")
    print("|---|---|---|---|---|")
    ratios = {}
    for how, workers in KINDS:
        found = times[how, workers]
        ratios[how, workers] = [
            one / other for one, other in zip(times["whole", 1], found, strict=True)
        ]
        fast = spread(ratios[how, workers], "x")
        print(f"| {how} | {workers} | {looks[how]} | {spread(found)} | {fast} |")
    by_two = [one / two for one, two in zip(times["split", 1], times["split", 2], strict=True)]
    print()
    verdict("two workers over one, split", median(by_two), 1.7, at_most=False)


if __name__ == "__main__":
    main()
