"""Thousands of files of a second each through a runner: files a second, memory, killed and resumed.

`python benchmarks/many_files.py [--files N] [--runner NAME] [--workers N] [--kill-at SHARE]`; the
files are copies of one clip that is encoded here, each with a number of its own at its end. The
command line runs in processes of its own, is killed with all of them when a share of the files is
done, and is run again. Memory is the resident size of all its processes, shared pages counted in
each.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from measuring import header, verdict

from streamdyn.index import SqliteIndex

PROGRAM = (sys.executable, "-c", "from streamdyn.cli import main; main()")
LAST = -2
"""Sample at the end; at the very last one the workers have gone."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Run:
    """One call of the command line; a sample a second."""

    seconds: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    megabytes: list[dict[str, float]] = field(default_factory=list)
    """Of each kind of process."""
    exit_code: int = 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--runner", default="ray")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill-at", type=float, default=0.4)
    asked = parser.parse_args()
    header()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "videos"
        write_clips(folder, asked.files)
        command = [
            *PROGRAM, "index", str(folder), "--into", str(Path(temporary) / "x.db"),
            "--recognizer", "brightness", "--policy", "stride:every=8", "--runner", asked.runner,
            "--jobs", str(asked.workers), "--progress", "json", "--json",
        ]  # fmt: skip
        print(f"indexing: {shlex.join(command[3:])}\n")
        first = run(command, int(asked.kill_at * asked.files))
        second = run(command)
        with SqliteIndex(Path(temporary) / "x.db", mode="read") as index:
            states = [media.status for media in index.media()]
            num_windows = len(index.rows()["windows"])
    print("| call | files | seconds | files/s, first and last third | MB at a third | at the end |")
    print("|---|---|---|---|---|---|")
    for name, found in (("killed", first), ("again", second)):
        print(f"| {name} | {row(found)} |")
    third = len(second.seconds) // 3
    before, after = second.megabytes[third], second.megabytes[LAST]
    kinds = (f"{kind} {before.get(kind, 0.0):.0f} to {mb:.0f}" for kind, mb in after.items())
    print(f"\nmegabytes by kind, at a third to the end: {', '.join(kinds)}\n")
    growth = total(after) / total(before)
    verdict("memory at the end over that at a third", growth, 1.05, at_most=True)
    slower = rate(second, -third - 1, -1) / rate(second, 0, third)
    verdict("files a second, last third over first", slower, 0.8, at_most=False)
    verdict("files done", states.count("done") / asked.files, 1.0, at_most=False)
    verdict("windows a file", num_windows / asked.files, 1.0, at_most=True)


def write_clips(folder: Path, count: int) -> None:
    """`count` files of one second, 64 x 48 pixels at 25 frames a second, none like another."""
    folder.mkdir()
    one = folder / "clip.mp4"
    dice = np.random.default_rng(0)
    with av.open(str(one), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(25):
            picture = dice.integers(0, 256, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    data = one.read_bytes()
    one.unlink()
    for number in range(count):
        # A box that players leave out.
        own = (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")
        (folder / f"{number:06}.mp4").write_bytes(data + own)


def run(command: list[str], kill_at: int | None = None) -> Run:
    """Until it ends, or is killed with all its processes when so many files are done."""
    found, began = Run(), time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if not line.startswith("{"):
            print(line, end="", file=sys.stderr)
            continue
        told = json.loads(line)
        found.seconds.append(time.perf_counter() - began)
        found.files.append(told["files_finished"])
        found.megabytes.append(memory(process.pid))
        print(f"{told['files_finished']} of {told['files']}", end="\r", file=sys.stderr)
        if kill_at is not None and told["files_finished"] >= kill_at:
            for pid, _ in session(process.pid):
                os.kill(pid, signal.SIGKILL)
            break
    found.exit_code = process.wait()
    if kill_at is None and found.exit_code:
        raise SystemExit(f"it ended with {found.exit_code}")
    return found


def session(leader: int) -> Iterator[tuple[int, str]]:
    """Processes that one has started, by session or by descent; Ray's daemons among them."""
    parents, names, sessions = {}, {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
            words = (stat.parent / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        pid = int(stat.parent.name)
        _, parent, _, number = text.rpartition(")")[2].split()[:4]
        parents[pid], sessions[pid] = int(parent), int(number)
        names[pid] = words[0].decode().rpartition("/")[2].partition(" ")[0]
    for pid in parents:
        above = pid
        while above in parents and above != leader:
            above = parents[above]
        if above == leader or sessions[pid] == leader:
            yield pid, names[pid]


def memory(leader: int) -> dict[str, float]:
    """Kind of process → resident megabytes."""
    found: dict[str, float] = {}
    for pid, name in session(leader):
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
        found[name] = found.get(name, 0.0) + pages * PAGE_BYTES / 1e6
    return found


def total(megabytes: dict[str, float]) -> float:
    """Of all processes."""
    return sum(megabytes.values())


def rate(found: Run, first: int, last: int) -> float:
    """Files a second between two samples."""
    return (found.files[last] - found.files[first]) / (found.seconds[last] - found.seconds[first])


def row(found: Run) -> str:
    """Of the table."""
    third = len(found.seconds) // 3
    cells = (
        f"{found.files[-1]:,}",
        f"{found.seconds[-1]:.0f}",
        f"{rate(found, 0, third):.0f}, {rate(found, -third - 1, -1):.0f}",
        f"{total(found.megabytes[third]):.0f}",
        f"{total(found.megabytes[LAST]):.0f}",
    )
    return " | ".join(cells)


if __name__ == "__main__":
    main()
