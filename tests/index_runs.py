"""A folder of clips indexed by one runner or another, with a part that kills its process."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from command import PROGRAM

from streamdyn.config import RunConfig, load_config
from streamdyn.index import SqliteIndex
from streamdyn.pipelines.video_index import IndexJob, find_videos

PART = Path(__file__).with_name("touchy_part")
BISECT = {"name": "bisect", "max_doubt": 15.0, "lookahead": 40}
TUNING = {"name": "agreement", "target": 0.9, "options": {"lookahead": 40}}


def config_of(policy: dict[str, Any] = BISECT, **options: Any) -> RunConfig:
    """Brightness, or with options `touchy`."""
    audit = 0.15 if policy is TUNING else 0.1
    recognizer = {"name": "touchy", **options} if options else {"name": "brightness"}
    return load_config(None, {"recognizer": recognizer, "policy": policy, "audit": audit})


def rows_of(
    folder: Path, path: Path, config: RunConfig, kind: Any = IndexJob, **options: Any
) -> tuple[Any, dict[str, str]]:
    """Index the folder; answers the rows, and the failures."""
    with SqliteIndex(path, root=folder.parent) as index:
        failures = kind(index, config, **options).run(find_videos([str(folder)])).failures
        return index.rows(), failures


def check_ended_and_run_again(
    folder: Path, tmp_path: Path, runner: str, end: Callable[[Any], None], *always: str
) -> None:
    """The command line, ended when it has stored windows and run again, makes the rows of threads.

    Args:
        folder: Of clips.
        tmp_path: For the indexes.
        runner: As `--runner` has it.
        end: Ends the process, the leader of a session.
        *always: Options of all three calls.
    """
    environment = {**os.environ, "PYTHONPATH": str(PART)}

    def command(into: Path, *more: str) -> list[str]:
        return [
            *PROGRAM, "index", str(folder), "--into", str(into), "--root", str(folder.parent),
            "--policy", "bisect:max_doubt=15,lookahead=40", "--audit", "0.1",
            "--recognizer", "touchy:seconds=0.02", *always, *more,
        ]  # fmt: skip

    def run(into: Path, *more: str) -> None:
        done = subprocess.run(
            command(into, *more), capture_output=True, text=True, check=False, timeout=400,
            env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    here, there = tmp_path / "here.db", tmp_path / "there.db"
    run(here)
    process = subprocess.Popen(
        command(there, "--runner", runner, "--jobs", "2"), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    while process.poll() is None and not _num_windows(there):
        time.sleep(0.02)
    assert process.poll() is None, "it ended before it could be killed"
    end(process)
    run(there, "--runner", runner, "--jobs", "2")
    with SqliteIndex(here, mode="read") as one, SqliteIndex(there, mode="read") as other:
        assert one.rows() == other.rows()


def _num_windows(path: Path) -> int:
    """Of an index that is being made."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'windows'").fetchall():
            return 0
        found: int = connection.execute("SELECT count(*) FROM windows").fetchone()[0]
        return found
