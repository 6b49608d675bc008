"""Whether memory stays flat: cameras for half an hour, and a source that hangs up again and again.

    python benchmarks/live_memory.py VIDEO [--cameras 8] [--minutes 30] [--reconnects 500]

The second part is `streamdyn watch` in a process of its own, with lite0 and the agent `keyframe`;
its memory is read every minute, and what counts is its growth from a third of the time to the end.
The first is a source that hangs up after a second of video, in this process.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import measuring

from streamdyn.items import FrameSpec
from streamdyn.sources.live import Live

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.cameras import Cameras, free_port, write_units_of, write_video  # noqa: E402


def resident_mb(pid: int) -> float:
    """Of a process, now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def cameras(video: Path, count: int, minutes: float, folder: Path) -> float:
    """Growth of a job's memory from a third of the time on."""
    units = write_units_of(video, folder / "camera.units")
    names = [f"cam{number}" for number in range(count)]
    server = Cameras(dict.fromkeys(names, units))
    job = {
        "index": "live.db",
        "policy": {"name": "keyframe", "lookahead": 16},
        "recognizer": {"name": "lite0", "resolution": 160},
        "streams": {name: {"url": server.url(name)} for name in names},
        "retention": {"chapter_seconds": 120},
        "ops": {"port": 0},
    }
    (folder / "job.yaml").write_text(json.dumps(job))
    command = [str(Path(sys.executable).with_name("streamdyn")), "watch", str(folder / "job.yaml")]
    with (folder / "log").open("w") as log:
        alone = {**os.environ, "OMP_NUM_THREADS": "1"}
        watch = subprocess.Popen(command, stdout=log, stderr=log, env=alone)
    found = []
    try:
        for minute in range(1, int(minutes) + 1):
            time.sleep(60)
            found.append(resident_mb(watch.pid))
            print(f"  minute {minute:2d}: {found[-1]:.1f} MB", flush=True)
    finally:
        watch.send_signal(signal.SIGTERM)
        watch.wait(60)
        server.kill()
    return found[-1] / found[len(found) // 3 - 1]


def reconnects(count: int, folder: Path) -> float:
    """Growth of memory from a fifth of the reconnects on."""
    data = write_video(folder / "second.ts", 25).read_bytes()
    port = free_port()
    with socket.create_server(("127.0.0.1", port), backlog=16) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        source = Live(f"tcp://127.0.0.1:{port}", retry_seconds=0.001, longest_retry_seconds=0.001)
        early = late = 0.0
        with closing(source.open()) as cursor:
            while sum(cursor.ingest.status.reconnects.values()) < count:
                block = cursor.next_block()
                assert block is not None
                cursor.materialize([block.first], FrameSpec(160, 96))
                cursor.release(block.stop)
                cursor.spool.done(int(block.pts[-1]))
                if not early and sum(cursor.ingest.status.reconnects.values()) >= count // 5:
                    gc.collect()
                    early = resident_mb(os.getpid())
                    print(f"  after {count // 5} reconnects: {early:.1f} MB", flush=True)
            gc.collect()
            late = resident_mb(os.getpid())
            print(f"  after {count} reconnects: {late:.1f} MB", flush=True)
    return late / early


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--reconnects", type=int, default=500)
    asked = parser.parse_args()
    measuring.header()
    with tempfile.TemporaryDirectory() as name:
        if asked.reconnects:
            growth = reconnects(asked.reconnects, Path(name))
            measuring.verdict(
                f"growth over {asked.reconnects} reconnects", growth, 1.02, at_most=True
            )
        if asked.minutes:
            growth = cameras(asked.video, asked.cameras, asked.minutes, Path(name))
            what = f"growth over the last two thirds of {asked.minutes:g} minutes"
            measuring.verdict(what, growth, 1.02, at_most=True)


if __name__ == "__main__":
    main()
