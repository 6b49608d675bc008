"""A camera that looks elsewhere is noticed and told; people and weather are not."""

from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamdyn import checkpoint
from streamdyn.budget import Budget, BudgetMeter
from streamdyn.errors import ConfigError, StoreError
from streamdyn.events import VIEW_CHANGED, EventState
from streamdyn.job import load_job
from streamdyn.pipelines.stream_job import StreamJob
from streamdyn.run.load import LoadControl, LoadRule
from streamdyn.view import NUM_LOOKS, SETTLED_LOOKS, ViewChange, ViewState, steps_of
from tests.cameras import write_pictures
from tests.test_stream_job import events, rows, told, write_job

SIZE = (160, 96)


def world(seed: int = 0) -> np.ndarray:
    """A picture of blurred blocks, larger than what a camera sees of it."""
    coarse = np.random.default_rng(seed).integers(0, 255, (24, 40)).astype(np.uint8)
    return np.kron(coarse, np.ones((8, 8), np.uint8))


def seen(at: tuple[int, int], number: int = 0, picture: np.ndarray | None = None) -> np.ndarray:
    """What a camera sees that looks there, with somebody walking through."""
    wide = world() if picture is None else picture
    left, top = at
    view = wide[top : top + SIZE[1], left : left + SIZE[0]].copy()
    x = number * 7 % (SIZE[0] - 24)
    view[30:80, x : x + 24] = 240
    return view


def changes(pictures: list[np.ndarray], state: ViewState | None = None) -> list[ViewChange]:
    """Of looks a second apart."""
    state = state or ViewState()
    found = [state.look(steps_of(p), n, Fraction(1)) for n, p in enumerate(pictures)]
    return [change for change in found if change is not None]


HERE, THERE = (60, 40), (90, 40)
SETTLED = [seen(HERE, n) for n in range(SETTLED_LOOKS + 5)]


def test_a_camera_that_was_turned_is_noticed_once():
    turned = [seen(THERE, n) for n in range(60)]
    (change,) = changes([*SETTLED, *turned])
    assert change.ticks == len(SETTLED)
    assert 0.6 < change.difference <= 1
    assert not changes([*SETTLED, *turned[: NUM_LOOKS - 1], *SETTLED])


@pytest.mark.parametrize(
    "weather",
    [
        lambda p: (p * 0.4).astype(np.uint8),
        lambda p: np.clip(p.astype(int) + 70, 0, 255).astype(np.uint8),
        lambda p: (255 * (p / 255) ** 2).astype(np.uint8),
        lambda p: np.stack([p, p, p], axis=2),
    ],
    ids=["dusk", "sun", "contrast", "colour"],
)
def test_light_and_people_are_no_other_view(weather):
    assert not changes([*SETTLED, *(weather(picture) for picture in SETTLED)])


def test_a_camera_that_is_covered_and_uncovered():
    dark = [np.full(SIZE[::-1], 3, np.uint8)] * 30
    assert [c.ticks for c in changes([*SETTLED, *dark, *SETTLED])] == [25, 55]


def test_what_never_settles_is_not_told():
    assert not changes([seen(HERE, picture=world(n // 8)) for n in range(200)])


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Forty seconds of one view, then thirty of another."""
    grey = [seen(HERE if n < 1000 else THERE, n // 12) for n in range(1750)]
    path = tmp_path_factory.mktemp("video") / "turned.mp4"
    return write_pictures(path, (np.stack([p] * 3, axis=2) for p in grey))


def job_of(folder: Path, video: Path, **more: Any) -> StreamJob:
    table = {
        "recognizer": {"name": "brightness"},
        "policy": {"name": "agreement", "options": {"lookahead": 50}},
        "events": {"labels": ["nothing of it"]},
        "audit": 0.05,
        "load": {"target_lag_seconds": 3600},
        **more,
    }
    return StreamJob(load_job(write_job(folder, video, **table)))


def test_a_stream_tells_of_it_and_the_agent_begins_anew(video, tmp_path):
    job = job_of(tmp_path, video)
    job.run()
    stream = job.status()["streams"][0]
    assert stream["view_changes"] == 1
    ((_, label, start, stop, is_over),) = events(tmp_path)
    assert (label, is_over) == (VIEW_CHANGED, 1)
    assert start == stop
    assert 40 <= start / 90_000 <= 43
    said = [m for m in told(tmp_path) if m["type"] == "event"]
    assert [(m["label"], m["phase"]) for m in said] == [(label, "start"), (label, "end")]
    # What is known of agreement is known of this view.
    ((all_audits,),) = rows(tmp_path, "SELECT count(*) FROM audits")
    assert 0 < stream["audits"] < 0.7 * all_audits
    assert b'view_changes_total{stream="gate"} 1.0' in job.metrics()


def test_it_need_not_be_told(video, tmp_path):
    job = job_of(tmp_path, video, events={"labels": ["nothing"], "view_changes": False})
    job.run()
    assert not events(tmp_path)
    assert job.status()["streams"][0]["view_changes"] == 0


def test_audits_come_out_of_the_share(video, tmp_path):
    more = {"policy": {"name": "full", "lookahead": 50}, "budget": {"share": 0.2}}
    job = job_of(tmp_path, video, events={"view_changes": False}, **more)
    job.run()
    stream = job.status()["streams"][0]
    assert stream["process"] - stream["audits"] <= 0.15 * 1750
    assert 0.16 * 1750 < stream["process"] < 0.22 * 1750
    with pytest.raises(ConfigError, match=r"audits of 0\.05 leave nothing of a budget"):
        job_of(tmp_path, video, budget={"share": 0.05})
    control = LoadControl(LoadRule(), Budget(), 0.1)
    meter = control.follow(BudgetMeter(control.start()), 10.0, 5.0)
    assert meter.budget.share == pytest.approx(0.7 - 0.1)


def test_a_state_that_was_stored_before_there_were_views_is_gone_on_with():
    state = EventState(last_item_ticks=7)
    del state.view
    found = checkpoint.load_state(pickle.dumps(state), EventState)
    assert (found.last_item_ticks, found.view) == (7, ViewState())
    with pytest.raises(StoreError):
        checkpoint.load_state(b"", EventState)
