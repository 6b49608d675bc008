"""The short version of benchmarks/faults.py: five faults, and nothing is lost or repeated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cameras import redis_is_missing, rtsp_is_missing

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ("sink_down", "stall", "redis_restarted")
HERE = ("driver_killed", "recognizer_fails")
ON_RAY = ("stream_killed", "recognizer_killed")


@pytest.mark.slow
@pytest.mark.parametrize("more", [HERE, ON_RAY], ids=["threads", "Ray"])
def test_five_faults_lose_and_repeat_nothing(more):
    if missing := rtsp_is_missing():
        pytest.skip(f"no RTSP server: {missing}")
    if missing := redis_is_missing():
        pytest.skip(f"no Redis server: {missing}")
    command = ["benchmarks/faults.py", "--minutes", "0.1", "--scale", "0.1"]
    command += ["--ray"] if more is ON_RAY else []
    command += ["--faults", *FAULTS, *more]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("nothing lost, nothing repeated\n")
    assert all(f"| {fault} |" in done.stdout for fault in (*FAULTS, *more))
