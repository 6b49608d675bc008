"""Every registered policy keeps the contract; so does one that somebody else installs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_readers import saved_model

from streamdyn.errors import PlanError, StoreError
from streamdyn.nn.weights import save_weights
from streamdyn.observation import Observation, Status
from streamdyn.pipelines.train_skip import SkipGate, arrays_of
from streamdyn.plan import Action, Plan
from streamdyn.registry import build, parts
from streamdyn.testing.policies import check_policy


def _has_knob(name: str) -> bool:
    return hasattr(parts("policy")[name], "knob")


def _random_gate(path: Path) -> str:
    """Random weights of `skip_rnn` for the embeddings of the made-up streams."""
    dice = np.random.default_rng(0)
    arrays = {"mean": np.zeros(8), "basis": dice.normal(size=(16, 8)), **arrays_of(SkipGate())}
    save_weights(path, "skip_rnn", arrays, {"every": 3})
    return str(path)


# Options other than a policy's own defaults; one that has no defaults needs an entry.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "agreement": [{}, *({"inner": name} for name in sorted(parts("policy")) if _has_knob(name))],
    "change": [{}, {"lookahead": 1}],
    "listed": [{}, {"items": [0, 7, 96, 5000]}],
    "query_search": [{"query": "nothing"}, {"query": "10", "k": 4}],
    "shot": [{}, {"cuts": "luma"}, {"pick": "cheapest", "lookahead": 100}],
}
# What cannot be known before a test runs: a model in its folder.
NEEDED: dict[str, Callable[[Path], dict[str, Any]]] = {
    "reader": lambda folder: {"model": saved_model(folder / "skip", "skip_rnn")},
    "skip_rnn": lambda folder: {"model": _random_gate(folder / "gate.safetensors")},
}
CASES = [(name, options) for name in sorted(parts("policy")) for options in OPTIONS.get(name, [{}])]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_a_policy_keeps_its_contract(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    needed = NEEDED[name](tmp_path) if name in NEEDED else {}
    policy = build("policy", name, **options, **needed)
    assert policy.name == name
    check_policy(policy)


class Everything:
    """Keeps the contract; each test below breaks it in one place."""

    name = "everything"
    version = "1"
    previews: frozenset[Any] = frozenset()
    glances: frozenset[Any] = frozenset()
    lookahead = 16

    def initial_state(self) -> Any:
        return None

    def decide(self, obs: Observation, state: Any) -> tuple[Plan, Any]:
        return Plan.process_only(len(obs.window), slice(None)), state


class CountsInItself(Everything):
    def __init__(self) -> None:
        self.calls = 0

    def decide(self, obs: Observation, state: Any) -> tuple[Plan, Any]:
        self.calls += 1
        return Plan.process_only(len(obs.window), [self.calls % len(obs.window)]), state


class AsksForEver(Everything):
    def decide(self, obs: Observation, state: Any) -> tuple[Plan, Any]:
        return Plan(np.full(len(obs.window), Action.OPEN, np.uint8)), state


class GlancesForEver(Everything):
    def decide(self, obs: Observation, state: Any) -> tuple[Plan, Any]:
        return Plan(np.full(len(obs.window), Action.GLANCE, np.uint8)), state


class AnswersTooShort(Everything):
    def decide(self, obs: Observation, state: Any) -> tuple[Plan, Any]:
        return Plan(np.full(1, Action.SKIP, np.uint8)), state


class WritesIntoTheWindow(Everything):
    def decide(self, obs: Observation, state: Any) -> tuple[Plan, Any]:
        obs.status[:] = Status.SKIPPED
        return super().decide(obs, state)


class KeepsALambda(Everything):
    def initial_state(self) -> Any:
        return lambda: None


class KeepsAPath(Everything):
    def initial_state(self) -> Any:
        return Path("state")


class KeepsTooMuch(Everything):
    def initial_state(self) -> Any:
        return np.zeros(1 << 20)


class Nameless(Everything):
    name = ""


class WantsSmell(Everything):
    previews = frozenset({"smell"})


def test_a_plain_policy_passes() -> None:
    check_policy(Everything())


@pytest.mark.parametrize(
    ("breach", "said"),
    [
        (CountsInItself, "answered otherwise .*asked a second time"),
        (AsksForEver, "no progress"),
        (GlancesForEver, "no progress"),
        (AnswersTooShort, "1 actions for a window of 16"),
        (WritesIntoTheWindow, "writes into its observation"),
        (KeepsTooMuch, r"takes 8\d+ bytes in a checkpoint"),
        (KeepsALambda, "cannot be pickled"),
        (Nameless, "name must be a non-empty str"),
        (WantsSmell, "previews must be a frozenset of"),
    ],
)
def test_a_breach_is_found_and_named(breach: type[Everything], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        check_policy(breach())


def test_a_state_of_a_foreign_class_is_refused() -> None:
    with pytest.raises(StoreError, match="may not hold pathlib"):
        check_policy(KeepsAPath())


STRANGER = '''
"""A policy from somebody else's package."""
import numpy as np
from streamdyn.plan import Plan
from streamdyn.registry import policy

@policy("every_other")
class EveryOther:
    name = "every_other"
    version = "7"
    previews = frozenset()
    glances = frozenset()
    lookahead = 16

    def initial_state(self):
        return None

    def decide(self, obs, state):
        n = len(obs.window)
        return Plan.process_only(n, (obs.window.first + np.arange(n)) % 2 == 0), state
'''
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from streamdyn.registry import build, parts
from streamdyn.testing.policies import check_policy
assert "stride" in parts("policy") and "every_other" in parts("policy")
policy = build("policy", "every_other")
check_policy(policy)
print(type(policy).__module__, policy.version)
"""


def test_a_policy_of_another_distribution_is_found_by_its_entry_point(tmp_path: Path) -> None:
    package = tmp_path / "stranger"
    package.mkdir()
    (package / "__init__.py").write_text(STRANGER)
    info = tmp_path / "stranger-0.7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 0.7\n")
    (info / "entry_points.txt").write_text("[streamdyn.policies]\nevery_other = stranger\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["stranger", "7"]
