"""Agents that choose where to look, taught in seconds on made streams whose best plan is known."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from passes import watch

from streamdyn.clips.features import VideoFeatures
from streamdyn.clock import Pts
from streamdyn.errors import ConfigError, ModelError, PlanError
from streamdyn.items import Block
from streamdyn.learning.subsets import draw_subsets, subset_log_prob
from streamdyn.nn.weights import save_weights
from streamdyn.outcome import Outcome
from streamdyn.pipelines.labelled_videos import Labelled
from streamdyn.pipelines.rehearsal import Rehearsal
from streamdyn.pipelines.train_actions import evidence, fit_attention, fit_saliency
from streamdyn.pipelines.train_looks import (
    PARTS,
    fit_adaframe,
    fit_ffnet,
    fit_liteeval,
    fit_ocsampler,
    hops,
    jumps,
)
from streamdyn.pipelines.train_marl import fit_marl, stands
from streamdyn.pipelines.train_skip import EVERY, SkipGate, arrays_of, fit_skip_rnn
from streamdyn.pipelines.unseen_heads import PARTS as NUM_HEADS
from streamdyn.pipelines.unseen_heads import Lesson, lessons
from streamdyn.previews.coarse import NUM_FEATURES as COARSE
from streamdyn.previews.coarse import coarse_features
from streamdyn.previews.glimpses import NUM_FEATURES, glimpse_features, places_of, seen
from streamdyn.previews.hops import NUM_HOPS
from streamdyn.recognizers.actions import Actions, attended, said_by
from streamdyn.registry import build
from streamdyn.run.local import run_stream

DIM, LABELS, LENGTH, ACTION = 16, ("jump", "run"), 400, 40
HEAD = {"weight": np.eye(2, DIM) * 8.0, "bias": np.zeros(2)}


def made(seed: int) -> Lesson:
    """A day that looks alike, and for a tenth of it an action; packets are large in it."""
    dice = np.random.default_rng(seed)
    first, label = int(dice.integers(LENGTH - ACTION)), int(dice.integers(2))
    inside = (np.arange(LENGTH) >= first) & (np.arange(LENGTH) < first + ACTION)
    embeddings = np.where(inside[:, None], np.eye(DIM)[label], np.eye(DIM)[5])
    embeddings += 0.02 * dice.normal(size=(LENGTH, DIM))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    keyframe = np.arange(LENGTH) % 100 == 0
    num_bytes = dice.integers(90, 110, LENGTH) + 200 * inside + 2000 * keyframe
    gop = np.arange(LENGTH) // 100
    block = Block(
        f"made-{seed}.mp4",
        0,
        Fraction(1, 30),
        np.arange(LENGTH),
        keyframe=keyframe,
        num_bytes=num_bytes.astype(np.int32),
        gop=gop.astype(np.int32),
        reach=(np.arange(LENGTH) % 100 + 1).astype(np.int32),
        disposable=np.zeros(LENGTH, bool),
    )
    rows = embeddings.astype(np.float32)
    day, event = np.random.default_rng(label).integers(0, 256, (2, 24, 32))
    luma = np.where(inside[:, None, None], event, day) + dice.integers(-9, 9, (LENGTH, 24, 32))
    kept = VideoFeatures(
        block.stream, (64, 48), "made/1", block, np.arange(LENGTH), LABELS,
        np.zeros((LENGTH, 1), np.int32), np.ones((LENGTH, 1), np.float32),
        rows.astype(np.float16), luma.clip(0, 255).astype(np.uint8),
        dict.fromkeys(("demux", "decode", "convert", "preview"), 40.0) | {"recognize": 2800.0},
    )  # fmt: skip
    events = ((LABELS[label], first, first + ACTION),)
    video = Labelled(Path(block.stream), events, False, ("nowhere",))
    return Lesson(video, kept, rows, said_by(HEAD, rows), inside, label)


@pytest.fixture(scope="module")
def taught() -> list[Lesson]:
    return [made(seed) for seed in range(24)]


@pytest.fixture(scope="module")
def agents(taught: list[Lesson], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of every agent, taught on the made streams."""
    folder = tmp_path_factory.mktemp("agents")
    attention = fit_attention(taught)
    rehearsals = [Rehearsal(lesson, attention) for lesson in taught]
    saliency = fit_saliency(taught)

    def silent(number: int, worth: float) -> None:
        assert np.isfinite(worth)

    arrays = {
        "actions": HEAD | {"attention": attention},
        "scsampler": saliency,
        "ocsampler": fit_ocsampler(rehearsals, saliency, 0, silent, rounds=3),
        "marl": fit_marl(rehearsals, 0, silent, k=4, rounds=40),
        "adaframe": fit_adaframe(rehearsals, 0, silent, rounds=2),
        "ffnet": fit_ffnet(rehearsals, 0, silent, rounds=6),
        "liteeval": fit_liteeval(rehearsals),
        "skip_rnn": fit_skip_rnn(rehearsals, 0, silent, rounds=30),
    }
    facts = {"parts": PARTS, "every": EVERY, "labels": list(LABELS), "resolution": 128}
    for name, found in arrays.items():
        save_weights(folder / f"{name}.safetensors", name, found, facts)
    return folder


