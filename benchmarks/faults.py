"""Faults at random times through a long run: is anything lost, is anything repeated?

A camera shows numbered pictures; `streamdyn watch` looks at every one of them (policy `full`, a
recognizer that reads the numbers, both cheap) and tells a file, a webhook and a Redis stream. After
the run every number that is missing must lie in a time in which the camera sent nothing that could
be had: it was gone, stalled, spoilt, or nobody was running to listen. A fault that does not touch
the connection must leave no gap at all. Pictures of a spoilt time show any number: they are stored,
and not judged.

    python benchmarks/faults.py [--minutes 30] [--ray] [--faults NAME ...] [--scale 1.0] [--seed 0]

With `--ray` the stream is watched by an actor, its pictures are recognized by another, and a third
one writes; then those are killed, too.

Needs root for `disk_full` (a small file system is mounted); it is left out otherwise, and said.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.cameras import RATE, Cameras, free_port, write_units  # noqa: E402
from tests.stream_parts import PART  # noqa: E402

GOP = 25
STALL_SECONDS = 4.0
PATIENCE_SECONDS = 90.0
EARLY_SECONDS = 4.0
"""Of a fault's beginning: a picture is on its way for a while, and of a spoilt time two seconds
before it are not judged."""
RECONNECT_SECONDS = 20.0
"""After the end of a fault: the longest wait between two tries, opening, and a keyframe."""


class Receiver:
    """A webhook that can be down."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.is_down = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                if not receiver.is_down:
                    receiver.ids.append(self.headers["Idempotency-Key"])
                self.send_response(503 if receiver.is_down else 200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Requests are not logged."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


@dataclass(slots=True)
class Injected:
    """One fault that was made."""

    name: str
    began: float
    """By the clock, as `ended`."""
    ended: float = 0.0
    recovered_seconds: float = float("nan")
    """From its end to the next picture that is stored."""
    gap: list[int] = field(default_factory=list)
    """Numbers that are missing because of it."""

    def explains(self, first: float, last: float) -> bool:
        """Whether pictures shown from then to then could not be had because of it."""
        began_in_it = self.began - EARLY_SECONDS <= first <= self.ended + EARLY_SECONDS
        # A job that was killed listens again when it is up, which takes what it takes.
        latest = self.ended + max(RECONNECT_SECONDS, self.recovered_seconds)
        return self.name in TOUCHES_MEDIA and began_in_it and last <= latest


class Rig:
    """The camera, the sinks and the job.

    Args:
        folder: For everything.
        num_pictures: That the camera shows.
        scale: Of the lengths of faults.
        on_ray: The job runs in actors.
    """

    def __init__(self, folder: Path, num_pictures: int, scale: float, *, on_ray: bool) -> None:
        self.folder, self.scale, self.on_ray = folder, scale, on_ray
        self.disk = folder / "disk"
        self.disk.mkdir()
        self.faults = folder / "faults"
        self.faults.mkdir()
        self.has_disk = os.geteuid() == 0 and _mounts(self.disk)
        print("encoding the camera's pictures ...", file=sys.stderr)
        units = write_units(folder / "camera.units", num_pictures, gop=GOP)
        self.camera = Cameras({"gate": units})
        self.receiver = Receiver()
        self.redis_port = free_port()
        self.redis = self._start_redis()
        self._write_job()
        self.job = self._start_job()

    def _start_redis(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1",
             "--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "always"],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def _write_job(self) -> None:
        job = {
            "index": str(self.disk / "live.db"),
            "policy": {"name": "full", "lookahead": 12},
            "recognizer": {"name": "numbers"},
            "streams": {"gate": {"url": self.camera.url("gate")}},
            "source": {
                "stall_seconds": STALL_SECONDS,
                "retry_seconds": 0.5,
                "longest_retry_seconds": 5.0,
                "max_block_items": 12,
                "spool_bytes": 8_000_000,
                "max_lag_seconds": 600.0,
            },
            # Every picture counts here: nothing is skipped under load.
            "load": {"target_lag_seconds": 3600},
            # The numbers are what the pictures show: each is another view.
            "events": {"labels": ["none"], "view_changes": False},
            "retention": {"chapter_seconds": 60},
            "sinks": [
                {"kind": "jsonl", "path": str(self.folder / "all.jsonl"), "send": "all"},
                {"kind": "webhook", "url": self.receiver.url, "send": "all"},
                {
                    "kind": "redis",
                    "url": f"redis://127.0.0.1:{self.redis_port}/0",
                    "longest": 10_000_000,
                    "send": "all",
                },
            ],
            "ops": {"port": 0},
            "ray": {} if self.on_ray else None,
        }
        (self.folder / "job.yaml").write_text(json.dumps(job))

    def _start_job(self) -> subprocess.Popen[bytes]:
        log = (self.folder / "log").open("ab")
        variables = {
            "STREAMDYN_TEST_FAULTS": str(self.faults),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{PART}",
        }
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.stream_child", "watch",
                 str(self.folder / "job.yaml")],
                stdout=log, stderr=log, cwd=ROOT, env=os.environ | variables,
            )  # fmt: skip

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Of the index, as it is now; none while there is no index."""
        path = f"file:{self.disk / 'live.db'}?mode=ro"
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(path, uri=True, timeout=30)) as database,
        ):
            return database.execute(sql).fetchall()
        return []

    def numbers(self, spoilt: list[Injected]) -> list[int]:
        """Of the pictures that are stored, in the order they were shown, but in spoilt times."""
        rows = self.rows("SELECT label, ticks / 90000.0 FROM outcomes ORDER BY ticks")
        times = [(fault.began - 2, fault.ended + 3) for fault in spoilt]
        return [
            int(label) for label, at in rows if not any(start < at < stop for start, stop in times)
        ]

    def last_place(self) -> int:
        """Ordinal of the newest picture that is stored."""
        return int(self.rows("SELECT coalesce(max(ordinal), -1) FROM outcomes")[0][0])

    def ids(self) -> list[str]:
        """Of the stored outcomes."""
        return [i for (i,) in self.rows("SELECT id FROM outcomes ORDER BY ticks")]

    def kill_actor(self, kind: str) -> None:
        """Kill -9 of the process of an actor of the job."""
        for pid in _descendants(self.job.pid):
            with suppress(OSError):
                if f"ray::{kind}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)

    def sleep(self, seconds: float) -> None:
        """As long as a fault lasts."""
        time.sleep(seconds * self.scale)

    def close(self) -> None:
        """End everything."""
        for process in (self.job, self.redis):
            process.kill()
            process.wait()
        self.camera.kill()
        self.receiver.close()
        if self.has_disk:
            subprocess.run(["umount", "-l", str(self.disk)], check=False)


def _mounts(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _descendants(pid: int) -> list[int]:
    """Processes that it has started, and those that these have."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found[1:]


