"""The engine over a text answers what the reader itself answers; within budgets, and resumed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from passes import Pass, facts, watch
from random_readers import READERS, random_model, random_words, saved_model

from streamdyn import checkpoint
from streamdyn.audit import AuditRule
from streamdyn.budget import Budget
from streamdyn.errors import ConfigError, RecognizerError
from streamdyn.items import Selection
from streamdyn.plan import FULL_EFFORT, Action, Effort
from streamdyn.protocols import WHOLE_STREAM
from streamdyn.recording import RecordedRecognizer
from streamdyn.registry import build
from streamdyn.replay import RecordedStream
from streamdyn.run.local import run_stream
from streamdyn.sources.tokens import Tokens
from streamdyn.testing.recognizers import pictures, select, tokens
from streamdyn.testing.scripted import ScriptedPolicy
from streamdyn.text import pretrained
from streamdyn.text.calibration import Calibration
from streamdyn.trace import TraceWriter, read_trace

WORDS_OF_TEXT = random_words(400)
TEXT = " ".join(WORDS_OF_TEXT)
GOES_BACK = {"lstm_shuttle", "reread_stop"}
CALIBRATION = Calibration((-1.0, 0.0, 1.0, 2.0), (0.9, 0.5, 0.3, 0.1))
SKIMS = {"hm_rnn", "skim_rnn"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    for name in READERS:
        pretrained.save(replace(random_model(name), calibration=CALIBRATION), folder / name)
    return {name: str(folder / name) for name in READERS}


def recognizer(model: str, rate: float | None = None) -> Any:
    made = build("recognizer", "recurrent", model=model, rate=rate)
    made.setup("cpu")
    return made


def read(model: str, source: Tokens, rate: float | None = None, **options: Any) -> Pass:
    lookahead = options.pop("lookahead", 64)
    policy = build("policy", "reader", model=model, rate=rate, lookahead=lookahead)
    return watch(source, policy, recognizer(model, rate), **options)


def actions_of(done: Pass, num_tokens: int) -> list[int]:
    """What was done with each token; what lies after a stop was skipped."""
    of_letter = {"s": Action.SKIP, "h": Action.SKIP, "p": Action.PARTIAL, "P": Action.PROCESS}
    taken = [int(of_letter[letter]) for letter in done.reasons]
    return taken + [int(Action.SKIP)] * (num_tokens - len(taken))


@pytest.mark.parametrize("rate", [None, 0.3])
@pytest.mark.parametrize("name", READERS)
def test_the_engine_answers_what_the_reader_answers(
    name: str, rate: float | None, models: dict[str, str]
) -> None:
    model = pretrained.load(models[name])
    executor = model.network.executor()
    state = executor.start()
    knob = 0.0 if rate is None else CALIBRATION.knob_for(rate)
    actions = executor.advance(state, model.coder.encode(TEXT).ids, knob=knob)
    lookahead = WHOLE_STREAM if getattr(model.network, "waits", False) else 48
    if name == "lstm_shuttle" or state.num_full > (actions == Action.PROCESS).sum():
        assert name in GOES_BACK
        with pytest.raises(ConfigError, match="goes back to tokens it has passed"):
            read(models[name], Tokens(text=TEXT), rate, lookahead=lookahead)
        return
    done = read(models[name], Tokens(text=TEXT), rate, lookahead=lookahead)
    assert actions_of(done, len(actions)) == actions.tolist()
    last = list(done.outcomes.values())[-1]
    powers = np.exp(executor.logits(state) - executor.logits(state).max())
    scores = [last.scores[last.labels.index(label)] for label in model.labels]
    np.testing.assert_allclose(scores, powers / powers.sum(), atol=1e-5)


def test_a_reader_that_may_go_back_is_refused_whatever_it_sees(models: dict[str, str]) -> None:
    for lookahead in (1, WHOLE_STREAM):
        with pytest.raises(ConfigError, match="read the text with SkimReader"):
            read(models["lstm_shuttle"], Tokens(text=TEXT), lookahead=lookahead)


def test_the_readers_of_the_comparison_differ(models: dict[str, str]) -> None:
    """Otherwise it would compare nothing."""
    seen = {}
    for name in ("skip_rnn", "skim_rnn", "leap_lstm", "lstm_jump"):
        done = read(models[name], Tokens(text=TEXT))
        seen[name] = set(done.reasons)
        assert 0 < len(done.processed) < 400 or name == "skim_rnn"
    assert "h" in seen["skip_rnn"] | seen["lstm_jump"]
    assert seen["skim_rnn"] == {"P", "p"}


def test_what_a_jump_passes_over_is_not_looked_up(models: dict[str, str]) -> None:
    hopped = read(models["skip_rnn"], Tokens(text=TEXT), lookahead=1)
    whole = read(models["skip_rnn"], Tokens(text=TEXT), lookahead=400)
    assert hopped.processed == whole.processed
    assert hopped.summary.receipt.num_glanced == len(hopped.processed) < 400
    assert whole.summary.receipt.num_glanced == 400


def test_the_reader_of_a_file_stops_reading_it_where_it_stops(
    models: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "long.txt"
    path.write_text(f"{TEXT} . " * 200)
    done = read(models["jumper"], Tokens(path))
    assert done.results[-1].window.stop < 400
    assert done.summary.receipt.num_demuxed < 80_000 / 2


@pytest.mark.parametrize("name", ["skip_rnn", "skim_rnn", "leap_lstm", "hm_rnn", "vcrnn"])
def test_a_budget_of_tokens_is_kept_by_the_reading(name: str, models: dict[str, str]) -> None:
    for budget in (Budget(items=0), Budget(items=7), Budget(share=0.1), Budget(share=0.9)):
        done = read(models[name], Tokens(text=TEXT), rate=0.9, budget=budget)
        limit = budget.items if budget.items is not None else int(400 * (budget.share or 1))
        assert len(done.processed) <= limit
        assert len(done.reasons) == 400
        # What the engine refused, the reading would not know of.
        assert done.summary.receipt.num_over_budget == 0
        assert len(done.processed) > limit * 0.5 or not limit or len(set(done.reasons)) == 1


def test_a_number_of_tokens_is_the_readers_own_cap(models: dict[str, str]) -> None:
    model = pretrained.load(models["skip_rnn"])
    executor = model.network.executor()
    state = executor.start()
    actions = executor.advance(state, model.coder.encode(TEXT).ids, max_reads=9)
    done = read(models["skip_rnn"], Tokens(text=TEXT), budget=Budget(items=9))
    assert done.processed == np.flatnonzero(actions == Action.PROCESS).tolist()
    (best, *_) = done.outcomes[done.processed[-1]].labels
    assert best == model.labels[int(executor.logits(state).argmax())]


def test_audits_read_skipped_tokens_and_touch_no_state(models: dict[str, str]) -> None:
    plain = read(models["skim_rnn"], Tokens(text=TEXT), budget=Budget(share=0.5))
    audited = read(
        models["skim_rnn"], Tokens(text=TEXT), budget=Budget(share=0.5), audit=AuditRule(0.3)
    )
    assert len(audited.audits) > 20
    assert audited.reasons == plain.reasons
    assert [o.scores for o in audited.outcomes.values()] == [
        o.scores for o in plain.outcomes.values()
    ]


class Killed(RuntimeError):
    """Stands for a killed process."""


class Store:
    """Keeps what was written; is killed at its n-th write."""

    def __init__(self, killed_at: int) -> None:
        self.results: list[Any] = []
        self.data: bytes | None = None
        self.killed_at = killed_at

    def write(self, result: Any, data: bytes | None) -> None:
        if len(self.results) == self.killed_at:
            self.killed_at = -1
            raise Killed
        self.results.append(result)
        self.data = data

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("name", ["skip_rnn", "leap_lstm", "hm_rnn"])
def test_a_killed_reading_goes_on_from_any_block(
    name: str, models: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_text(" ".join(WORDS_OF_TEXT[:200]))
    options: dict[str, Any] = {"audit": AuditRule(0.2), "budget": Budget(share=0.8)}
    policy = build("policy", "reader", model=models[name])
    expected = facts(watch(Tokens(path), policy, recognizer(models[name]), **options).results)
    assert len(expected) > 2
    for window in range(len(expected)):
        store = Store(window)
        with pytest.raises(Killed):
            run_stream(Tokens(path), policy, recognizer(models[name]), sink=store, **options)
        resume = None if store.data is None else checkpoint.load(store.data, policy)
        run_stream(
            Tokens(path), policy, recognizer(models[name]), sink=store, resume=resume, **options
        )
        assert facts(store.results) == expected, f"killed at window {window}"


def test_a_trace_holds_every_decision_on_the_words(models: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    with TraceWriter(path, stream="t") as trace:
        done = read(models["skip_rnn"], Tokens(text=TEXT, stream="t"), trace=trace)
    records = list(read_trace(path))
    said = [(r["item"], r["text"]) for r in records if r["type"] == "outcome"]
    assert said == [(ordinal, WORDS_OF_TEXT[ordinal]) for ordinal in done.processed]
    chosen = [c["item"] for r in records if r["type"] == "plan" for c in r["chosen"]]
    assert chosen == done.processed


def test_a_trace_of_previews_is_replayed_without_loss(
    models: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "trace.jsonl"
    policy = build("policy", "reader", model=models["leap_lstm"])
    with TraceWriter(path, stream="t") as trace:
        done = watch(
            Tokens(text=TEXT, stream="t"), policy, recognizer(models["leap_lstm"]), trace=trace
        )
    recorded = RecordedStream(path)
    answers = RecordedRecognizer(recorded, build("recognizer", "recurrent", model="x"))
    again = watch(recorded, policy, answers)
    assert again.processed == done.processed


SENTENCES = "the cat sat . the dog sat . a wombat sat on the mat . the end ."


@pytest.mark.parametrize(
    ("name", "options", "chosen"),
    [
        ("full", {}, SENTENCES),
        ("first_k", {"k": 3}, "the cat sat"),
        ("first_k", {"k": 3, "lookahead": 1}, "the cat sat"),
        ("first_k", {"k": 4, "lookahead": 2}, "the cat sat ."),
        ("first_k", {"k": 100}, SENTENCES),
        ("last_k", {"k": 3}, "the end ."),
        ("last_k", {"k": 100}, SENTENCES),
        ("idf", {"share": 0.16}, "wombat cat dog"),
        ("idf", {"share": 0.33}, "cat dog wombat on mat end"),
        ("idf", {"share": 1}, SENTENCES),
        ("idf", {"share": 0.25, "lookahead": 4}, "the the wombat mat end"),
    ],
)
def test_the_trivial_policies_choose_words(
    name: str, options: dict[str, Any], chosen: str, models: dict[str, str]
) -> None:
    policy = build("policy", name, **options)
    done = watch(Tokens(text=SENTENCES), policy, recognizer(models["skip_rnn"]))
    words = [outcome.text for outcome in done.outcomes.values()]
    assert sorted(words) == sorted(chosen.split())
    assert words == [SENTENCES.split()[ordinal] for ordinal in done.processed]


def test_first_k_leaves_the_rest_unobserved(models: dict[str, str]) -> None:
    policy = build("policy", "first_k", k=70)
    done = watch(Tokens(text=TEXT), policy, recognizer(models["skip_rnn"]))
    assert done.processed == list(range(70))
    assert done.summary.receipt.num_items == 70


def test_idf_keeps_its_rarest_words_under_a_budget(models: dict[str, str]) -> None:
    policy = build("policy", "idf", share=1.0)
    budget = Budget(items=7)
    done = watch(Tokens(text=SENTENCES), policy, recognizer(models["skip_rnn"]), budget=budget)
    words = [outcome.text for outcome in done.outcomes.values()]
    assert words == ["cat", "dog", "a", "wombat", "on", "mat", "end"]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("first_k", {"k": 0}, "k >= 1"),
        ("last_k", {"k": 0}, "k >= 1"),
        ("idf", {"share": 0}, r"share in \(0, 1\]"),
        ("reader", {"model": "x", "rate": 2}, r"rate in \(0, 1\]"),
    ],
)
def test_senseless_options_of_a_policy_are_refused(
    name: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        build("policy", name, **options)


def test_a_reader_that_decides_at_the_end_needs_the_whole_text(models: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="lookahead must be larger, got 64"):
        read(models["last_k"], Tokens(text=TEXT))


def partial(effort: Effort = FULL_EFFORT) -> Selection:
    return Selection(tuple(tokens(1)), (Action.PARTIAL,), (effort,))


# What vcrnn makes of a token depends on the token; it is among the readers above.
@pytest.mark.parametrize("name", [name for name in READERS if name != "vcrnn"])
def test_skimming_is_for_networks_that_can(name: str, models: dict[str, str]) -> None:
    model = recognizer(models[name])
    if name in SKIMS:
        outcomes, _ = model.recognize(partial(), model.initial_hidden())
        assert len(outcomes) == 1
    else:
        with pytest.raises(RecognizerError, match=r"cannot update its state from .* in part"):
            model.recognize(partial(), model.initial_hidden())


def test_what_a_reader_cannot_do_is_refused(models: dict[str, str]) -> None:
    model = recognizer(models["skim_rnn"])
    hidden = model.initial_hidden()
    with pytest.raises(RecognizerError, match="choose the source 'tokens'"):
        model.recognize(select(pictures(model.input, 1)), hidden)
    with pytest.raises(RecognizerError, match=r"with Effort\(.*fraction=0.5\)"):
        model.recognize(partial(Effort(fraction=0.5)), hidden)
    with pytest.raises(RecognizerError, match=r"call setup\(device\)"):
        build("recognizer", "recurrent", model=models["skim_rnn"]).initial_hidden()
    with pytest.raises(ConfigError, match=r"rate must be in \(0, 1\]"):
        build("recognizer", "recurrent", model="x", rate=0)


def test_a_recognizer_leaves_the_state_it_was_given_alone(models: dict[str, str]) -> None:
    model = recognizer(models["hm_rnn"])
    hidden = model.initial_hidden()
    first, after = model.recognize(select(tokens(3)), hidden)
    again, _ = model.recognize(select(tokens(3)), hidden)
    later, _ = model.recognize(select(tokens(3)), after)
    assert [o.scores for o in first] == [o.scores for o in again]
    assert [o.scores for o in first] != [o.scores for o in later]


def test_another_model_signs_with_another_version(tmp_path: Path) -> None:
    signed = set()
    for seed in (0, 1):
        model = build("recognizer", "recurrent", model=saved_model(tmp_path / "m", seed=seed))
        signed.add((model.name, model.version))
        model.setup("cpu")
        signed.add((model.name, model.version))
    assert len(signed) == 2
    assert {name for name, _ in signed} == {"recurrent-m"}


def test_a_policy_that_reads_nothing_leaves_no_outcome(models: dict[str, str]) -> None:
    done = watch(Tokens(text=TEXT), ScriptedPolicy([]), recognizer(models["skip_rnn"]))
    assert not done.outcomes


def test_building_policies_loads_no_framework() -> None:
    code = """
import sys
from streamdyn.registry import build, parts
parts("source"), parts("recognizer")
for name in ("full", "first_k", "last_k", "idf"):
    build("policy", name)
build("policy", "reader", model="x")
build("source", "tokens", text="x")
build("recognizer", "recurrent", model="x")
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numba", "safetensors"} & set(done.stdout.split())
