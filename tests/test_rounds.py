"""A training that is cut short after any round ends with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_looking import made

from streamdyn.errors import ConfigError, StoreError
from streamdyn.learning.rounds import NOTHING_KEPT, Best, Rounds, TorchDice
from streamdyn.pipelines.rehearsal import Rehearsal
from streamdyn.pipelines.train_actions import fit_saliency
from streamdyn.pipelines.train_gate import fit_gate
from streamdyn.pipelines.train_gru_head import fit_gru_head
from streamdyn.pipelines.train_looks import fit_adaframe, fit_ffnet, fit_liteeval, fit_ocsampler
from streamdyn.pipelines.train_marl import fit_marl
from streamdyn.pipelines.train_skip import fit_skip_rnn

TAUGHT = [made(seed) for seed in range(8)]
REHEARSALS = [Rehearsal(lesson, np.array([-12, -2, -2, -1, 10], np.float32)) for lesson in TAUGHT]
HEAD = {"weight": np.eye(2, 8), "bias": np.zeros(2)}
Told = Callable[[int, float], None]
TRAININGS: dict[str, Callable[[Told, Rounds], dict[str, Any]]] = {
    "scsampler": lambda told, kept: fit_saliency(TAUGHT, 0, told, kept),
    "liteeval": lambda told, kept: fit_liteeval(REHEARSALS, 0, told, kept),
    "gate": lambda told, kept: fit_gate(REHEARSALS, 0, told, rounds=4, kept=kept),
    "ocsampler": lambda told, kept: fit_ocsampler(
        REHEARSALS, saliency(), 0, told, rounds=3, kept=kept
    ),
    "marl": lambda told, kept: fit_marl(REHEARSALS, 0, told, k=3, rounds=3, kept=kept),
    "skip_rnn": lambda told, kept: fit_skip_rnn(REHEARSALS, 0, told, rounds=4, kept=kept),
    "adaframe": lambda told, kept: fit_adaframe(REHEARSALS, 0, told, rounds=3, kept=kept),
    "ffnet": lambda told, kept: fit_ffnet(REHEARSALS, 0, told, rounds=3, kept=kept),
    "actions_gru": lambda told, kept: fit_gru_head(TAUGHT, HEAD, 0, told, kept),
}


def saliency() -> dict[str, Any]:
    return fit_saliency(TAUGHT)


class Cut(Exception):
    """Power failure."""


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("after", [0, 1])
def test_a_training_goes_on_after_its_last_round(name: str, after: int, tmp_path: Path) -> None:
    train = TRAININGS[name]
    whole: list[tuple[int, float]] = []
    expected = train(lambda number, worth: whole.append((number, worth)), NOTHING_KEPT)
    folder = tmp_path / "rounds"

    def cut(number: int, worth: float) -> None:
        if number > after:
            raise Cut

    with pytest.raises(Cut):
        train(cut, Rounds(folder, name))
    rest: list[tuple[int, float]] = []
    torch.rand(3)
    found = train(lambda number, worth: rest.append((number, worth)), Rounds(folder, name))
    assert {key: value.tolist() for key, value in found.items()} == {
        key: value.tolist() for key, value in expected.items()
    }
    assert rest == whole[-len(rest) :]
    if name not in ("adaframe", "ffnet"):
        # Their rounds are gone through again, but what was fitted in them is found.
        assert [number for number, _ in rest] == [n for n, _ in whole if n > after]


def test_rounds_of_another_training_are_refused(tmp_path: Path) -> None:
    Rounds(tmp_path / "rounds", "ffnet, seed 0")
    with pytest.raises(
        ConfigError, match="holds another training \\(ffnet, seed 0; wanted is marl"
    ):
        Rounds(tmp_path / "rounds", "marl, seed 0")
    kept = Rounds(tmp_path / "rounds", "ffnet, seed 0")
    assert list(kept.over("a", 2, dice=TorchDice())) == [0, 1]
    assert list(kept.over("a", 3, dice=TorchDice())) == [2]
    (tmp_path / "rounds" / "a.pt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(StoreError, match=r"cannot go on from .*a\.pt"):
        list(kept.over("a", 4, dice=TorchDice()))
    kept.forget()
    assert not (tmp_path / "rounds").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot keep the state of the training"):
        Rounds(tmp_path / "file" / "rounds", "x")


def test_what_was_made_once_is_found(tmp_path: Path) -> None:
    kept, made_now = Rounds(tmp_path / "rounds"), {"a": np.arange(3.0), "b": np.ones(2, np.float32)}
    calls = []

    def make() -> dict[str, Any]:
        calls.append(1)
        return made_now

    for _ in range(2):
        found = kept.once("fit", make)
        assert {key: (value.dtype, value.tolist()) for key, value in found.items()} == {
            key: (value.dtype, value.tolist()) for key, value in made_now.items()
        }
    assert len(calls) == 1
    assert Rounds().once("fit", make) is made_now


def test_the_best_round_is_kept_with_its_worth() -> None:
    best, again = Best(), Best()
    best.offer({"a": np.array([1.0])}, 0.5)
    best.offer({"a": np.array([2.0])}, 0.4)
    again.load_state_dict(best.state_dict())
    again.offer({"a": np.array([3.0])}, 0.5)
    assert (again.worth, again.arrays["a"].tolist()) == (0.5, [1.0])
