"""A session's state as bytes, stored in the same transaction as the outcomes it covers."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar

from streamdyn.audit import AuditTally, PendingAudit
from streamdyn.budget import Budget, BudgetMeter
from streamdyn.errors import StoreError
from streamdyn.outcome import Outcome
from streamdyn.protocols import Policy, Position

Kept = TypeVar("Kept")
FORMAT = 1
_SAFE = {
    "builtins": {"set", "frozenset", "bytearray", "complex", "range", "slice"},
    "collections": {"OrderedDict", "deque", "Counter"},
    "fractions": {"Fraction"},
    "numpy": {"ndarray", "dtype"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
}


@dataclass(slots=True)
class SessionState:
    """Everything a session needs to go on after the last closed window."""

    position: Position
    policy: str
    """Name and version of the policy that `policy_state` belongs to."""
    policy_state: Any
    meter: BudgetMeter
    tally: AuditTally = field(default_factory=AuditTally)
    left: Outcome | None = None
    pending_audits: list[PendingAudit] = field(default_factory=list)
    hop_left: int = 0
    stopped: bool = False
    hidden: Any = None
    """The recognizer's; kept here by the runner."""


def starting_state(policy: Policy[Any], policy_state: Any, budget: Budget) -> SessionState:
    """The state of a session that has seen nothing."""
    return SessionState(
        Position(0, None), f"{policy.name}/{policy.version}", policy_state, BudgetMeter(budget)
    )


class _Unpickler(pickle.Unpickler):
    """Loads data, not programs: an index from somebody else must not run code.

    Plain data and arrays, and dataclasses and enums of streamdyn and of the policy's own package.
    """

    def __init__(self, data: bytes, trusted_package: str) -> None:
        super().__init__(io.BytesIO(data))
        self._trusted = {"streamdyn", trusted_package}

    def find_class(self, module: str, name: str) -> Any:
        if name in _SAFE.get(module, ()):
            return super().find_class(module, name)
        if module.split(".")[0] in self._trusted:
            found = super().find_class(module, name)
            # The home of the class is asked too: a module also holds names it imported.
            if (
                isinstance(found, type)
                and found.__module__.split(".")[0] in self._trusted
                and (is_dataclass(found) or issubclass(found, Enum))
            ):
                return found
        raise pickle.UnpicklingError(f"a checkpoint may not hold {module}.{name}")


def dump(state: SessionState) -> bytes:
    """The state as bytes."""
    return pickle.dumps((FORMAT, state), protocol=5)


def load_state(data: bytes, kind: type[Kept]) -> Kept:
    """A dataclass of ours from a pickle; fields that it did not have then stand as they begin.

    Raises:
        StoreError: Damaged, or of another kind.
    """
    try:
        state = _Unpickler(data, "streamdyn").load()
    except Exception as exc:
        raise StoreError(f"cannot read what was stored: {exc}") from exc
    if not isinstance(state, kind):
        raise StoreError(f"what was stored is {type(state).__name__}, not {kind.__name__}")
    for name in (one.name for one in fields(kind) if not hasattr(state, one.name)):  # type: ignore[arg-type]
        setattr(state, name, getattr(kind(), name))
    return state


def load(data: bytes, policy: Policy[Any]) -> SessionState:
    """The state from bytes, for the policy that goes on.

    Raises:
        StoreError: Damaged, of another format, or of another policy.
    """
    try:
        version, state = _Unpickler(data, type(policy).__module__.split(".")[0]).load()
    except Exception as exc:
        # Damaged bytes make a pickle raise nearly anything.
        raise StoreError(
            f"cannot read the checkpoint: {exc}; index the file afresh with --no-resume"
        ) from exc
    expected = f"{policy.name}/{policy.version}"
    held = state.policy if isinstance(state, SessionState) else None
    if version != FORMAT or held != expected:
        raise StoreError(
            f"cannot go on from the checkpoint: it is of format {version} and policy {held}, not "
            f"{FORMAT} and {expected}; index the file afresh with --no-resume"
        )
    return state  # type: ignore[no-any-return]
