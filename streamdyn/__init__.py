"""The runtime for temporally dynamic inference."""

from importlib import import_module
from pathlib import Path
from typing import Any

from streamdyn.clock import Pts
from streamdyn.errors import StreamdynError
from streamdyn.items import Block, FrameSpec, Item, Selection
from streamdyn.observation import Observation, Status
from streamdyn.outcome import Outcome
from streamdyn.plan import Action, Effort, Plan
from streamdyn.protocols import Cursor, Policy, Position, Recognizer, Sink, Source
from streamdyn.receipt import Receipt
from streamdyn.registry import build

__version__ = "0.1.0"

_here = Path(__file__).resolve().parent
if not (_here / "agents").is_dir():
    # A checkout: agents/ and pipelines/ sit beside this package, not inside it.
    __path__.append(str(_here.parent))

__all__ = [
    "Action",
    "Block",
    "Cursor",
    "Effort",
    "FrameSpec",
    "Item",
    "Observation",
    "Outcome",
    "Plan",
    "Policy",
    "Position",
    "Pts",
    "Receipt",
    "Recognizer",
    "Selection",
    "Sink",
    "SkimReader",
    "Source",
    "Status",
    "StreamdynError",
    "build",
    "skim",
]

_ON_DEMAND = {"SkimReader": "streamdyn.text.reader", "skim": "streamdyn.text.skim"}
"""Public names whose modules are loaded when they are first used: one of them needs torch."""


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ON_DEMAND[name]), name)
