"""Every registered recognizer, with no edit here where its constructor needs no options."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_readers import saved_model
from tiny_models import vit

from streamdyn import build
from streamdyn.clock import Pts
from streamdyn.errors import MissingExtra, RecognizerError
from streamdyn.items import Item, Selection
from streamdyn.outcome import Outcome
from streamdyn.plan import Action, Effort
from streamdyn.protocols import Recognizer
from streamdyn.recognizers.brightness import Brightness
from streamdyn.recognizers.stateless import batches
from streamdyn.registry import parts
from streamdyn.testing.recognizers import (
    CountingRecognizer,
    check_recognizer,
    pictures,
    select,
    tokens,
)

NEEDED: dict[str, Callable[[Path], dict[str, Any]]] = {
    "huggingface": lambda folder: {"model": str(vit(folder / "vit"))},
    "recurrent": lambda folder: {"model": saved_model(folder / "skim", "skim_rnn")},
}
"""Options of the recognizers that cannot do without."""
SHOWN = {"recurrent": tokens(5)}
"""Items for those that do not look at pictures."""


@pytest.mark.parametrize("name", sorted(parts("recognizer")))
def test_a_recognizer_keeps_its_contract(name: str, tmp_path: Path) -> None:
    options = NEEDED[name](tmp_path) if name in NEEDED else {}
    recognizer = build("recognizer", name, **options)
    assert isinstance(recognizer, Recognizer)
    try:
        check_recognizer(recognizer, items=SHOWN.get(name))
    except MissingExtra as exc:
        pytest.skip(str(exc))


def test_constructing_a_recognizer_loads_no_framework(tmp_path: Path) -> None:
    options = {name: options(tmp_path) for name, options in NEEDED.items()}
    code = f"""
import sys
from streamdyn.registry import build, parts
for name in parts("recognizer"):
    build("recognizer", name, **{options!r}.get(name, {{}}))
print(*sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "onnxruntime", "onnx", "cv2", "av", "ray"}
    assert not heavy & set(run.stdout.split())


@pytest.mark.parametrize("name", ["lite0", "ocr"])
def test_onnxruntime_reports_nothing_to_its_maker(name: str, tmp_path: Path) -> None:
    code = f"""
from streamdyn.registry import build
build("recognizer", {name!r}).setup("cpu")
"""
    # It keeps an id and a queue in the cache folder while it reports; CI would silence it, too.
    quiet = {"CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS"}
    env = {k: v for k, v in os.environ.items() if k not in quiet}
    env["XDG_CACHE_HOME"] = str(tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    if "MissingExtra" in run.stderr:
        pytest.skip(run.stderr.splitlines()[-1])
    assert run.returncode == 0, run.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"streamdyn"}


class Faulty(Brightness):
    """Brightness with one fault, to see that the check finds it."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.weights = np.zeros(100_000) if fault == "loads in the constructor" else None
        self.seen = 0

    def recognize(self, selection: Selection, hidden: None) -> tuple[list[Outcome], None]:
        outcomes, _ = super().recognize(selection, hidden)
        self.seen += 1
        match self.fault:
            case "forgets an item":
                outcomes = outcomes[1:]
            case "turns the order":
                outcomes = outcomes[::-1]
            case "changes its mind":
                outcomes = [self._changed(o, score=1 / (1 + self.seen)) for o in outcomes]
            case "looks at its neighbours":
                outcomes = [self._changed(o, score=1 / len(outcomes)) for o in outcomes]
            case "is too sure":
                outcomes = [self._changed(o, score=1.5) for o in outcomes]
        return outcomes, None

    def agree(self, propagated: Outcome, looked_up: Outcome) -> float:
        return 0.5 if self.fault == "disagrees with itself" else 1.0

    @staticmethod
    def _changed(outcome: Outcome, score: float) -> Outcome:
        return Outcome(
            outcome.stream, outcome.ordinal, outcome.pts, outcome.recognizer, ("same",), (score,)
        )


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("loads in the constructor", "must not load a model"),
        ("forgets an item", "expected one outcome an item, in order"),
        ("turns the order", "expected one outcome an item, in order"),
        ("changes its mind", "the same selection shown twice"),
        ("looks at its neighbours", "items shown one by one"),
        ("is too sure", r"scores not in \[0, 1\]"),
        ("disagrees with itself", "disagrees with itself"),
    ],
)
def test_the_check_finds_a_fault(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_recognizer(Faulty(fault))


def test_the_check_finds_nothing_wrong_where_nothing_is() -> None:
    check_recognizer(Faulty("none"))


def test_the_counting_recognizer_remembers_what_it_was_asked() -> None:
    recognizer = CountingRecognizer()
    items = pictures(recognizer.input, 5)
    recognizer.recognize(select(items[:3]), None)
    recognizer.recognize(select(items[3:]), None)
    assert recognizer.ordinals == [0, 1, 2, 3, 4]
    assert recognizer.batch_sizes == [3, 2]


def _plain(level: int) -> Item:
    data = np.full((32, 32, 3), level, np.uint8)
    return Item("plain", level, Pts(level, Fraction(1, 25)), data)


@pytest.mark.parametrize(
    ("level", "label", "score"),
    [(0, "black", 0.5), (16, "black", 1.0), (112, "dim", 1.0), (255, "white", 0.5 + 1 / 32)],
)
def test_brightness_names_the_bucket_of_the_mean_level(
    level: int, label: str, score: float
) -> None:
    (outcome,) = Brightness().recognize(select([_plain(level)]), None)[0]
    assert (outcome.label, outcome.score) == (label, score)
    expected = [0.0] * 8
    expected[7 if level >= 128 else 0] = 1.0
    assert outcome.embedding is not None
    assert outcome.embedding.tolist() == expected


def test_brightness_refuses_a_partial_update() -> None:
    partial = Selection((_plain(3),), (Action.PARTIAL,), (Effort(fraction=0.5),))
    with pytest.raises(RecognizerError, match="to be updated in part"):
        Brightness().recognize(partial, None)


def test_batches_are_of_one_shape_and_every_index_comes_once() -> None:
    shapes = [(1, 1), (2, 2), (1, 1), (1, 1), (2, 2)]
    assert list(batches(shapes, 2)) == [[0, 2], [3], [1, 4]]