def agent(folder: Path, name: str, **options: Any) -> Any:
    return build("policy", name, model=str(folder / f"{name}.safetensors"), **options)


NEW = [made(seed) for seed in range(100, 112)]
"""No agent has seen these."""


def looked(policy: Any, lesson: Lesson, folder: Path) -> tuple[list[int], str]:
    """Items looked at in the real engine, and the answer."""
    head = Actions(model=str(folder / "actions.safetensors"))
    found: list[int] = []
    summary = run_stream(
        lesson.features.recording(),
        policy,
        head,
        on_window=lambda result: found.extend(o.ordinal for o in result.outcomes),
    )
    return found, head.answer(summary.hidden)[0][0]


OPTIONS: dict[str, dict[str, Any]] = {
    "scsampler": {"k": 4, "even": 0.0},
    "ocsampler": {"k": 4},
    "marl": {"k": 4},
    "adaframe": {"k": 4, "enough": 1.0},
    "liteeval": {"k": 4, "gate": 0.0},
    "ffnet": {},
    "skip_rnn": {"thrift": -1.0},
}
LOOKERS = ("liteeval", "adaframe", "ocsampler", "marl", "ffnet", "skip_rnn")
LIVE = ("ffnet", "skip_rnn")
"""These cannot go back: they have to pass through all of a file."""


@pytest.mark.parametrize("name", OPTIONS)
def test_an_agent_finds_what_random_looks_miss(name: str, agents: Path) -> None:
    """The best plan is right on every stream; at least 95 % of it, and better than drawn looks."""
    right, drawn, counts = [], [], []
    for number, lesson in enumerate(NEW):
        places, answer = looked(agent(agents, name, **OPTIONS[name]), lesson, agents)
        counts.append(len(places))
        right.append(lesson.inside[places].any() and answer == lesson.video.label)
        dice = build("policy", "random", share=len(places) / LENGTH, seed=number)
        drawn.append(lesson.inside[looked(dice, lesson, agents)[0]].any())
    assert np.mean(right) >= 0.95
    if name in LIVE:
        assert np.mean(counts) < 0.1 * LENGTH
    else:
        assert counts == [4] * len(NEW)
        assert np.mean(right) > np.mean(drawn)


def test_a_higher_price_is_fewer_looks(agents: Path) -> None:
    def mean(price: float) -> float:
        policy = agent(agents, "ffnet", price=price)
        return float(np.mean([len(looked(policy, lesson, agents)[0]) for lesson in NEW]))

    assert mean(0.1) <= mean(0.02) <= mean(0.003)
    assert mean(0.1) < mean(0.003)


