"""Where to cut a long file so that several workers can watch it.

```
GOPs      | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 |
ranges    |----- 0 -----|----- 1 -----|-2-|      cut at keyframes
read by 1           |~~~|-------------|          one GOP more: pictures that lead a keyframe
                                                 are decoded from the one before
```
"""

from __future__ import annotations

from contextlib import closing
from typing import NamedTuple

from streamdyn.errors import SourceError
from streamdyn.protocols import MediaRange
from streamdyn.sources.demux import Demuxer, GopStart
from streamdyn.sources.remote import is_remote


class _Cut(NamedTuple):
    """The first item of a GOP."""

    ordinal: int
    ticks: int
    after_ticks: int | None
    before: GopStart | None
    """The GOP before it."""


def find_ranges(demuxer: Demuxer, seconds: float) -> list[MediaRange]:
    """The file of a demuxer in ranges; a last one of less than half of `seconds` is not cut off.

    Args:
        demuxer: At the start of the file; read to its end, unless it is short, and closed.
        seconds: A cut is made at the first keyframe after so many.

    Raises:
        SourceError: The file is damaged, or a stream from elsewhere that may have no end.
    """
    with closing(demuxer):
        in_header = demuxer.seconds_from_header()
        if in_header is not None and in_header <= seconds:
            return []
        if in_header is None and "://" in demuxer.path and not is_remote(demuxer.path):
            raise SourceError(
                f"cannot cut {demuxer.path}: it does not say how long it is; leave out --split"
            )
        cuts, stop, last_ticks = _cuts(demuxer, float(seconds / demuxer.time_base))
    if len(cuts) > 1 and (last_ticks - cuts[-1].ticks) * demuxer.time_base < seconds / 2:
        cuts.pop()
    if len(cuts) < 2:
        return []
    stops = [*(cut.ordinal for cut in cuts[1:]), stop]
    return [
        MediaRange(cut.ordinal, stop, cut.after_ticks, tuple(cut.before or ()))
        for cut, stop in zip(cuts, stops, strict=True)
    ]


def _cuts(demuxer: Demuxer, ticks_between: float) -> tuple[list[_Cut], int, int]:
    """Cuts, the number of items, and the pts of the last one."""
    cuts: list[_Cut] = []
    before: GopStart | None = None
    gop, last_ticks = -1, None
    while (block := demuxer.next_block()) is not None:
        if (number := int(block.gop[0])) != gop:
            first_ticks = int(block.pts[0])
            if not cuts or first_ticks - cuts[-1].ticks >= ticks_between:
                cuts.append(_Cut(block.first, first_ticks, last_ticks, before))
            if last_ticks is not None:
                before = demuxer.start_of(demuxer.gops[number], block.first, last_ticks)
            gop = number
        last_ticks = int(block.pts[-1])
        demuxer.release(block.stop)
    return cuts, demuxer.next_ordinal, last_ticks or 0