def camera_gone(rig: Rig) -> None:
    """The camera loses power for 30 s."""
    rig.camera.kill()
    rig.sleep(30)
    rig.camera.revive()


def stall(rig: Rig) -> None:
    """It stays connected and sends nothing for 15 s."""
    rig.camera.tell("stall gate")
    rig.sleep(15)
    rig.camera.tell("go gate")


def garbage(rig: Rig) -> None:
    """50 access units are spoilt."""
    rig.camera.tell("garbage gate 50")
    time.sleep(2)


def resolution(rig: Rig) -> None:
    """It is refused, and comes again with another decoder's parameters."""
    rig.camera.tell("down gate")
    rig.sleep(3)
    rig.camera.tell("up gate")


def clock_jump(rig: Rig) -> None:
    """The clock is an hour ahead for 10 s, then right again."""
    (rig.faults / "clock").write_text("3600")
    rig.sleep(10)
    (rig.faults / "clock").write_text("0")


def recognizer_fails(rig: Rig) -> None:
    """It raises for 5 s."""
    (rig.faults / "recognizer").touch()
    rig.sleep(5)
    (rig.faults / "recognizer").unlink()


def recognizer_killed(rig: Rig) -> None:
    """Kill -9 of the recognizer's process."""
    rig.kill_actor("RecognizerHost")


def stream_killed(rig: Rig) -> None:
    """Kill -9 of the process that receives the stream and decides."""
    rig.kill_actor("StreamActor")


def writer_killed(rig: Rig) -> None:
    """Kill -9 of the process that writes the index."""
    rig.kill_actor("LiveWriter")


def driver_killed(rig: Rig) -> None:
    """Kill -9, and a start 2 s later."""
    rig.job.send_signal(signal.SIGKILL)
    rig.job.wait()
    time.sleep(2)
    rig.job = rig._start_job()


def sink_down(rig: Rig) -> None:
    """The webhook answers 503 for 60 s."""
    rig.receiver.is_down = True
    rig.sleep(60)
    rig.receiver.is_down = False


def disk_full(rig: Rig) -> None:
    """The disk with the index and the spool is full for 15 s."""
    filler = rig.disk / "filler"
    with suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(b"\0" * 65536)
            file.flush()
    rig.sleep(15)
    filler.unlink()


def redis_restarted(rig: Rig) -> None:
    """Redis is killed and comes again after 5 s."""
    rig.redis.kill()
    rig.redis.wait()
    rig.sleep(5)
    rig.redis = rig._start_redis()


FAULTS: dict[str, Callable[[Rig], None]] = {
    fault.__name__: fault
    for fault in (
        camera_gone, stall, garbage, resolution, clock_jump, recognizer_fails, driver_killed,
        sink_down, disk_full, redis_restarted, recognizer_killed, stream_killed, writer_killed,
    )
}  # fmt: skip
OF_RAY = {"recognizer_killed", "stream_killed", "writer_killed"}
"""Only actors can be killed one by one."""
TOUCHES_MEDIA = {"camera_gone", "stall", "garbage", "resolution", "driver_killed", "stream_killed"}
"""While they last there is media that nobody could have."""