def test_adaframe_leaves_once_it_has_seen_enough(agents: Path) -> None:
    for lesson in NEW[:4]:
        some, _ = looked(agent(agents, "adaframe", k=12, enough=0.5), lesson, agents)
        every, _ = looked(agent(agents, "adaframe", k=12, enough=1.0), lesson, agents)
        assert 2 <= len(some) < len(every) == 12
        assert every[: len(some)] == some or set(some) <= set(every)


@pytest.mark.parametrize(
    "name", ["adaframe", "ffnet", "liteeval", "marl", "ocsampler", "scsampler"]
)
def test_what_it_was_taught_on_is_what_it_does(name: str, agents: Path) -> None:
    """Masked = executed: looks of the rehearsal are those of the engine."""
    from streamdyn.nn.perceptrons import load_perceptrons
    from streamdyn.nn.weights import load_weights

    file = str(agents / f"{name}.safetensors")
    foreseen = load_perceptrons(file, name)
    attention = load_weights(str(agents / "actions.safetensors"), "actions").arrays["attention"]
    for lesson in NEW[:3]:
        one = Rehearsal(lesson, attention)
        if name == "liteeval":
            places = one.places(PARTS)
            likely = foreseen(one.coarse(places))
            best = np.argsort(-likely, kind="stable")[:3]
            rehearsed = places[best[likely[best] >= 0.4 * likely[best[0]]]].tolist()
            policy = agent(agents, name, k=3, gate=0.4, spacing=0.0)
            executed, _ = looked(policy, lesson, agents)
        elif name == "adaframe":
            rehearsed = jumps(one, foreseen, 6)
            executed, _ = looked(agent(agents, name, k=6, enough=1.0), lesson, agents)
        elif name in ("ocsampler", "scsampler"):
            places = one.places(PARTS if name == "ocsampler" else LENGTH)
            best = np.argsort(-foreseen(one.packets[places]), kind="stable")[:6]
            rehearsed = places[best].tolist()
            options = {} if name == "ocsampler" else {"even": 0.0, "spacing": 0.0}
            executed, _ = looked(agent(agents, name, k=6, **options), lesson, agents)
        elif name == "marl":
            rehearsed = stands(one, 6, foreseen)
            executed, _ = looked(agent(agents, name, k=6), lesson, agents)
        else:
            passed = [hop.units * 3 for hop in hops(one, foreseen, 3, 0.02)]
            rehearsed = np.cumsum([0, *passed]).tolist()
            executed, _ = looked(agent(agents, name), lesson, agents)
            # The last hop goes beyond the end.
            executed = executed[: len(rehearsed)]
        assert sorted(rehearsed) == sorted(executed)


@pytest.mark.parametrize("bias", [-4.5, -1.0, 0.5])
def test_skip_rnn_looks_where_its_mask_says(bias: float, tmp_path: Path) -> None:
    """Masked = executed, from every frame to the longest skip; windows do not matter."""
    torch.manual_seed(0)
    gate = SkipGate()
    torch.nn.init.constant_(gate.increment.bias, bias)
    basis = np.random.default_rng(0).normal(size=(16, DIM))
    arrays = {"mean": np.zeros(DIM), "basis": basis, **arrays_of(gate)}
    for name, found in (("skip_rnn", arrays), ("actions", HEAD | {"attention": np.zeros(5)})):
        facts = {"every": EVERY, "labels": list(LABELS), "resolution": 128}
        save_weights(tmp_path / f"{name}.safetensors", name, found, facts)
    for lesson in NEW[:3]:
        x = torch.from_numpy((lesson.embeddings[::EVERY] @ basis.T).astype(np.float32))
        with torch.no_grad():
            looks = gate.masked(x[None])[0]
        masked = (EVERY * np.flatnonzero(looks.numpy() > 0.5)).tolist()
        for lookahead in (2, 17, 64, 1000):
            policy = agent(tmp_path, "skip_rnn", lookahead=lookahead)
            assert looked(policy, lesson, tmp_path)[0] == masked


