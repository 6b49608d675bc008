import json

import numpy as np
import pytest
from coded_blocks import coded_block
from passes import carried_labels, share_equal, watch

from streamdyn.budget import Budget
from streamdyn.errors import ConfigError, SourceError
from streamdyn.items import FrameSpec
from streamdyn.outcome import Outcome
from streamdyn.plan import Plan
from streamdyn.protocols import Position
from streamdyn.recognizers.brightness import Brightness
from streamdyn.recording import RecordedRecognizer
from streamdyn.registry import build
from streamdyn.replay import RecordedStream, build_recognizer_of, replay
from streamdyn.sources.synthetic import Synthetic
from streamdyn.testing.scripted import ScriptedPolicy, read_plan
from streamdyn.testing.streams import ListSource
from streamdyn.trace import TraceWriter

STREAM = Synthetic(num_items=900, every=25, keyframe_every=30, seed=4)
POLICIES = {
    "bisect": {"max_doubt": 12.0, "lookahead": 100},
    "stride": {"every": 11},
    "random": {"share": 0.1},
    "keyframe": {},
}


class Everything:
    """A full pass that sees the grey pictures as well."""

    name = "everything"
    version = "1"
    previews = frozenset({"luma"})
    glances = frozenset()
    lookahead = 50

    def initial_state(self):
        return None

    def decide(self, obs, state):
        return Plan.process_only(len(obs.window), slice(None)), state


class FiveLabels(Brightness):
    """The best three of five labels, with scores as tiny as those of a thousand classes."""

    def _outcome(self, item):
        level = float(item.data.mean()) / 255
        scores = np.exp(-(((np.arange(5) / 5 - level) * 9) ** 2)).astype(np.float32) * 1e-4
        order = np.argsort(-scores, kind="stable")[:3]
        labels = tuple(f"label {i}" for i in order)
        return Outcome(
            item.stream, item.ordinal, item.pts, "five/1", labels, tuple(scores[order].tolist())
        )


def record(path, source, policy, recognizer=None, **options):
    info = source.open().info
    with TraceWriter(
        path,
        stream=source.stream,
        size=[info.width, info.height],
        policy=f"{policy.name}/{policy.version}",
        recognizer="brightness",
        options={},
    ) as trace:
        seen = watch(source, policy, recognizer, trace=trace, **options)
    return RecordedStream(path), seen


@pytest.fixture(scope="module")
def full_pass(tmp_path_factory):
    return record(tmp_path_factory.mktemp("trace") / "full.jsonl", STREAM, Everything())[0]


@pytest.mark.parametrize("name", POLICIES)
def test_a_replay_of_a_full_pass_chooses_what_a_real_run_chooses(full_pass, name):
    policy = build("policy", name, **POLICIES[name])
    real = watch(STREAM, policy)
    again = watch(full_pass, policy, RecordedRecognizer(full_pass, Brightness()))
    assert again.processed == real.processed
    assert again.reasons == real.reasons
    assert [o.labels for o in again.outcomes.values()] == [o.labels for o in real.outcomes.values()]


@pytest.mark.parametrize("propagation", ["two-sided", "forward"])
@pytest.mark.parametrize("name", POLICIES)
def test_a_replay_of_a_full_pass_counts_what_a_real_run_counts(full_pass, name, propagation):
    policy = build("policy", name, **POLICIES[name])
    real = watch(STREAM, policy)
    result = replay(full_pass, policy, Brightness(), propagation=propagation)
    assert result.policy == f"{name}/1"
    assert result.num_items == 900
    assert result.num_processed == len(real.processed)
    assert result.share_recognized == len(real.processed) / 900
    assert (result.num_assumed, result.num_compared) == (0, 900)
    carried = carried_labels(real.outcomes, 900, propagation)
    assert result.agreement == pytest.approx(share_equal(carried, STREAM.truth))


@pytest.mark.parametrize("name", ["stride", "random", "keyframe"])
def test_packets_are_counted_as_a_decoder_would_be_fed(full_pass, name):
    policy = build("policy", name, **POLICIES[name])
    real = watch(STREAM, policy)
    assert replay(full_pass, policy, Brightness()).num_decoded == real.summary.receipt.num_decoded


