"""Conformance of a source: what every cursor owes the engine, as checks an author can call.

```python
from streamdyn.testing.sources import check_source

check_source(lambda position: MySource("clip.mp4").open(position))
```

The checks keep all items of the stream in memory: give them a short one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from streamdyn.items import Array, Block, FrameSpec, Item, ItemError
from streamdyn.protocols import Cursor, Position
from streamdyn.receipt import Receipt

OpenSource = Callable[[Position | None], Cursor]
Choose = Callable[[Block], "list[list[int]]"]
"""From a window to the ordinals to ask for, round by round; each round in increasing order."""
Reference = Sequence[tuple[int, Array]]
"""Ticks and data of every item, in order, from somewhere else."""

SMALL = FrameSpec(48, 32)
PIECE = 32
"""Items of a window in `by_bisection`."""


@dataclass(slots=True)
class Pass:
    """What a cursor handed out while it was driven to the end of the stream."""

    blocks: list[Block] = field(default_factory=list)
    items: dict[int, Item] = field(default_factory=dict)
    errors: dict[int, ItemError] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    receipt: Receipt = field(default_factory=Receipt)


def everything(window: Block) -> list[list[int]]:
    """Every item, in one round."""
    return [list(range(window.first, window.stop))]


def nothing(window: Block) -> list[list[int]]:
    """No item: an empty round."""
    del window
    return [[]]


def every_seventh(window: Block) -> list[list[int]]:
    """Ordinals 0, 7, 14, ..."""
    return [[o for o in range(window.first, window.stop) if o % 7 == 0]]


def keyframes(window: Block) -> list[list[int]]:
    """What needs nothing else."""
    return [[window.first + int(i) for i in np.flatnonzero(window.keyframe)]]


def last_of_window(window: Block) -> list[list[int]]:
    """Only the last item, so that a whole GOP may have to be decoded for it."""
    return [[window.stop - 1]]


def one_in_ten(window: Block) -> list[list[int]]:
    """A tenth of the items, drawn from a generator that depends on the window only."""
    draws = np.random.default_rng(window.first).random(len(window))
    return [[window.first + int(i) for i in np.flatnonzero(draws < 0.1)]]


def there_and_back(window: Block) -> list[list[int]]:
    """Two rounds: every fifth item from the end on, then items before them in the same GOP."""
    ordinals = list(range(window.first, window.stop))
    later = ordinals[::-5][::-1]
    return [later, [o for o in ordinals if o % 3 == 0 and o not in later]]


def by_bisection(window: Block) -> list[list[int]]:
    """Both ends of every piece, then the middles between them: one item after another."""
    ends = sorted({*range(window.first, window.stop, PIECE), window.stop - 1})
    middles = [(left + right) // 2 for left, right in pairwise(ends)]
    return [ends, *([m] for m in reversed(middles) if m not in ends)]


PLANS: dict[str, Choose] = {
    plan.__name__: plan
    for plan in (
        nothing,
        every_seventh,
        keyframes,
        last_of_window,
        one_in_ten,
        there_and_back,
        by_bisection,
    )
}


def drive(
    cursor: Cursor, choose: Choose, spec: FrameSpec = SMALL, *, whole_stream: bool = False
) -> Pass:
    """Read a cursor to its end, ask for what `choose` names, close it.

    Args:
        cursor: Freshly opened.
        choose: What to ask for in each window.
        spec: Picture to ask for.
        whole_stream: One window from end to end instead of one a block; nothing is released.
    """
    done = Pass()
    try:
        while (block := cursor.next_block()) is not None:
            done.blocks.append(block)
            if not whole_stream:
                _carry_out(cursor, choose(block), spec, done)
                cursor.release(block.stop)
        if whole_stream and done.blocks:
            _carry_out(cursor, choose(Block.join(done.blocks)), spec, done)
    finally:
        done.receipt = cursor.take_receipt()
        cursor.close()
    return done


def _carry_out(cursor: Cursor, rounds: list[list[int]], spec: FrameSpec, done: Pass) -> None:
    for ordinals in rounds:
        items, errors = cursor.materialize(ordinals, spec)
        got, failed = [item.ordinal for item in items], [error.ordinal for error in errors]
        _require(
            sorted(got + failed) == ordinals and got == sorted(got),
            f"materialize({ordinals}) must hand out each ordinal once and in order, got items "
            f"{got} and errors {failed}",
        )
        done.asked += ordinals
        done.items |= {item.ordinal: item for item in items}
        done.errors |= {error.ordinal: error for error in errors}


def check_blocks(open_source: OpenSource, reference: Reference | None = None) -> None:
    """Blocks follow each other, in increasing pts, and their columns make sense."""
    cursor = open_source(None)
    info = cursor.info
    done = drive(cursor, nothing)
    _require(bool(done.blocks), "a stream without items must be refused when it is opened")
    expected, last_ticks = 0, None
    for block in done.blocks:
        _require(block.first == expected, f"{block!r} should begin at ordinal {expected}")
        _require(
            last_ticks is None or block.pts[0] > last_ticks,
            f"{block!r} begins at {block.pts[0]} ticks, the block before ends at {last_ticks}",
        )
        _require(block.stream == info.stream, f"{block!r} is not of stream {info.stream!r}")
        _require(block.time_base == info.time_base, f"{block.time_base = }, {info.time_base = }")
        _require(bool((block.reach >= 1).all()), f"{block!r} has items of reach below 1")
        _require(
            bool((block.reach[block.keyframe] == 1).all()), f"a keyframe of {block!r} has reach > 1"
        )
        _require(bool((np.diff(block.gop) >= 0).all()), f"GOP numbers of {block!r} go back")
        expected, last_ticks = block.stop, block.pts[-1]
    if reference is not None:
        ticks = [int(t) for block in done.blocks for t in block.pts]
        _require(
            ticks == [t for t, _ in reference],
            f"pts should be {[t for t, _ in reference]}, got {ticks}",
        )


def check_full_pass(
    open_source: OpenSource, reference: Reference | None = None, spec: FrameSpec = SMALL
) -> None:
    """Every item comes once, with its block's pts, and equal to the reference bit by bit."""
    done = drive(open_source(None), everything, spec)
    block = Block.join(done.blocks)
    _require(sorted(done.items | done.errors) == list(range(len(block))), "items were lost")
    for ordinal, item in done.items.items():
        _require(
            item.pts == block.pts_at(ordinal), f"{item!r} should be at {block.pts_at(ordinal)}"
        )
        _require(item.stream == block.stream, f"{item!r} is not of stream {block.stream!r}")
    if reference is not None:
        _require(not done.errors, f"could not be decoded: {done.errors}")
        _require(len(done.items) == len(reference), f"{len(done.items)} of {len(reference)} items")
        _compare(done, {o: data for o, (_, data) in enumerate(reference)}, "a full pass")