def test_a_rehearsal_weighs_looks_as_the_recognizer_does(taught: list[Lesson]) -> None:
    attention = fit_attention(taught)
    one = Rehearsal(taught[0], attention)
    for looks in ([3, 90, 200, 390], list(range(0, 400, 13)), [0, 10, 20]):
        rows, weights = one.weights(looks)
        held = evidence(taught[0], rows)
        wanted = np.ones(len(rows)) if held.is_short else attended(held.features(), attention)
        np.testing.assert_allclose(weights, wanted / wanted.sum(), rtol=1e-5)
        assert 0 <= one.share_inside(looks) <= 1 + 1e-6


def test_attention_counts_the_action_and_not_the_day(taught: list[Lesson]) -> None:
    attention = fit_attention(taught)
    shares = [Rehearsal(one, attention).share_inside(list(range(0, LENGTH, 16))) for one in NEW]
    assert np.mean(shares) > 0.9


# Heads that have not seen a recording.


def test_every_item_is_judged_by_a_head_that_has_not_seen_its_clip(tmp_path: Path) -> None:
    clips = [
        (Labelled(tmp_path / f"{k}.mp4", ((LABELS[k % 2], 0, -1),), True, (f"tape {k // 2}",)), k)
        for k in range(12)
    ]
    files = [str((tmp_path / f"{k}.mp4").resolve()) for k in (0, 7)]
    stream = made(0)
    events = (("jump", 0, 50), ("run", 300, 350))
    video = Labelled(stream.video.path, events, False, tuple(files))
    taught_on: list[set[int]] = []

    def fit(part: Any) -> tuple[dict[str, Any], Any]:
        taught_on.append({number for _, number in part})
        return {"weight": np.zeros((2, DIM)), "bias": np.array([float(len(taught_on)), 0.0])}, None

    pairs: Any = [*clips, (video, stream.features)]
    (lesson,) = lessons(pairs, fit, LABELS)
    assert len(taught_on) == NUM_HEADS
    odds = np.log(lesson.said[:, 0] / lesson.said[:, 1])
    for place, clip in ((10, 0), (310, 7)):
        head = round(float(odds[place])) - 1
        assert clip not in taught_on[head]
        assert clip ^ 1 not in taught_on[head], "a clip of the same tape"
    assert lesson.inside.sum() == 100
    with pytest.raises(ConfigError, match="not among the clips given"):
        lessons([*clips[1:], (video, stream.features)], fit, LABELS)  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="takes both"):
        lessons(clips, fit, LABELS)  # type: ignore[arg-type]


# Probability of a subset.


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_probability_of_a_set_is_that_of_all_its_orders(k: int) -> None:
    logits = torch.randn(3, 6, generator=torch.Generator().manual_seed(k)) * 3
    p = logits.softmax(1)
    total = torch.zeros(3)
    for chosen in combinations(range(6), k):
        wanted = torch.zeros(3)
        for order in permutations(chosen):
            left, way = torch.ones(3), torch.ones(3)
            for place in order:
                way, left = way * p[:, place] / left, left - p[:, place]
            wanted += way
        found = subset_log_prob(logits, torch.tensor([chosen] * 3)).exp()
        torch.testing.assert_close(found, wanted, atol=3e-6, rtol=2e-3)
        total += found
    torch.testing.assert_close(total, torch.ones(3), atol=1e-4, rtol=0)


def test_sets_are_drawn_as_often_as_their_probability_says() -> None:
    noise = torch.Generator().manual_seed(0)
    logits = torch.tensor([[2.0, 0.0, -1.0, 1.0]])
    drawn = draw_subsets(logits.expand(20_000, -1), 2, noise).sort(1).values
    for chosen in combinations(range(4), 2):
        often = float((drawn == torch.tensor(chosen)).all(1).float().mean())
        wanted = float(subset_log_prob(logits, torch.tensor([chosen])).exp())
        assert often == pytest.approx(wanted, abs=0.015)


