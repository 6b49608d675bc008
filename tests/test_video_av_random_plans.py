"""Windows, rounds, glances and releases drawn at random give the pictures of a full pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clips import CLIPS

from streamdyn.sources.video_av import VideoAv, VideoAvCursor
from streamdyn.testing.sources import SMALL, drive, everything

ClipPath = Callable[[str], Path]
NAMES = sorted(CLIPS.keys() - {"wide"})


def random_cursor(path: Path, generator: np.random.Generator) -> VideoAvCursor:
    return VideoAv(
        path,
        threads=int(generator.choice([1, 2])),
        cache_bytes=int(generator.choice([0, 20_000, 1 << 28])),
        max_block_items=int(generator.choice([1, 8, 64])),
    ).open()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_random_plan_gives_the_pictures_of_a_full_pass(
    name: str, seed: int, clip_path: ClipPath
) -> None:
    path, generator = clip_path(name), np.random.default_rng(seed)
    expected = drive(VideoAv(path).open(), everything).items
    cursor = random_cursor(path, generator)
    released = stop = 0
    ended = False
    while not ended:
        for _ in range(generator.integers(1, 5)):
            block = cursor.next_block()
            ended = block is None
            stop = stop if block is None else block.stop
        for _ in range(generator.integers(1, 5)):
            count = int(generator.integers(1, 12))
            wanted = np.unique(generator.integers(released, stop, count)).tolist()
            if generator.random() < 0.2:
                assert not np.isnan(cursor.preview("luma", wanted)).any()
            items, errors = cursor.materialize(wanted, SMALL)
            assert not errors
            assert [item.ordinal for item in items] == wanted
            for item in items:
                assert np.array_equal(item.data, expected[item.ordinal].data), item
        released = int(generator.integers(released, stop))
        cursor.release(released)
    cursor.close()
    assert stop == len(expected)
