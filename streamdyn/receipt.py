"""What was really executed: counts and milliseconds by stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from time import perf_counter


@dataclass(slots=True)
class Receipt:
    """Counts and wall milliseconds of the stages of a run; receipts add up."""

    num_items: int = 0
    """Items that passed by, whatever was done with them."""
    num_demuxed: int = 0
    """Packets read from the container (read again after a seek: counted again)."""
    num_decoded: int = 0
    """Packets fed to a decoder."""
    num_converted: int = 0
    """Pictures colour converted or resized for the recognizer."""
    num_glanced: int = 0
    """Items whose costlier preview was paid for."""
    num_processed: int = 0
    """Items the recognizer saw in full."""
    num_partial: int = 0
    """Items the recognizer saw in part."""
    num_skipped: int = 0
    """Items the policy chose not to look at, hopped over ones included."""
    num_over_budget: int = 0
    """Of the skipped: chosen by the policy, refused by the budget."""
    num_errors: int = 0
    """Chosen items that could not be decoded."""
    num_dropped: int = 0
    """Items lost to overload (live sources only)."""
    num_restarts: int = 0
    """Times a decoder was set back to a keyframe it had passed."""
    num_fallbacks: int = 0
    """Times decoding had to start one keyframe earlier than the stream claimed (open GOP)."""
    num_retimed: int = 0
    """Items whose pts did not increase and was moved one tick after the one before."""
    num_seeks: int = 0
    """Times the container was positioned by seeking."""
    demux_ms: float = 0.0
    decode_ms: float = 0.0
    convert_ms: float = 0.0
    preview_ms: float = 0.0
    policy_ms: float = 0.0
    recognize_ms: float = 0.0
    transfer_ms: float = 0.0
    """Copies to a device, or to a recognizer elsewhere, and back."""
    queue_ms: float = 0.0
    """Waiting for a shared recognizer that others keep busy."""
    sink_ms: float = 0.0

    def __add__(self, other: Receipt) -> Receipt:
        return Receipt(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in _FIELDS})

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the wall time of the body to `<stage>_ms`."""
        start = perf_counter()
        try:
            yield
        finally:
            name = f"{stage}_ms"
            setattr(self, name, getattr(self, name) + (perf_counter() - start) * 1000)

    @property
    def total_ms(self) -> float:
        """Sum of the stages."""
        return float(sum(getattr(self, f.name) for f in _FIELDS if f.name.endswith("_ms")))

    @property
    def share_recognized(self) -> float:
        """Recognizer calls per item that passed by."""
        return (self.num_processed + self.num_partial) / self.num_items if self.num_items else 0.0

    def as_dict(self) -> dict[str, float]:
        """Every field by name."""
        return asdict(self)

    def __repr__(self) -> str:
        shown = {f.name: round(v, 1) for f in _FIELDS if (v := getattr(self, f.name))}
        return f"Receipt({', '.join(f'{k}={v:g}' for k, v in shown.items())})"


_FIELDS = fields(Receipt)
ACTIONS = {
    "process": "num_processed",
    "partial": "num_partial",
    "skip": "num_skipped",
    "drop": "num_dropped",
    "error": "num_errors",
}
"""What became of an item, as metrics name it → field of a receipt."""
STAGES = tuple(f.name.removesuffix("_ms") for f in _FIELDS if f.name.endswith("_ms"))