def test_the_gradient_of_a_set_is_finite_for_extreme_logits() -> None:
    logits = torch.tensor([[60.0, -60.0, 0.0, 0.0]], requires_grad=True)
    for chosen in ([[0, 1]], [[1, 2]], [[2, 3]]):
        subset_log_prob(logits, torch.tensor(chosen)).sum().backward()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


# What agents see.


def test_looks_of_liteeval_keep_a_distance(agents: Path) -> None:
    for lesson in NEW[:4]:
        found, _ = looked(agent(agents, "liteeval", k=4, gate=0.0, spacing=0.3), lesson, agents)
        assert len(found) == 4
        assert np.diff(found).min() > 0.3 * LENGTH / 4


@pytest.mark.parametrize("count", [1, 2, 5, 48])
def test_coarse_features_are_finite_for_black_and_for_noise(count: int) -> None:
    seconds, packets = np.arange(count) * 0.3, np.zeros((count, 2))
    noise = np.random.default_rng(0).integers(0, 256, (count, 24, 32))
    for luma in (np.zeros((count, 24, 32)), noise):
        rows = coarse_features(luma, seconds, packets)
        assert rows.shape == (count, COARSE + 2)
        assert np.isfinite(rows).all()


def test_features_are_finite_for_any_looks() -> None:
    one = Rehearsal(NEW[0], np.zeros(5, np.float32))
    places = one.places(PARTS)
    for looks in ([], [0], [399], [5, 6], list(range(0, 400, 9))):
        rows = one.features(places, looks)
        assert rows.shape == (PARTS, one.packets.shape[1] + NUM_FEATURES)
        assert np.isfinite(rows).all()
    assert places_of(3, 48).tolist() == [0, 1, 2]
    assert places_of(1, 48).tolist() == [0]
    short = glimpse_features(one.packets[:1], one.seconds[:1], np.zeros(1, int), np.zeros(1, int),
                             one.lesson.embeddings[:1])  # fmt: skip
    assert np.isfinite(short).all()


@pytest.mark.parametrize("embedding", [None, np.array([np.nan, 1.0])])
def test_an_outcome_that_says_nothing_of_how_it_looks_is_refused(embedding: Any) -> None:
    outcome = Outcome("s", 4, Pts(4, Fraction(1)), "r/1", ("a",), (1.0,), embedding)
    with pytest.raises(PlanError, match="needs a recognizer that gives one"):
        seen({4: outcome}, "adaframe")


# One picture, no motion, a cut at every item.


def changed(lesson: Lesson, embeddings: Any, luma: Any, num_bytes: Any) -> Lesson:
    """The same stream with other pictures."""
    rows = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    kept = lesson.features
    block = replace(kept.block, num_bytes=num_bytes.astype(np.int32))
    features = replace(kept, block=block, embeddings=rows.astype(np.float16), luma=luma)
    return replace(lesson, features=features, embeddings=rows, said=said_by(HEAD, rows))


@pytest.mark.parametrize("name", ["scsampler", *LOOKERS])
def test_black_and_a_cut_at_every_item_are_gone_through_once(name: str, agents: Path) -> None:
    dice = np.random.default_rng(0)
    small = (LENGTH, 24, 32)
    for stream in (
        changed(made(0), np.ones((LENGTH, DIM)), np.zeros(small, np.uint8), np.full(LENGTH, 20)),
        changed(
            made(0), dice.normal(size=(LENGTH, DIM)), dice.integers(0, 256, small, np.uint8),
            dice.integers(900, 1100, LENGTH),
        ),
    ):  # fmt: skip
        found, answer = looked(agent(agents, name), stream, agents)
        assert 1 <= len(found) <= LENGTH
        assert len(set(found)) == len(found)
        assert answer in LABELS