def check_plan(
    open_source: OpenSource,
    choose: Choose,
    spec: FrameSpec = SMALL,
    *,
    whole_stream: bool = False,
    full: Pass | None = None,
) -> None:
    """A plan that skips gives the items that a full pass gives, and converts no other.

    Where an item of a damaged stream can only be decoded by one of the two, it is not compared.

    Args:
        open_source: Opens a cursor.
        choose: The plan.
        spec: Picture to ask for.
        whole_stream: Plan once for the whole stream instead of block by block.
        full: A full pass made before with the same source and `spec`.
    """
    full = full or drive(open_source(None), everything, spec)
    done = drive(open_source(None), choose, spec, whole_stream=whole_stream)
    data = {ordinal: item.data for ordinal, item in full.items.items()}
    name = getattr(choose, "__name__", str(choose))
    if not full.errors:
        _require(not done.errors, f"{name} could not decode what a full pass could: {done.errors}")
    _compare(done, data, name)
    _require(
        done.receipt.num_converted == len(done.items),
        f"{name} asked for {len(done.items)} items and {done.receipt.num_converted} were converted",
    )
    _require(
        done.receipt.num_errors == len(done.errors),
        f"{name} had {len(done.errors)} errors, the receipt says {done.receipt.num_errors}",
    )


