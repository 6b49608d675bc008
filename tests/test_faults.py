"""The short version of benchmarks/faults.py: five faults, and nothing is lost or repeated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cameras import redis_is_missing, rtsp_is_missing

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ("driver_killed", "sink_down", "stall", "recognizer_killed", "redis_restarted")


@pytest.mark.slow
def test_five_faults_lose_and_repeat_nothing():
    if missing := rtsp_is_missing():
        pytest.skip(f"no RTSP server: {missing}")
    if missing := redis_is_missing():
        pytest.skip(f"no Redis server: {missing}")
    command = ["benchmarks/faults.py", "--minutes", "0.1", "--scale", "0.1", "--faults", *FAULTS]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("nothing lost, nothing repeated\n")
    assert all(f"| {fault} |" in done.stdout for fault in FAULTS)
