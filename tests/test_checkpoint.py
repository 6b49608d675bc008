import os
import pickle
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np
import pytest

from streamdyn.audit import AuditRule
from streamdyn.budget import Budget
from streamdyn.checkpoint import FORMAT, dump, load, starting_state
from streamdyn.engine import Session
from streamdyn.errors import StoreError
from streamdyn.plan import Plan
from streamdyn.protocols import Position
from streamdyn.registry import build
from streamdyn.run.local import drive
from streamdyn.sources.synthetic import Synthetic
from streamdyn.testing.recurrent import RunningBrightness


class Mood(Enum):
    CALM = "calm"


@dataclass
class Memory:
    mood: Mood = Mood.CALM
    levels: np.ndarray = field(default_factory=lambda: np.arange(3, dtype=np.float32))
    seen: dict[int, set[str]] = field(default_factory=lambda: {1: {"a"}})


class Remembering:
    """A policy of some package, with a state of its own classes."""

    name = "remembering"
    version = "3"
    previews = frozenset()
    glances = frozenset()
    lookahead = 16

    def initial_state(self):
        return Memory()

    def decide(self, obs, state):
        return Plan.process_only(len(obs.window), [0, -1]), state


def state_in_the_middle(policy):
    """After three windows, with an audit pending and a recurrent state."""
    cursor = Synthetic(num_items=300).open()
    budget, audit = Budget(share=0.5, items=99), AuditRule(0.5)
    session = Session(cursor, policy, RunningBrightness(), budget=budget, audit=audit)
    windows = drive(session, RunningBrightness())
    for _ in range(3):
        next(windows)
    return session.state


def test_a_state_comes_back_as_it_was():
    policy = build("policy", "stride", every=20, lookahead=30)
    state = state_in_the_middle(policy)
    again = load(dump(state), policy)
    assert again.position == state.position == Position(90, 89)
    assert again.policy == "stride/1"
    assert (again.meter, again.tally) == (state.meter, state.tally)
    assert (again.hop_left, again.stopped) == (0, False)
    assert again.left.id == state.left.id
    np.testing.assert_array_equal(again.left.embedding, state.left.embedding)
    pending = [(a.looked_up.id, a.weight, a.left.id) for a in again.pending_audits]
    assert pending == [(a.looked_up.id, a.weight, a.left.id) for a in state.pending_audits]
    assert len(pending) > 1
    np.testing.assert_array_equal(again.hidden, state.hidden)


def test_a_state_of_the_policys_own_classes_comes_back():
    state = state_in_the_middle(Remembering())
    memory = load(dump(state), Remembering()).policy_state
    assert (memory.mood, memory.seen) == (Mood.CALM, {1: {"a"}})
    np.testing.assert_array_equal(memory.levels, [0, 1, 2])


class Attack:
    """Runs a function of its own choice when it is unpickled."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    "attack",
    [
        Attack(os.system, "touch hacked"),
        Attack(eval, "open('hacked', 'w')"),
        Attack(getattr, Path(), "touch"),
        Attack(Path, "hacked"),
        Attack(np.load, "hacked"),
        Attack(build, "policy", "stride"),
        Attack(state_in_the_middle, None),
    ],
    ids=lambda attack: attack.function.__name__,
)
def test_a_checkpoint_runs_no_code(attack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    policy = Remembering()
    state = starting_state(policy, attack, Budget())
    with pytest.raises(StoreError, match=r"cannot read the checkpoint: .* may not hold"):
        load(dump(state), policy)
    assert not list(tmp_path.iterdir())


def global_pickle(module, name):
    """A pickle that looks up a name, with dots in it or not, and calls it without arguments."""
    texts = b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in (module, name))
    return b"\x80\x04" + texts + b"\x93)R."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("streamdyn.checkpoint", "pickle.loads"),
        ("streamdyn.checkpoint", "io.BytesIO"),
        ("streamdyn.index.database", "os.getcwd"),
        ("streamdyn.trace", "TraceWriter"),
        ("streamdyn.checkpoint", "Enum"),
        ("streamdyn.config", "RunConfig"),
        ("test_checkpoint", "dataclass"),
        ("os", "getcwd"),
        ("builtins", "eval"),
        ("numpy", "ndarray.tofile"),
    ],
)
def test_names_reached_through_a_trusted_module_are_refused(module, name):
    with pytest.raises(StoreError, match=f"may not hold {module}.{name}"):
        load(global_pickle(module, name), Remembering())


def test_classes_of_another_policys_package_are_refused():
    data = dump(starting_state(Remembering(), Memory(), Budget()))
    with pytest.raises(StoreError, match=r"may not hold test_checkpoint\.Memory"):
        load(data, build("policy", "stride"))


def test_a_checkpoint_of_another_policy_is_refused():
    stride = build("policy", "stride")
    data = dump(starting_state(stride, None, Budget()))
    with pytest.raises(
        StoreError, match=r"policy stride/1, not 1 and random/1; index .* with --no-resume"
    ):
        load(data, build("policy", "random"))


def test_a_checkpoint_of_another_version_of_the_policy_is_refused(monkeypatch):
    data = dump(starting_state(Remembering(), None, Budget()))
    monkeypatch.setattr(Remembering, "version", "4")
    with pytest.raises(StoreError, match="policy remembering/3, not 1 and remembering/4"):
        load(data, Remembering())


def test_a_checkpoint_of_another_format_is_refused():
    state = starting_state(Remembering(), None, Budget())
    with pytest.raises(StoreError, match=f"of format {FORMAT + 1}"):
        load(pickle.dumps((FORMAT + 1, state)), Remembering())


@pytest.mark.parametrize("content", [None, 5, (1,), (FORMAT, {"policy": "remembering/3"})])
def test_a_pickle_of_something_else_is_refused(content):
    with pytest.raises(StoreError, match="checkpoint"):
        load(pickle.dumps(content), Remembering())


def test_a_checkpoint_cut_off_anywhere_is_refused():
    policy = build("policy", "stride", every=20, lookahead=30)
    data = dump(state_in_the_middle(policy))
    for length in range(0, len(data), 7):
        with pytest.raises(StoreError, match="cannot read the checkpoint"):
            load(data[:length], policy)


@pytest.mark.parametrize("junk", [b"", b"junk", b".", b"\x80\x05.", b"(", b"\x80\x05K\x01K\x02R."])
def test_junk_is_refused(junk):
    with pytest.raises(StoreError, match="cannot read the checkpoint"):
        load(junk, Remembering())
