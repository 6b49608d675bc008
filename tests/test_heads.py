"""Recognizers of actions: how looks are pooled, and what a look that updates in part is worth."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from passes import watch

from streamdyn.clock import Pts
from streamdyn.errors import ConfigError, ModelError
from streamdyn.items import FrameSpec, Item, Selection
from streamdyn.nn.weights import save_weights
from streamdyn.pipelines.train_gru_head import HIDDEN, GruHead, looked
from streamdyn.pipelines.unseen_heads import Lesson
from streamdyn.plan import FULL_EFFORT, Action, Effort, Plan
from streamdyn.recognizers.actions import Actions, said_by
from streamdyn.recognizers.actions_gru import ActionsGru
from streamdyn.registry import build
from streamdyn.sources.synthetic import Synthetic
from streamdyn.window import by_spec

DIM, LABELS = 8, ["jump", "run"]
HEAD = {"weight": 6.0 * np.eye(2, DIM), "bias": np.zeros(2)}
ATTENTION = {"attention": np.array([-12.0, -2.0, -2.0, -1.0, 10.0])}
FACTS = {"labels": LABELS, "resolution": 128}


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A head that says `jump` of the first axis and `run` of the second."""
    path = tmp_path / "actions.safetensors"
    save_weights(path, "actions", HEAD | ATTENTION, FACTS)
    return str(path)


def look(seconds: float, axis: int, action: Action = Action.PROCESS) -> Selection:
    data = np.eye(DIM, dtype=np.float32)[axis]
    pts = Pts(round(seconds * 100), Fraction(1, 100))
    return Selection((Item("s", pts.ticks, pts, data),), (action,), (FULL_EFFORT,))


def scores(recognizer: Actions, *looks: Selection) -> dict[str, float]:
    hidden = recognizer.initial_hidden()
    for one in looks:
        (outcome,), hidden = recognizer.recognize(one, hidden)
        assert (outcome.labels, outcome.scores) == recognizer.answer(hidden)
    return dict(zip(*recognizer.answer(hidden), strict=True))


DAY = [(float(t), 1) for t in range(0, 30, 3)]
"""Footage that looks like `run`."""


def test_a_mean_counts_all_looks_alike(model: str) -> None:
    looks = [look(*one) for one in [*DAY, (13.5, 0)]]
    mean, attention = Actions(model=model, pool="mean"), Actions(model=model)
    assert scores(mean, *looks)["run"] > 0.8
    assert scores(attention, *looks)["jump"] > 0.9
    assert mean.version != attention.version
    with pytest.raises(ConfigError, match="a pool of attention or mean"):
        Actions(model=model, pool="sum")  # type: ignore[arg-type]


def test_a_partial_look_tells_what_is_usual_and_nothing_else(model: str) -> None:
    head = Actions(model=model)
    unsure = scores(head, look(13.5, 0), look(20.0, 1))
    around = [look(seconds, axis, Action.PARTIAL) for seconds, axis in DAY if seconds != 21]
    told = scores(head, *around[:4], look(13.5, 0), look(20.0, 1), *around[4:])
    assert abs(unsure["jump"] - 0.5) < 0.1
    assert told["jump"] > 0.9
    assert scores(head, *around) == {}
    assert scores(Actions(model=model, alone=True), *around) == {}


def test_liteeval_looks_around_in_small_pictures() -> None:
    stream = Synthetic(num_items=200)
    alone = watch(stream, build("policy", "liteeval", k=1))
    plan = build("policy", "liteeval", k=1, context=6, context_px=8)
    found = watch(stream, plan, _Sides())
    assert found.reasons.count("P") == 1
    assert found.reasons.count("p") == 6
    sides = {item: int(outcome.label) for item, outcome in found.outcomes.items()}
    assert {item for item, side in sides.items() if side == 32} == set(alone.processed)
    assert sorted(sides.values()) == [8] * 6 + [32]
    for wrong in ({"context": -1}, {"context_px": 0}):
        with pytest.raises(ConfigError, match="liteeval needs"):
            build("policy", "liteeval", **wrong)