@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("name", ["scsampler", *LOOKERS])
def test_a_file_of_a_few_items_is_looked_at_and_left(name: str, length: int, agents: Path) -> None:
    lesson = made(0)
    kept = lesson.features
    short = Lesson(
        lesson.video,
        VideoFeatures(
            kept.path, kept.size, kept.recognizer, kept.block.slice(0, length),
            kept.ordinals[:length], kept.label_names, kept.labels[:length], kept.scores[:length],
            kept.embeddings[:length], kept.luma[:length], kept.milliseconds,
        ),
        lesson.embeddings[:length], lesson.said[:length], lesson.inside[:length], lesson.target,
    )  # fmt: skip
    found, answer = looked(agent(agents, name), short, agents)
    assert 1 <= len(found) <= length
    assert len(set(found)) == len(found)
    assert answer in LABELS


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adaframe", {"k": 0}),
        ("adaframe", {"enough": 0.0}),
        ("ocsampler", {"k": 0}),
        ("marl", {"k": 0}),
        ("ffnet", {"price": 0.0}),
        ("ffnet", {"unit": 0}),
        ("skip_rnn", {"lookahead": 1}),
        ("liteeval", {"k": 0}),
        ("liteeval", {"gate": 1.5}),
        ("liteeval", {"spacing": -1.0}),
        ("query_search", {"query": ""}),
        ("query_search", {"query": "a", "confidence": 2.0}),
        ("listed", {"items": [-1]}),
    ],
)
def test_options_that_make_no_sense_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{name} needs"):
        build("policy", name, **options)


def test_weights_of_another_agent_are_refused(agents: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is of agent 'ffnet'"):
        build("policy", "adaframe", model=str(agents / "ffnet.safetensors"))
    old = tmp_path / "old.safetensors"
    save_weights(old, "actions", HEAD, {"labels": list(LABELS), "resolution": 128})
    with pytest.raises(ModelError, match="of an earlier version"):
        Actions(model=str(old))


def test_embeddings_that_skip_rnn_was_not_taught_are_refused(agents: Path) -> None:
    with pytest.raises(PlanError, match="embeddings of 1280 numbers and got one of 16"):
        looked(build("policy", "skip_rnn"), NEW[0], agents)


def test_lookahead_of_ffnet_reaches_the_longest_hop() -> None:
    assert build("policy", "ffnet", unit=4).lookahead == 4 * NUM_HOPS + 1


# Queries.


def test_a_query_is_found_and_the_search_ends(agents: Path) -> None:
    head = Actions(model=str(agents / "actions.safetensors"), alone=True)
    for lesson in NEW[:6]:
        policy = build("policy", "query_search", query=lesson.video.label, k=20, confidence=0.8)
        seen_so_far: list[Outcome] = []
        run_stream(
            lesson.features.recording(), policy, head,
            on_window=lambda result, out=seen_so_far: out.extend(result.outcomes),
        )  # fmt: skip
        best = max(seen_so_far, key=policy.score)
        assert lesson.inside[best.ordinal]
        assert policy.score(best) >= 0.8
        first = int(np.flatnonzero(lesson.inside)[0])
        assert len(seen_so_far) <= first // 20 + 2


def test_a_query_that_is_not_there_is_looked_for_around_the_best(agents: Path) -> None:
    lesson = made(7)
    policy = build("policy", "query_search", query="swim", k=10, around=4)
    found, _ = looked(policy, lesson, agents)
    assert len(found) == 14
    assert set(places_of(LENGTH, 10).tolist()) <= set(found)


def test_listed_items_are_looked_at() -> None:
    from streamdyn.sources.synthetic import Synthetic

    stream = Synthetic(num_items=100)
    policy = build("policy", "listed", items=[5, 64, 99, 100])
    assert watch(stream, policy).processed == [5, 64, 99]
