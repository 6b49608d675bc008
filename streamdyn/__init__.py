"""The runtime for temporally dynamic inference."""

from pathlib import Path

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
    "Source",
    "Status",
    "StreamdynError",
    "build",
]
