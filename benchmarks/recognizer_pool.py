"""One shared recognizer asked by eight sessions over Ray, and one loop over the same pictures.

`python benchmarks/recognizer_pool.py FOLDER [--sessions N] [--pictures N] [--rounds N]`; pictures
are those of the folder's videos, evenly spaced. Each session is an actor that asks for a selection
at a time and waits for its answer, as a worker does; the loop is one process with full batches.
Answers must be equal up to 1e-3.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import closing
from statistics import median
from typing import Any

import numpy as np
import ray
from measuring import header, spread, verdict

from streamdyn.config import RunConfig
from streamdyn.items import Item, Selection
from streamdyn.pipelines.video_index import find_videos
from streamdyn.registry import build
from streamdyn.run.ray_recognizer import RecognizerHost
from streamdyn.sources.video_av import VideoAv

SIZES = {"16 at a time": (16, 16), "1 to 16 at a time": (1, 16), "1 at a time": (1, 1)}


@ray.remote(num_cpus=0)
class Session:
    """Asks for what was selected, one selection after another."""

    def __init__(self, selections: Sequence[Selection], host: Any) -> None:
        self._selections, self._host = selections, host

    def ready(self) -> None:
        """It is there."""

    def run(self) -> list[float]:
        """First scores of all answers."""
        found = []
        for selection in self._selections:
            outcomes, _, _ = ray.get(self._host.recognize.remote(selection, None))
            found += [outcome.scores[0] for outcome in outcomes]
        return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=128, help="of each session")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    recognizer = build("recognizer", "lite0")
    recognizer.setup("cpu")
    items = pictures(find_videos([asked.folder]), asked.sessions * asked.pictures, recognizer)
    ray.init(address="local", include_dashboard=False, logging_level="ERROR")
    host = ray.remote(num_cpus=1, max_concurrency=1000)(RecognizerHost).remote(
        RunConfig.model_validate({"recognizer": {"name": "lite0"}}).model_dump_json(), "."
    )
    ray.get(host.facts.remote())
    header()
    print(f"{len(items)} pictures of {items[0].data.shape}, {asked.sessions} sessions, lite0\n")
    print("| selections | loop, ms a picture | pool, ms a picture | throughput | overhead, ms |")
    print("|---|---|---|---|---|")
    reached: dict[str, tuple[float, float]] = {}
    for name, sizes in SIZES.items():
        loops, pools = [], []
        sessions = [
            Session.remote(ragged(items[k :: asked.sessions], sizes, k), host)  # type: ignore[attr-defined]
            for k in range(asked.sessions)
        ]
        ray.get([session.ready.remote() for session in sessions])
        for _ in range(asked.rounds):
            began = time.perf_counter()
            by_loop = looped(items, recognizer)
            loops.append(1e3 * (time.perf_counter() - began) / len(items))
            began = time.perf_counter()
            answers = ray.get([session.run.remote() for session in sessions])
            pools.append(1e3 * (time.perf_counter() - began) / len(items))
            for k, found in enumerate(answers):
                np.testing.assert_allclose(found, by_loop[k :: asked.sessions], atol=1e-3)
        ratios = [loop / pool for loop, pool in zip(loops, pools, strict=True)]
        over = [pool - loop for loop, pool in zip(loops, pools, strict=True)]
        cells = name, spread(loops), spread(pools), spread(ratios, "x"), spread(over)
        print(f"| {' | '.join(cells)} |")
        reached[name] = median(ratios), median(over)
        for session in sessions:
            ray.kill(session)
    print()
    for name in list(SIZES)[:2]:
        verdict(f"throughput over the loop's, {name}", reached[name][0], 0.9, at_most=False)
        verdict(f"overhead in ms a picture, {name}", reached[name][1], 3.0, at_most=True)


def pictures(paths: Sequence[str], count: int, recognizer: Any) -> list[Item]:
    """Evenly spaced ones of all videos, `count` in all."""
    found: list[Item] = []
    each = -(-count // len(paths))
    for path in paths:
        with closing(VideoAv(path, on_corrupt="skip").open()) as cursor:
            blocks = []
            while (block := cursor.next_block()) is not None:
                blocks.append(block)
            ordinals = np.unique(np.linspace(0, blocks[-1].stop - 1, each).astype(int)).tolist()
            found += cursor.materialize(ordinals, recognizer.input)[0]
    if len(found) < count:
        raise SystemExit(f"the videos have {len(found)} pictures that can be used, not {count}")
    return found[:count]


def ragged(items: Sequence[Item], sizes: tuple[int, int], seed: int) -> list[Selection]:
    """In selections of drawn sizes."""
    dice, first, found = np.random.default_rng(seed), 0, []
    while first < len(items):
        size = int(dice.integers(*sizes, endpoint=True))
        found.append(Selection.in_full(items[first : first + size]))
        first += size
    return found


def looped(items: Sequence[Item], recognizer: Any) -> list[float]:
    """The loop that anyone would write."""
    size, found = recognizer.batch_size, []
    for first in range(0, len(items), size):
        outcomes, _ = recognizer.recognize(Selection.in_full(items[first : first + size]), None)
        found += [outcome.scores[0] for outcome in outcomes]
    return found


if __name__ == "__main__":
    main()
