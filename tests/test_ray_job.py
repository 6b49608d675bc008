"""`ray job submit` to a head of this machine: the recipe of the README, so far as one can go."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import PROGRAM, free_port, streamdyn
from scene_clips import write_folder

from streamdyn.index import SqliteIndex

RAY = Path(sys.executable).with_name("ray")
ENVIRONMENT = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """Address for jobs, of a head in processes of its own."""
    pytest.importorskip("aiohttp_cors", reason="jobs need the package 'ray[default]'")
    port = free_port()
    # Names of sockets must be short.
    with tempfile.TemporaryDirectory(prefix="ray") as temporary:
        head = subprocess.Popen(
            [
                str(RAY), "start", "--head", "--block", "--port", str(free_port()),
                "--num-cpus", "2", "--object-store-memory", str(80 * 1024 * 1024),
                "--dashboard-host", "127.0.0.1", "--dashboard-port", str(port),
                "--temp-dir", temporary, "--disable-usage-stats",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env=ENVIRONMENT,
        )  # fmt: skip
        address, began = f"http://127.0.0.1:{port}", time.monotonic()
        try:
            while not _answers(f"{address}/api/jobs/"):
                assert head.poll() is None, "the head ended"
                assert time.monotonic() - began < 120, "the head does not answer"
                time.sleep(0.2)
            yield address
        finally:
            os.killpg(head.pid, signal.SIGTERM)
            head.wait(60)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True  # It asks who is there, which `ray job` knows.
    except OSError:
        return False
    return True


def test_a_submitted_job_makes_the_rows_of_threads(dashboard: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "videos", (250, 180))

    def asked(into: str, *more: str) -> list[str]:
        return [
            "index", str(folder), "--into", str(tmp_path / into), "--root", str(folder.parent),
            "--policy", "bisect:max_doubt=15,lookahead=40", "--audit", "0.1",
            "--recognizer", "brightness", "--jobs", "1", *more,
        ]  # fmt: skip

    assert streamdyn(*asked("here.db")).exit_code == 0
    command = [*PROGRAM, *asked("there.db", "--runner", "ray")]
    done = subprocess.run(
        [str(RAY), "job", "submit", "--address", dashboard, "--", *command],
        capture_output=True, text=True, check=False, timeout=300, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 files indexed" in done.stdout
    here, there = tmp_path / "here.db", tmp_path / "there.db"
    with SqliteIndex(here, mode="read") as one, SqliteIndex(there, mode="read") as other:
        assert one.rows() == other.rows()
