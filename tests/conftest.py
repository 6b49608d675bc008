"""Fixtures for every test: no error is logged, no random state leaks, clips are made once."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import CLIPS
from damaged_clips import DAMAGED, REFUSED
from hypothesis import settings

from streamdyn import registry

# A second thread of torch on two busy cores makes everything ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, and no clock: a busy machine fails no test.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of GPUs are skipped where there is none, unless one is required."""
    if torch.cuda.is_available() or os.environ.get("STREAMDYN_REQUIRE_CUDA") == "1":
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def no_error_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    records = [r for when in ("setup", "call") for r in caplog.get_records(when)]
    errors = [r.getMessage() for r in records if r.levelno >= logging.ERROR]
    assert not errors, f"logged as errors: {errors}"


@pytest.fixture(autouse=True)
def priority_is_restored() -> Iterator[None]:
    """The AV1 encoder gives a process of root real-time priority, which its children inherit."""
    yield
    if hasattr(os, "sched_setscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(autouse=True)
def random_state_is_restored() -> Iterator[None]:
    python_state, numpy_state = random.getstate(), np.random.get_state()
    yield
    random.setstate(python_state)
    np.random.set_state(numpy_state)


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    known = {kind: dict(registry.parts(kind)) for kind in registry._PACKAGES}
    monkeypatch.setattr(registry, "_parts", known)


@pytest.fixture(scope="session")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """From the name of a clip to its file, made when it is first wanted; not to be changed."""
    folder = tmp_path_factory.mktemp("clips")
    known = {**CLIPS, **DAMAGED, **REFUSED}

    @cache
    def make(name: str) -> Path:
        return known[name].make(folder)

    return make