def wait_until(is_so: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> float:
    """Seconds until it is so; not a number where it did not come."""
    began = time.monotonic()
    while not is_so():
        if time.monotonic() - began > seconds:
            return float("nan")
        time.sleep(0.1)
    return time.monotonic() - began


def inject(rig: Rig, name: str) -> Injected:
    """Make a fault, and wait until pictures are stored again."""
    done = Injected(name, time.time())
    FAULTS[name](rig)
    done.ended = time.time()
    reached = rig.last_place()
    done.recovered_seconds = wait_until(lambda: rig.last_place() > reached)
    return done


def gaps_of(numbers: list[int]) -> list[tuple[int, int]]:
    """First and last number of each run that is missing."""
    return [(a + 1, b - 1) for a, b in pairwise(numbers) if b > a + 1]


def report(rig: Rig, faults: list[Injected], show: Callable[[str], None]) -> bool:
    """Print what was lost and repeated; whether all is well."""
    numbers = rig.numbers([fault for fault in faults if fault.name == "garbage"])
    repeated = len(numbers) - len(set(numbers))
    is_ordered = all(b > a for a, b in pairwise(numbers))
    unexplained = []
    for first, last in gaps_of(numbers):
        shown = rig.camera.since + first / RATE, rig.camera.since + last / RATE
        fault = next((f for f in faults if f.explains(*shown)), None)
        if fault is None:
            unexplained.append((first, last))
        else:
            fault.gap += range(first, last + 1)
    show("| fault | lasted | stored again after | pictures that could not be had |")
    show("|---|---|---|---|")
    for fault in faults:
        show(
            f"| {fault.name} | {fault.ended - fault.began:.1f} s | "
            f"{fault.recovered_seconds:.1f} s | {len(fault.gap)} "
            f"({len(fault.gap) / RATE:.1f} s) |"
        )
    show("")
    show(f"{len(numbers)} pictures stored, {repeated} repeated, in order: {is_ordered}")
    for first, last in unexplained:
        show(f"LOST: {first} to {last}")
    sinks = _check_sinks(rig, show)
    recovered = all(fault.recovered_seconds == fault.recovered_seconds for fault in faults)
    return not unexplained and not repeated and is_ordered and sinks and recovered


def _check_sinks(rig: Rig, show: Callable[[str], None]) -> bool:
    import redis

    ids = rig.ids()
    names = sorted(rig.folder.glob("all.jsonl*"), reverse=True)
    lines = [line for path in names for line in path.read_text().splitlines()]
    in_file = [json.loads(line)["id"] for line in lines]
    with closing(redis.Redis(port=rig.redis_port)) as client:
        in_redis = [entry[b"id"].decode() for _, entry in client.xrange("streamdyn")]
    # A receiver may be asked twice where it was killed between its answer and our noting it; the
    # key tells it.
    by_hook = [*dict.fromkeys(rig.receiver.ids)]
    fine = True
    for name, found in (("file", in_file), ("webhook", by_hook), ("redis", in_redis)):
        lost, twice = len(set(ids) - set(found)), len(found) - len(set(found))
        show(f"{name}: {len(found)} messages, {lost} lost, {twice} repeated")
        fine &= not lost and not twice and found == ids
    show(f"webhook: {len(rig.receiver.ids) - len(by_hook)} offered again, with the same key")
    return fine


def main() -> None:
    """Run, print, and exit with 1 where something was lost or repeated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--ray", action="store_true", help="the job runs in actors")
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), help="default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="of the lengths of faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="copy what was left of it there")
    asked = parser.parse_args()
    draw = random.Random(asked.seed)
    folder = Path(tempfile.mkdtemp(prefix="streamdyn-faults-"))
    num_pictures = int((asked.minutes * 60 + 300) * RATE)
    rig = Rig(folder, num_pictures, asked.scale, on_ray=asked.ray)
    faults: list[Injected] = []
    try:
        wait_until(lambda: bool(rig.rows("SELECT 1 FROM outcomes LIMIT 1")))
        began = time.monotonic()
        names = asked.faults or [name for name in FAULTS if asked.ray or name not in OF_RAY]
        if "disk_full" in names and not rig.has_disk:
            names.remove("disk_full")
            print("disk_full left out: no file system can be mounted here")
        while True:
            order = draw.sample(names, len(names))
            for name in order:
                time.sleep(draw.uniform(3, 12) * min(1.0, asked.scale * 2))
                done = inject(rig, name)
                faults.append(done)
                said = f"{time.monotonic() - began:.0f} s: {name}, {done.recovered_seconds:.1f} s"
                print(said, file=sys.stderr)
                if time.monotonic() - began > asked.minutes * 60 and len(faults) >= len(names):
                    break
            if time.monotonic() - began > asked.minutes * 60:
                break
        time.sleep(5)
        rig.job.send_signal(signal.SIGTERM)
        rig.job.wait(120)
        is_well = report(rig, faults, print)
    finally:
        if asked.keep is not None:
            for name in ("log", "all.jsonl", "disk/live.db"):
                with suppress(OSError):
                    shutil.copy(folder / name, asked.keep)
        rig.close()
        shutil.rmtree(folder, ignore_errors=True)
    print("nothing lost, nothing repeated" if is_well else "SOMETHING IS WRONG")
    raise SystemExit(not is_well)


if __name__ == "__main__":
    main()
