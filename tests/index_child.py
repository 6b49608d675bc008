"""Indexes a folder in a process of its own, and signals itself after the n-th stored window.

Arguments, as one JSON object: folder, index, jobs, config, and the signal with its number.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from streamdyn.config import load_config
from streamdyn.index import SqliteIndex
from streamdyn.pipelines.video_index import IndexJob, find_videos


def main() -> None:
    order = json.loads(sys.argv[1])
    lock, progress = threading.Lock(), 0

    def on_progress(state: object) -> None:
        nonlocal progress
        with lock:
            progress += 1
            sys.stdout.write(f"{progress}\n")
            sys.stdout.flush()
            if progress == order["after"]:
                os.kill(os.getpid(), signal.Signals[order["signal"]])

    with SqliteIndex(Path(order["index"])) as index:
        job = IndexJob(
            index, load_config(None, order["config"]), jobs=order["jobs"], on_progress=on_progress
        )
        job.run(find_videos([order["folder"]]))


if __name__ == "__main__":
    main()
