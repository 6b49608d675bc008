"""Cameras at once against drops, for a full pass, a stride and the packet agents.

Every camera is an RTSP mount of one server on this machine (tests/rtsp_server.py), 640x360 at 25
frames a second; the job is `streamdyn watch` in a process of its own, with lite0. Printed for each
policy and number of cameras: frames a second that came, the share looked at, dropped frames, the
99th percentile over all windows of the time from the arrival of a window's first frame to its being
stored, the worst one of any camera since the job began, and the processor time of the job and of
the server, in cores.

    python benchmarks/live_streams.py VIDEO [--cameras 1 4 8 16] [--seconds 30] [--out ROWS.jsonl]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.cameras import Cameras, write_units_of  # noqa: E402

POLICIES: dict[str, dict[str, Any]] = {
    "full pass": {"name": "full", "lookahead": 16},
    "stride 25": {"name": "stride", "every": 25, "lookahead": 16},
    "keyframe": {"name": "keyframe", "lookahead": 16},
    "packet_motion": {"name": "packet_motion", "lookahead": 16},
}
TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def status(state: Path) -> dict[str, Any]:
    """What a job says of itself."""
    address = json.loads((state / "ops.json").read_text())["address"]
    with urllib.request.urlopen(f"{address}/status", timeout=30) as answer:
        return dict(json.load(answer))


def latencies(state: Path) -> dict[float, float]:
    """Upper bound in seconds → windows so far that took no longer, by the job's metrics."""
    address = json.loads((state / "ops.json").read_text())["address"]
    with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    found: dict[float, float] = {}
    for family in families:
        for sample in family.samples:
            if sample.name == "streamdyn_e2e_latency_seconds_bucket":
                bound = float(sample.labels["le"])
                found[bound] = found.get(bound, 0.0) + sample.value
    return found


def percentile(before: dict[float, float], after: dict[float, float], share: float) -> float:
    """Of the windows between two readings, in seconds; straight lines within a bucket."""
    counts = [(bound, after[bound] - before.get(bound, 0.0)) for bound in sorted(after)]
    wanted = share * counts[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in counts:
        if count >= wanted:
            return lower + (bound - lower) * (wanted - below) / max(1e-9, count - below)
        lower, below = bound, count
    return float("inf")


def measure(units: Path, policy: str, count: int, seconds: float, folder: Path) -> dict[str, Any]:
    """One row."""
    names = [f"cam{number:02d}" for number in range(count)]
    server = Cameras(dict.fromkeys(names, units))
    job = {
        "index": "live.db",
        "policy": POLICIES[policy],
        "recognizer": {"name": "lite0", "resolution": 160},
        "streams": {name: {"url": server.url(name)} for name in names},
        "source": {"max_lag_seconds": 5},
        # The curve is of the policies: nothing is adapted.
        "load": {"target_lag_seconds": 1e6},
        "ops": {"port": 0},
    }
    (folder / "job.yaml").write_text(json.dumps(job))
    watched = [str(Path(sys.executable).with_name("streamdyn")), "watch", str(folder / "job.yaml")]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        watch = subprocess.Popen(watched, stdout=log, stderr=log, env=alone)
    try:
        state = folder / "live.db.state"
        deadline = time.monotonic() + 60
        while not _all_up(state, count):
            if time.monotonic() > deadline or watch.poll() is not None:
                raise SystemExit((folder / "log").read_text())
            time.sleep(0.5)
        time.sleep(3)
        before, began, late_before = status(state), time.monotonic(), latencies(state)
        used = cpu_seconds(watch.pid), cpu_seconds(server.pid)
        time.sleep(seconds)
        after, took = status(state), time.monotonic() - began
        late_after = latencies(state)
        cores = [
            (cpu_seconds(pid) - old) / took
            for pid, old in zip((watch.pid, server.pid), used, strict=True)
        ]
    finally:
        watch.send_signal(signal.SIGTERM)
        try:
            watch.wait(60)
        except subprocess.TimeoutExpired:
            watch.kill()
        server.kill()

    def more(name: str) -> int:
        return sum(
            b[name] - a[name] for a, b in zip(before["streams"], after["streams"], strict=True)
        )

    came = more("frames") + more("drop")
    return {
        "policy": policy,
        "cameras": count,
        "seconds": round(took, 1),
        "frames_per_second": round(came / took, 1),
        "looked_at": round(more("process") / max(1, more("frames")), 4),
        "dropped": round(more("drop") / max(1, came), 4),
        "errors": more("error"),
        "p99_seconds": round(percentile(late_before, late_after, 0.99), 2),
        "worst_seconds": max(s["latency_p99_seconds"] or 0.0 for s in after["streams"]),
        "job_cores": round(cores[0], 2),
        "server_cores": round(cores[1], 2),
    }


def _all_up(state: Path, count: int) -> bool:
    if not (state / "ops.json").exists():
        return False
    return sum(stream["frames"] > 0 for stream in status(state)["streams"]) == count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--policy", nargs="+", default=list(POLICIES))
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        units = Path(folder) / "camera.units"
        write_units_of(asked.video, units)
        print("| policy | cameras | frames/s | looked at | dropped | p99 | worst | job | server |")
        print("|---|---|---|---|---|---|---|---|---|")
        for policy in asked.policy:
            for count in asked.cameras:
                inner = Path(folder) / f"{policy}-{count}".replace(" ", "")
                inner.mkdir()
                row = measure(units, policy, count, asked.seconds, inner)
                cells = (
                    policy,
                    count,
                    row["frames_per_second"],
                    f"{row['looked_at']:.1%}",
                    f"{row['dropped']:.1%}",
                    f"{row['p99_seconds']:.2f} s",
                    f"{row['worst_seconds']:.2f} s",
                    f"{row['job_cores']} cores",
                    f"{row['server_cores']} cores",
                )
                print(f"| {' | '.join(map(str, cells))} |", flush=True)
                if asked.out is not None:
                    with asked.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