def check_plans(open_source: OpenSource, spec: FrameSpec = SMALL) -> None:
    """`check_plan` for every plan in `PLANS`, block by block and over the whole stream."""
    full = drive(open_source(None), everything, spec)
    for choose in PLANS.values():
        check_plan(open_source, choose, spec, full=full)
        check_plan(open_source, choose, spec, whole_stream=True, full=full)


def check_resume(
    open_source: OpenSource, spec: FrameSpec = SMALL, *, full: Pass | None = None
) -> None:
    """A cursor opened after any item goes on with the next one and gives the same rest."""
    full = full or drive(open_source(None), everything, spec)
    pts = Block.join(full.blocks).pts
    n = len(pts)
    for ordinal in sorted({0, 1, n // 3, n // 2, n - 1, n}):
        after = int(pts[ordinal - 1]) if ordinal else None
        rest = drive(open_source(Position(ordinal, after)), everything, spec)
        _require_rest(full, rest, ordinal, f"resumed at ordinal {ordinal}")


def check_hop(
    open_source: OpenSource, spec: FrameSpec = SMALL, *, full: Pass | None = None
) -> None:
    """After `hop_to` the next block begins at the ordinal that was named."""
    full = full or drive(open_source(None), everything, spec)
    n = len(Block.join(full.blocks))
    first = len(full.blocks[0])
    for ordinal in sorted({first, (first + n) // 2, n - 1, n} - set(range(first))):
        cursor = open_source(None)
        cursor.next_block()
        cursor.release(first)
        cursor.hop_to(ordinal)
        rest = drive(cursor, everything, spec)
        _require_rest(full, rest, ordinal, f"hopped from {first} to {ordinal}")


def check_lifetime(open_source: OpenSource, spec: FrameSpec = SMALL) -> None:
    """A receipt is handed out once; an empty request is allowed; closing twice is fine."""
    cursor = open_source(None)
    block = cursor.next_block()
    _require(block is not None, "a stream without items must be refused when it is opened")
    _require(cursor.materialize([], spec) == ([], []), "materialize([]) must be ([], [])")
    cursor.take_receipt()
    again = cursor.take_receipt()
    _require(again == Receipt(), f"a receipt was handed out twice: {again!r}")
    cursor.close()
    cursor.close()


def check_source(
    open_source: OpenSource, *, reference: Reference | None = None, spec: FrameSpec = SMALL
) -> None:
    """Run every check of this module.

    Args:
        open_source: Opens a cursor at the start or at a position, each time anew.
        reference: What the stream holds when asked for `spec`; only given for a sound stream.
        spec: Picture to ask for.

    Raises:
        AssertionError: The source breaks its contract; says where.
    """
    check_lifetime(open_source, spec)
    check_blocks(open_source, reference)
    check_full_pass(open_source, reference, spec)
    check_plans(open_source, spec)
    check_resume(open_source, spec)
    check_hop(open_source, spec)


def _require_rest(full: Pass, rest: Pass, first: int, what: str) -> None:
    expected = {o: item.data for o, item in full.items.items() if o >= first}
    ordinals = sorted(rest.items | rest.errors)
    n = len(Block.join(full.blocks))
    _require(ordinals == list(range(first, n)), f"{what}: got {ordinals}, wanted {first}..{n}")
    for item in rest.items.values():
        pts = full.items[item.ordinal].pts if item.ordinal in full.items else item.pts
        _require(item.pts == pts, f"{what}: {item!r} should be at {pts!r}")
    _compare(rest, expected, what)


def _compare(done: Pass, expected: dict[int, Array], what: str) -> None:
    wrong = {
        ordinal: _difference(item.data, expected[ordinal])
        for ordinal, item in done.items.items()
        if ordinal in expected and not np.array_equal(item.data, expected[ordinal])
    }
    _require(not wrong, f"{what} gives other data: ordinal → largest difference {wrong}")


def _difference(left: Array, right: Array) -> str:
    if left.shape != right.shape or left.dtype != right.dtype:
        return f"{left.dtype}{list(left.shape)} instead of {right.dtype}{list(right.shape)}"
    return f"{np.abs(left.astype(np.float64) - right.astype(np.float64)).max():g}"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
