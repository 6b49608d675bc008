"""What recognizers share that treat every picture alone: refusals and batches of one shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamdyn.errors import RecognizerError
from streamdyn.items import Selection
from streamdyn.plan import Action


def check_pictures(selection: Selection, name: str) -> None:
    """Refuse what a recognizer without early exits or partial updates cannot do.

    `Effort.resolution` is not looked at: whoever made the picture has honoured it.

    Raises:
        RecognizerError: The selection asks for a partial update, a depth or a region, or holds
            something else than RGB pictures.
    """
    for item, action, effort in zip(
        selection.items, selection.actions, selection.efforts, strict=True
    ):
        wrong = None
        if item.kind != "frame" or item.data.ndim != 3 or item.data.shape[2] != 3:
            wrong = "is no (H, W, 3) picture; choose a recognizer for this kind of item"
        elif action != Action.PROCESS:
            wrong = (
                f"is to be updated in part ({Action(action).name}), but the recognizer cannot do "
                "that; choose a policy that processes whole items"
            )
        elif effort.depth is not None or effort.region is not None:
            wrong = (
                f"comes with {effort}, but the recognizer always runs in full depth on the whole "
                "picture; choose a policy without depth and region"
            )
        if wrong:
            raise RecognizerError(f"recognizer {name!r} cannot take {item!r}: it {wrong}")


def batches(shapes: Sequence[tuple[int, ...]], batch_size: int) -> Iterator[list[int]]:
    """Indices of equal shapes, at most `batch_size` at a time; every index comes once."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, shape in enumerate(shapes):
        by_shape.setdefault(shape, []).append(index)
    for indices in by_shape.values():
        for start in range(0, len(indices), batch_size):
            yield indices[start : start + batch_size]
