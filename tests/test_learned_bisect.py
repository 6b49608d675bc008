"""The learned doubt: what it sees, that it runs as it was trained, and that it earns its keep."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import clips
import numpy as np
import pytest
import torch
from command import streamdyn
from passes import carried_labels, share_equal, watch

from streamdyn.audit import AuditRule
from streamdyn.errors import ConfigError, ModelError, UnknownName
from streamdyn.items import Block
from streamdyn.learning.perceptrons import Ensemble, PerceptronRecipe
from streamdyn.nn.perceptrons import Perceptrons
from streamdyn.nn.weights import load_weights, save_weights
from streamdyn.outcome import Outcome
from streamdyn.pipelines.train_bisect import explored, fit
from streamdyn.pipelines.train_video import train_agent
from streamdyn.pipelines.video_features import watch as full_pass
from streamdyn.previews.interval import MISSING, NUM_FEATURES, interval_features, standing
from streamdyn.recognizers.brightness import Brightness
from streamdyn.registry import build
from streamdyn.sources.synthetic import Synthetic
from streamdyn.testing.streams import ListSource


def outcome(ordinal: int, labels: tuple[str, ...], scores: tuple[float, ...], **more) -> Outcome:
    stream = Synthetic(num_items=300)
    block = stream.open().next_block()
    given = {"embedding": np.array([1, 0], np.float16), **more}
    return Outcome("s", ordinal, block.pts_at(0), "r/1", labels, scores, **given)


def window(num_items: int) -> Block:
    cursor, blocks = Synthetic(num_items=num_items).open(), []
    while (block := cursor.next_block()) is not None:
        blocks.append(block)
    return Block.join(blocks)


CAT, DOG = outcome(0, ("cat", "dog"), (0.6, 0.2)), outcome(0, ("dog", "cat"), (0.5, 0.5))


def test_a_standing_is_a_lead_over_the_last_listed() -> None:
    assert standing(CAT, CAT) == pytest.approx(0.5)
    assert standing(CAT, DOG) == 0.0
    assert standing(CAT, outcome(0, ("cow",), (0.9,))) == MISSING
    assert standing(outcome(0, ("cow",), (0.9,)), outcome(0, ("cow",), (0.9,))) == 0.0


def test_features_are_finite_also_at_the_edges() -> None:
    block = window(60)
    known = {-3: CAT, 10: DOG, 59: CAT}
    rows = interval_features(block, known, [(-3, 10), (10, 59)])
    assert rows.shape == (2, NUM_FEATURES)
    assert np.isfinite(rows).all()
    assert interval_features(block, known, []).shape == (0, NUM_FEATURES)
    nobody = outcome(0, ("cat",), (0.0,), embedding=np.zeros(2, np.float16))
    assert np.isfinite(interval_features(block, {0: nobody, 1: nobody}, [(0, 1)])).all()


@pytest.mark.parametrize("missing", [{"labels": (), "scores": ()}, {"embedding": None}])
def test_an_outcome_it_cannot_judge_is_refused(missing: dict) -> None:
    known = {0: CAT, 9: replace(DOG, **missing)}
    with pytest.raises(ConfigError, match="that takes labels and an embedding"):
        interval_features(window(20), known, [(0, 9)])


def test_the_executed_net_is_the_trained_one() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trained = Ensemble(NUM_FEATURES, 8, 3).eval()
    rows = np.random.default_rng(0).normal(size=(50, NUM_FEATURES)).astype(np.float32)
    mean, scale = rows.mean(0), rows.std(0)
    arrays = {name: value.detach().numpy() for name, value in trained.named_parameters()}
    executed = Perceptrons(mean=mean, scale=scale, **arrays)(rows)
    x = torch.from_numpy(((rows - mean) / scale).clip(-5, 5))
    masked = torch.sigmoid(trained(x)).mean(0).detach().numpy()
    np.testing.assert_allclose(executed, masked, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_scenes_of_a_stream_whose_best_plan_is_known(seed: int) -> None:
    stream = Synthetic(num_items=6000, every=100, keyframe_every=30, seed=seed)
    seen = watch(stream, build("policy", "learned_bisect"))
    right = share_equal(carried_labels(seen.outcomes, 6000), stream.truth)
    assert right > 0.95
    by_chance = watch(stream, build("policy", "random", share=len(seen.processed) / 6000))
    assert right > share_equal(carried_labels(by_chance.outcomes, 6000), stream.truth) + 0.02
    assert len(seen.processed) < 0.08 * 6000


def test_without_trust_it_is_bisect() -> None:
    stream = Synthetic(num_items=1500, every=60)
    learned = watch(stream, build("policy", "learned_bisect", trust=0.0))
    assert learned.processed == watch(stream, build("policy", "bisect")).processed
    with pytest.raises(ConfigError, match="trust in"):
        build("policy", "learned_bisect", trust=1.5)


def test_audits_tune_it() -> None:
    stream = Synthetic(num_items=20_000, every=60, keyframe_every=30)
    policy = build("policy", "agreement", target=0.9, inner="learned_bisect")
    seen = watch(stream, policy, audit=AuditRule(0.1))
    right = np.array(carried_labels(seen.outcomes, 20_000)) == np.array(stream.truth)
    assert abs(right[10_000:].mean() - 0.9) < 0.03


@pytest.mark.parametrize(
    "levels",
    [[100], [0] * 300, [k % 8 * 32 + 16 for k in range(300)]],
    ids=["one item", "black", "a cut every item"],
)
def test_strange_streams_are_watched_to_their_end(levels: list[int]) -> None:
    seen = watch(ListSource(levels), build("policy", "learned_bisect"))
    assert 0 < len(seen.processed) <= len(levels)
    assert sum(len(result.window) for result in seen.results) == len(levels)


# Weights.


def some_arrays() -> dict[str, np.ndarray]:
    return dict(load_weights(None, "learned_bisect").arrays)


def test_what_holds_no_weights_of_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(ModelError, match="train them with `streamdyn train video learned_bisect`"):
        build("policy", "learned_bisect", model=str(path))
    save_weights(path, "another", some_arrays(), {})
    with pytest.raises(ModelError, match="is of agent 'another'"):
        load_weights(str(path), "learned_bisect")
    save_weights(path, "learned_bisect", some_arrays(), {"seed": 1})
    whole = path.read_bytes()
    assert load_weights(str(path), "learned_bisect").facts == {"seed": 1}
    for cut in (b"", whole[:100], whole[:-7]):
        path.write_bytes(cut)
        with pytest.raises(ModelError, match="holds no weights of an agent"):
            load_weights(str(path), "learned_bisect")
    save_weights(path, "learned_bisect", {"mean": np.array([np.nan])}, {})
    with pytest.raises(ModelError, match=r"not finite, in \['mean'\]"):
        load_weights(str(path), "learned_bisect")


def test_other_weights_are_another_version(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    arrays = some_arrays()
    save_weights(path, "learned_bisect", {**arrays, "mean": arrays["mean"] + 1}, {})
    ours, other = (build("policy", "learned_bisect", model=m) for m in (None, str(path)))
    assert ours.version != other.version
    assert ours.version == build("policy", "learned_bisect").version


# Training.


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [clips.CLIPS[name].make(folder) for name in ("h264_bframes", "h264_one_gop")]


def test_intervals_are_taught_by_full_passes(videos: list[Path]) -> None:
    recognizer = Brightness()
    found = explored([full_pass(path, recognizer) for path in videos], recognizer, 0)
    (pooled,) = found
    assert len(pooled.rows) == len(pooled.shares) == len(pooled.sizes) > 5
    assert ((pooled.shares >= 0) & (pooled.shares <= 1)).all()
    again = explored([full_pass(path, recognizer) for path in videos], recognizer, 0)[0]
    np.testing.assert_array_equal(pooled.rows, again.rows)
    losses: list[float] = []
    arrays = fit(found, PerceptronRecipe(epochs=6, seed=3), lambda epoch, loss: losses.append(loss))
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(
        arrays["first"], fit(found, PerceptronRecipe(epochs=6, seed=3))["first"]
    )


def test_training_on_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 videos to learn from"):
        train_agent("learned_bisect", [], Brightness(), tmp_path / "w.safetensors")
    with pytest.raises(UnknownName, match="video agent"):
        train_agent("bisct", [], Brightness(), tmp_path / "w.safetensors")


def test_the_command_trains_and_the_result_runs(videos: list[Path], tmp_path: Path) -> None:
    arguments = [
        "train",
        "video",
        "learned_bisect",
        *map(str, videos),
        "--recognizer",
        "brightness",
    ]
    done = streamdyn(*arguments, "--out", str(tmp_path), "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["short_videos"] == 2
    assert "streamdyn train video learned_bisect" in (tmp_path / "learned_bisect.md").read_text()
    policy = build("policy", "learned_bisect", model=said["model"])
    assert watch(Synthetic(num_items=300), policy).processed
    features = sorted((tmp_path / "features").iterdir())
    before = [path.stat().st_mtime_ns for path in features]
    assert streamdyn(*arguments, "--out", str(tmp_path)).exit_code == 0
    assert [path.stat().st_mtime_ns for path in features] == before