class _Sides(build("recognizer", "brightness").__class__):  # type: ignore[misc]
    """Says how wide a picture is."""

    def recognize(self, selection: Selection, hidden: None) -> tuple[list, None]:
        from dataclasses import replace

        whole = replace(selection, actions=(Action.PROCESS,) * len(selection))
        outcomes, _ = super().recognize(whole, hidden)
        said = zip(outcomes, selection.items, strict=True)
        return [replace(o, labels=(str(i.data.shape[1]),), scores=(1.0,)) for o, i in said], None


def test_pictures_of_several_sizes_are_made_in_one_pass() -> None:
    """A decoder that has gone past an item would have to start again."""
    efforts = {1: Effort(resolution=8), 2: Effort(resolution=8), 5: Effort(resolution=8)}
    plan = Plan(np.full(6, Action.PROCESS, np.uint8), efforts=efforts)
    runs = by_spec(FrameSpec(32, 32), plan, np.array([0, 1, 2, 4, 5]))
    assert [(spec.width, group) for spec, group in runs] == [
        (32, [0]), (8, [1, 2]), (32, [4]), (8, [5]),
    ]  # fmt: skip


def made(seed: int) -> Lesson:
    """Embeddings of unit length and what the head says; nothing else of it is looked at."""
    dice = np.random.default_rng(seed)
    rows = dice.normal(size=(60, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    class Timed(Lesson):
        seconds = np.arange(60) * 0.5  # type: ignore[assignment]

    nothing: dict = dict.fromkeys(("video", "features"))
    return Timed(**nothing, embeddings=rows, said=said_by(HEAD, rows), inside=rows[:, 0] > 0,
                 target=seed % 2)  # fmt: skip


def test_the_gru_answers_as_it_was_taught(tmp_path: Path) -> None:
    """Masked = executed, whole looks and partial ones."""
    torch.manual_seed(0)
    network = GruHead(5 + 5).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    dice = np.random.default_rng(3)
    mean, basis = dice.normal(size=DIM), dice.normal(size=(5, DIM))
    path = tmp_path / "gru.safetensors"
    save_weights(path, "actions_gru", HEAD | {"mean": mean, "basis": basis} | network.arrays(),
                 FACTS)  # fmt: skip
    recognizer = ActionsGru(model=str(path))
    num_partial = 0
    for seed in range(6):
        lesson = made(seed)
        x, whole, _ = looked(lesson, 12, mean.astype(np.float32), basis.astype(np.float32),
                             np.random.default_rng(seed))  # fmt: skip
        num_partial += int((~whole).sum())
        with torch.inference_mode():
            counts = (network(x[None], whole[None])[0] * whole).numpy()
        places = np.random.default_rng(seed)
        items = np.unique(((np.arange(12) + places.random()) * 60 / 12).astype(int))
        taught = counts @ lesson.said[items] / counts.sum()
        hidden = recognizer.initial_hidden()
        for item, is_whole in zip(items, whole.tolist(), strict=True):
            pts = Pts(int(item), Fraction(1, 2))
            shown = Item("s", int(item), pts, lesson.embeddings[item])
            action = Action.PROCESS if is_whole else Action.PARTIAL
            _, hidden = recognizer.recognize(
                Selection((shown,), (action,), (FULL_EFFORT,)), hidden
            )  # fmt: skip
        assert len(hidden.state) == HIDDEN
        answer = dict(zip(*recognizer.answer(hidden), strict=True))
        np.testing.assert_allclose([answer[label] for label in LABELS], taught, atol=1e-5)
    assert num_partial > 3


def test_the_gru_says_nothing_before_a_whole_picture(model: str) -> None:
    shipped = ActionsGru()
    data = np.zeros(1280, np.float32)
    data[0] = 1.0
    item = Item("s", 0, Pts(0, Fraction(1)), data)
    hidden = shipped.initial_hidden()
    assert shipped.answer(hidden) == ((), ())
    partly = Selection((item,), (Action.PARTIAL,), (FULL_EFFORT,))
    (outcome,), hidden = shipped.recognize(partly, hidden)
    assert outcome.labels == ()
    (outcome,), hidden = shipped.recognize(Selection.in_full([item]), hidden)
    assert len(outcome.labels) == 5
    assert sum(outcome.scores) <= 1 + 1e-5
    with pytest.raises(ModelError, match="is of agent 'actions'"):
        ActionsGru(model=model)
