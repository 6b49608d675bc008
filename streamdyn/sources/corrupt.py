"""What a source does about an item that was chosen and cannot be decoded: as its caller asked."""

from __future__ import annotations

from typing import Literal, get_args

from streamdyn.clock import Pts
from streamdyn.errors import ConfigError, CorruptMedia
from streamdyn.items import ItemError

OnCorrupt = Literal["raise", "skip"]


def check_on_corrupt(on_corrupt: str) -> None:
    """Refuse anything but an `OnCorrupt`.

    Raises:
        ConfigError: It is none.
    """
    if on_corrupt not in get_args(OnCorrupt):
        raise ConfigError(f"on_corrupt must be 'raise' or 'skip', got {on_corrupt!r}")


def corrupt_item(
    path: str, ordinal: int, pts: Pts, reason: str, on_corrupt: OnCorrupt
) -> ItemError:
    """The item as an error to hand out.

    Raises:
        CorruptMedia: `on_corrupt` is `raise`.
    """
    if on_corrupt == "raise":
        raise CorruptMedia(
            f"cannot decode item {ordinal} of {path} at {pts.seconds:.3f} s: {reason}; "
            "open it with on_corrupt='skip' to go on without such items"
        )
    return ItemError(ordinal, pts, reason)