def test_tiny_scores_survive_the_trace_so_that_doubts_do(tmp_path):
    levels = [(i * i // 50) % 256 for i in range(600)]
    source = ListSource(levels)
    policy = build("policy", "bisect", max_doubt=8.0, lookahead=150)
    recorded, _ = record(tmp_path / "t", source, Everything(), FiveLabels())
    real = watch(source, policy, FiveLabels())
    again = watch(recorded, policy, RecordedRecognizer(recorded, FiveLabels()))
    assert again.processed == real.processed
    assert 20 < len(real.processed) < 300


def test_recorded_pictures_are_shown_to_another_policy_and_its_decoding_counted(full_pass):
    policy = build("policy", "change")
    real = watch(STREAM, policy)
    again = watch(full_pass, policy, RecordedRecognizer(full_pass, Brightness()))
    assert again.processed == real.processed == list(STREAM.best_plan)
    counts = replay(full_pass, policy, Brightness())
    assert counts.num_decoded == real.summary.receipt.num_decoded == 900


def test_pictures_that_nobody_paid_for_are_named(tmp_path):
    recorded, _ = record(tmp_path / "t", STREAM, build("policy", "stride"))
    with pytest.raises(ConfigError, match=r"luma previews: .* has none of item 0"):
        replay(recorded, build("policy", "change"), Brightness())


def test_a_budget_is_kept_in_a_replay(full_pass):
    policy = build("policy", "stride", every=2)
    result = replay(full_pass, policy, Brightness(), budget=Budget(share=0.1))
    assert result.num_processed == 90


def test_what_nobody_looked_at_is_assumed_and_counted(tmp_path):
    source = ListSource([16] * 10 + [240] * 10)
    recorded, _ = record(tmp_path / "t", source, build("policy", "stride", every=10))
    result = replay(recorded, build("policy", "stride", every=5), Brightness())
    assert (result.num_processed, result.num_assumed, result.num_compared) == (4, 2, 2)
    stand_in = RecordedRecognizer(recorded, Brightness())
    again = watch(recorded, build("policy", "stride", every=1), stand_in)
    assert [o.label for o in again.outcomes.values()] == ["black"] * 6 + ["white"] * 14
    assert [o.pts.ticks for o in again.outcomes.values()] == list(range(20))


def test_windows_handed_back_are_replayed_once(tmp_path):
    policy = build("policy", "bisect", lookahead=100)
    recorded, seen = record(tmp_path / "t", STREAM, policy)
    windows = (tmp_path / "t").read_text().count('"type":"window"')
    assert windows > 900 / 100
    assert sum(map(len, recorded.blocks)) == 900
    again = watch(recorded, policy, RecordedRecognizer(recorded, Brightness()))
    assert again.processed == seen.processed


def test_a_window_that_shows_nothing_new_is_replayed(tmp_path):
    policy = ScriptedPolicy([read_plan("PSSS", done=1), "SPS"], lookahead=4)
    recorded, _ = record(tmp_path / "t", ListSource([16] * 4), policy)
    assert [len(block) for block in recorded.blocks] == [4]


def test_pictures_that_nothing_is_decoded_from_are_left_out_on_the_way(tmp_path):
    with TraceWriter(tmp_path / "t", stream="s") as trace:
        trace.window(coded_block("KPbPKPPP"))
    cursor = RecordedStream(tmp_path / "t").open()
    fed = []
    for ordinal in (2, 3, 2, 1, 6):
        cursor.materialize([ordinal], FrameSpec(8, 8))
        fed.append(cursor.take_receipt().num_decoded)
    assert fed == [3, 1, 0, 0, 3]
    cursor = RecordedStream(tmp_path / "t").open()
    cursor.materialize([3, 2], FrameSpec(8, 8))
    assert cursor.take_receipt().num_decoded == 3 + 3


def test_a_trace_that_begins_in_the_middle_is_replayed_from_there(tmp_path):
    lines = []
    record(tmp_path / "whole", STREAM, build("policy", "stride", every=1, lookahead=300))
    for line in (tmp_path / "whole").read_text().splitlines(keepends=True):
        entry = json.loads(line)
        if entry.get("first", entry.get("item", 900)) >= 300:
            lines.append(line)
    (tmp_path / "t").write_text("".join(lines))
    result = replay(
        RecordedStream(tmp_path / "t"), build("policy", "stride", every=10), Brightness()
    )
    assert (result.num_items, result.num_processed, result.num_compared) == (600, 60, 600)
    assert result.agreement > 0.7


def test_the_price_is_estimated_from_the_recorded_times(tmp_path):
    recorded, _ = record(tmp_path / "t", STREAM, Everything())
    recorded.receipt.decode_ms, recorded.receipt.convert_ms = 1800.0, 0.0
    recorded.receipt.recognize_ms, recorded.receipt.preview_ms = 9000.0, 900.0
    recorded.receipt.demux_ms = 5.0
    policy = build("policy", "keyframe")
    result = replay(recorded, policy, Brightness())
    assert (result.num_decoded, result.num_processed) == (30, 30)
    assert 5 + 30 * 2 + 30 * 10 <= result.estimated_ms < 5 + 30 * 2 + 30 * 10 + 100
    change = replay(recorded, build("policy", "change"), Brightness())
    assert change.estimated_ms > 5 + 900 * 2 + 900 * 1 + change.num_processed * 10


def test_the_recognizer_of_a_trace_can_be_built_from_its_header(full_pass):
    assert isinstance(build_recognizer_of(full_pass), Brightness)


def test_a_replay_is_not_resumed(full_pass):
    with pytest.raises(ConfigError, match="cannot resume the replay of"):
        full_pass.open(Position(5, 5))


def test_a_tuning_policy_says_that_a_replay_has_no_audits(full_pass):
    with pytest.raises(ConfigError, match="tunes from audits and this run has none"):
        replay(full_pass, build("policy", "agreement"), Brightness())


def lines_of(path):
    record(path, Synthetic(num_items=120), Everything())
    return path.read_text().splitlines()


DAMAGES = {
    "window": lambda r: r["pts"].pop(),
    "window ": lambda r: r.pop("reach"),
    "window  ": lambda r: r.update(time_base="1/0"),
    "preview": lambda r: r.update(data="AAAA"),
    "outcome": lambda r: r.pop("labels"),
    "outcome ": lambda r: r.update(scores=[]),
    "receipt": lambda r: r.update(num_wishes=3),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_record_is_named_by_its_line(tmp_path, kind):
    lines = lines_of(tmp_path / "t")
    number = next(i for i, line in enumerate(lines) if f'"type":"{kind.strip()}"' in line)
    damaged = json.loads(lines[number])
    DAMAGES[kind](damaged)
    lines[number] = json.dumps(damaged)
    (tmp_path / "t").write_text("\n".join(lines))
    with pytest.raises(SourceError, match=f"cannot replay line {number + 1} of the trace"):
        RecordedStream(tmp_path / "t")


def test_a_lost_window_is_named(tmp_path):
    lines = lines_of(tmp_path / "t")
    windows = [i for i, line in enumerate(lines) if '"type":"window"' in line]
    del lines[windows[1]]
    (tmp_path / "t").write_text("\n".join(lines))
    with pytest.raises(SourceError, match=r"line \d+ .*window of items 50\.\.100 is missing"):
        RecordedStream(tmp_path / "t")


def test_a_trace_cut_off_within_a_line_is_named(tmp_path):
    path = tmp_path / "t"
    lines_of(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SourceError, match=r"cannot read line \d+ of the trace"):
        RecordedStream(path)


def test_a_trace_without_windows_or_outcomes_cannot_be_replayed(tmp_path):
    (tmp_path / "empty").write_text('{"type":"stream","format":1,"stream":"s"}\n')
    with pytest.raises(ConfigError, match="it holds no windows"):
        RecordedStream(tmp_path / "empty")
    never = build("policy", "stride", offset=10**6)
    recorded, _ = record(tmp_path / "t", STREAM, never)
    with pytest.raises(ConfigError, match="it holds no outcomes"):
        replay(recorded, never, Brightness())
