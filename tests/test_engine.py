"""What the engine does with a plan: every action, open items, budgets apart."""

import numpy as np
import pytest
from dice import Dice
from hypothesis import given, settings
from hypothesis import strategies as st
from passes import watch

from streamdyn.audit import AuditRule
from streamdyn.clock import Pts
from streamdyn.engine import Answer, Request, Session
from streamdyn.errors import ConfigError, PlanError, RecognizerError
from streamdyn.observation import Status
from streamdyn.plan import Effort, Plan
from streamdyn.receipt import Receipt
from streamdyn.recognizers.brightness import Brightness
from streamdyn.registry import build
from streamdyn.sources.script import TIME_BASE
from streamdyn.sources.synthetic import Synthetic
from streamdyn.testing.recognizers import CountingRecognizer
from streamdyn.testing.recurrent import RunningBrightness
from streamdyn.testing.scripted import ScriptedPolicy, read_plan
from streamdyn.testing.streams import Broken, ListSource
from streamdyn.timeline import WindowResult

LUMA = frozenset({"luma"})


def play(plans, levels=(16,) * 8, recognizer=None, lookahead=4, **options):
    """The policy that played the plans, and what became of them."""
    given_to_policy = {k: options.pop(k) for k in ("previews", "glances") if k in options}
    policy = ScriptedPolicy(plans, lookahead=lookahead, **given_to_policy)
    return policy, watch(ListSource(levels), policy, recognizer, **options)


def test_processed_items_get_an_outcome_and_skipped_ones_none():
    _, seen = play(["PSSP", "SSPS"])
    assert seen.reasons == "PssP" + "ssPs"
    assert seen.processed == [0, 3, 6]
    counts = seen.summary.receipt
    assert (counts.num_items, counts.num_processed, counts.num_skipped) == (8, 3, 5)


@pytest.mark.parametrize("lookahead", [0, -3, 2.5])
def test_a_policy_that_sees_no_whole_number_of_items_is_refused(lookahead):
    with pytest.raises(ConfigError, match="must be a whole number of items, at least 1"):
        play(["P"], lookahead=lookahead)


def test_only_chosen_items_are_converted():
    _, seen = play(["PGSS", "SSSS", "SSpS"], recognizer=RunningBrightness(), glances=LUMA)
    counts = seen.summary.receipt
    assert counts.num_converted == 2
    assert counts.num_glanced == 1


def test_nothing_is_decoded_for_a_stream_that_nobody_looks_at():
    _, seen = play([])
    counts = seen.summary.receipt
    assert (counts.num_demuxed, counts.num_decoded, counts.num_converted) == (8, 0, 0)
    assert seen.reasons == "s" * 8


def test_open_items_are_asked_again_with_what_was_said():
    policy, seen = play(["POOP", "SPOS", "SSSS"], [16, 48, 80, 112, 16])
    rounds = policy.seen[:3]
    assert [sorted(obs.outcomes) for obs in rounds] == [[], [0, 3], [0, 1, 3]]
    assert [sorted(obs.last_outcomes) for obs in rounds] == [[], [0, 3], [1]]
    assert rounds[2].outcomes[3].label == "dim"
    assert [obs.status.tolist() for obs in rounds] == [
        [Status.OPEN] * 4,
        [Status.OBSERVED, Status.OPEN, Status.OPEN, Status.OBSERVED],
        [Status.OBSERVED, Status.OBSERVED, Status.OPEN, Status.OBSERVED],
    ]
    assert seen.reasons == "PPsP" + "s"


def test_what_was_decided_cannot_be_decided_again():
    calls = CountingRecognizer()
    _, seen = play(["PSOO", "SPPP"], recognizer=calls)
    assert seen.reasons[:4] == "PsPP"
    assert calls.ordinals == [0, 2, 3]


def test_scores_are_kept_from_the_plan_that_decided_an_item():
    first = read_plan("POSO", scores=np.array([4, 3, 2, 1], np.float32))
    second = read_plan("SPSP", scores=np.array([9, 8, 7, 6], np.float32))
    _, seen = play([first, second])
    np.testing.assert_array_equal(seen.results[0].scores, [4, 8, 2, 6])
    assert np.isnan(seen.results[1].scores).all()


def test_glances_show_the_costlier_preview_of_those_items_only():
    policy, seen = play(["GSOG", "POOS", "SSPS"], [16, 48, 80, 112] * 2, glances=LUMA)
    first, second = policy.seen[:2]
    assert first.previews == {}
    luma = second.previews["luma"]
    assert luma.shape == (4, 24, 32)
    assert [row.mean() for row in luma[[0, 3]]] == [16, 112]
    assert np.isnan(luma[[1, 2]]).all()
    assert second.status.tolist() == [Status.GLANCED, Status.SKIPPED, Status.OPEN, Status.GLANCED]
    assert seen.reasons[:4] == "PsPs"
    assert seen.summary.receipt.num_glanced == 2


def test_what_was_glanced_at_is_decoded_already():
    policy, _ = play(["SSGO", "SSPS"], [16] * 4, glances=LUMA)
    unit = policy.seen[0].reach_cost_ms[0]
    np.testing.assert_allclose(policy.seen[1].reach_cost_ms / unit, [0, 0, 0, 1])


def test_previews_of_all_items_come_without_asking():
    policy, seen = play(["PSSS"], [16, 48, 80, 112, 144], previews=LUMA)
    assert policy.seen[0].previews["luma"].mean(axis=(1, 2)).tolist() == [16, 48, 80, 112]
    assert seen.summary.receipt.num_glanced == 5
    assert seen.summary.receipt.num_converted == 1


def test_a_partial_item_reaches_the_recognizer_with_its_fraction():
    plan = read_plan("PppP", efforts={2: Effort(fraction=0.25)})
    _, seen = play([plan], [100, 200, 200, 200], RunningBrightness())
    outcomes = list(seen.outcomes.values())
    assert [o.text for o in outcomes] == ["1 process", "2 partial", "3 partial", "4 process"]
    # The level: 50, then a quarter of the way to 200, an eighth, a half.
    level = 50 + 150 / 4
    level += (200 - level) / 8
    level += (200 - level) / 2
    assert outcomes[-1].label == ("medium" if level < 160 else "light")
    counts = seen.summary.receipt
    assert (counts.num_processed, counts.num_partial) == (2, 2)
    assert seen.reasons == "PppP"


class Sizes(CountingRecognizer):
    def __init__(self):
        super().__init__()
        self.sizes = []

    def recognize(self, selection, hidden):
        self.sizes += [item.data.shape[:2] for item in selection.items]
        return super().recognize(selection, hidden)


def test_an_effort_may_ask_for_another_resolution_and_order_is_kept():
    recognizer = Sizes()
    plan = read_plan("PPPP", efforts={1: Effort(resolution=8), 3: Effort(resolution=64)})
    play([plan], [16] * 4, recognizer)
    assert recognizer.ordinals == [0, 1, 2, 3]
    assert recognizer.sizes == [(32, 32), (8, 8), (32, 32), (64, 64)]


def test_a_recognizer_never_gets_more_than_its_batch():
    calls = CountingRecognizer()
    play(["P" * 40], [16] * 40, calls, lookahead=40)
    assert calls.batch_sizes == [16, 16, 8]
    assert calls.ordinals == list(range(40))


def test_prices_fall_with_what_was_decoded_and_start_afresh_with_a_window():
    policy, _ = play(["OOPO", "SSSS"], [16] * 8)
    first, second, third = policy.seen[:3]
    unit = first.reach_cost_ms[0]
    np.testing.assert_allclose(first.reach_cost_ms / unit, [1, 2, 3, 4])
    np.testing.assert_allclose(second.reach_cost_ms / unit, [0, 0, 0, 1])
    np.testing.assert_allclose(third.reach_cost_ms / unit, [1, 2, 3, 4])


def test_an_item_that_cannot_be_decoded_fails_and_the_others_go_on():
    _, seen = play(["PPPS", "PPSS"], [16, Broken(), 48, 16, Broken(), Broken(), 16, 16])
    assert seen.reasons == "PfPs" + "ffss"
    assert seen.processed == [0, 2]
    assert [(e.ordinal, e.pts) for result in seen.results for e in result.errors] == [
        (i, Pts(i, TIME_BASE)) for i in (1, 4, 5)
    ]
    assert seen.summary.receipt.num_errors == 3


def test_a_failed_item_is_shown_as_failed_and_not_asked_for_again():
    policy, seen = play(["POOO", "SPPP"], [Broken(), 16, 16, 16])
    assert policy.seen[1].status[0] == Status.FAILED
    assert policy.seen[1].outcomes == {}
    assert seen.reasons == "fPPP"


@pytest.mark.parametrize(
    ("plans", "said"),
    [
        (["OOOO"], "left all 4 open items open: no progress"),
        (["SSSO", "PPPO"], "left all 1 open items open: no progress"),
        (["GGGG", "GGGG"], "left all 4 open items open: no progress"),
        (["SSS"], "answered 3 actions for a window of 4 items"),
        (["SSSSS"], "answered 5 actions for a window of 4 items"),
        ([Plan(np.array([1, 1, 1, 5], np.uint8))], "answered an unknown action 5"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_named(plans, said):
    with pytest.raises(PlanError, match=f"policy scripted/1 {said}"):
        play(plans, glances=LUMA)


class Forgetful(Brightness):
    def recognize(self, selection, hidden):
        outcomes, hidden = super().recognize(selection, hidden)
        return outcomes[:-1], hidden


class Confused(Brightness):
    def recognize(self, selection, hidden):
        outcomes, hidden = super().recognize(selection, hidden)
        return outcomes[::-1], hidden


@pytest.mark.parametrize(
    ("recognizer", "said"), [(Forgetful(), r"\[0\], asked"), (Confused(), r"\[1, 0\], asked")]
)
def test_answers_that_do_not_fit_the_question_are_refused(recognizer, said):
    with pytest.raises(RecognizerError, match=f"brightness answered for items {said}"):
        play(["PPSS"], recognizer=recognizer)


levels = st.lists(st.one_of(st.integers(0, 255), st.just(None)), min_size=1, max_size=50).map(
    lambda items: [Broken() if i is None else i for i in items]
)
dice = st.builds(Dice, st.integers(0, 2**32), st.integers(1, 20), st.booleans())


@settings(max_examples=200)
@given(levels, dice, st.floats(0, 1))
def test_no_item_is_lost_or_done_twice_whatever_the_plan(stream, policy, audit):
    seen = watch(ListSource(stream), policy, RunningBrightness(), audit=AuditRule(audit))
    windows = [(r.window.first, r.window.stop) for r in seen.results]
    assert [start for start, _ in windows] == [0, *(stop for _, stop in windows[:-1])]
    assert windows[-1][1] == len(stream) == len(seen.reasons)
    observed = [i for i, reason in enumerate(seen.reasons) if reason in "Pp"]
    assert observed == seen.processed
    for result in seen.results:
        failed = {result.window.first + int(i) for i in np.flatnonzero(result.reasons == 3)}
        assert failed <= {error.ordinal for error in result.errors}
        assert all(result.window.first <= e.ordinal < result.window.stop for e in result.errors)
    counts = seen.summary.receipt
    failed = seen.reasons.count("f")
    assert (
        counts.num_items == counts.num_processed + counts.num_partial + counts.num_skipped + failed
    )
    updates = sorted(int(o.text.split()[0]) for o in seen.outcomes.values())
    assert updates == list(range(1, len(observed) + 1))


def test_a_session_asks_and_is_answered_without_knowing_who_answers():
    stream = Synthetic(num_items=40)
    recognizer = Brightness()
    session = Session(stream.open(), build("policy", "stride", every=8, lookahead=20), recognizer)
    events = session.run()
    log, answer = [], None
    while (event := next(events, None) if answer is None else events.send(answer)) is not None:
        answer = None
        if isinstance(event, Request):
            outcomes, _ = recognizer.recognize(event.selection, None)
            answer = Answer(outcomes, Receipt(recognize_ms=3.0, transfer_ms=2.0))
            log.append((event.purpose, [item.ordinal for item in event.selection.items]))
        else:
            assert isinstance(event, WindowResult)
            log.append(("closed", event.receipt.recognize_ms, event.receipt.transfer_ms))
    assert log == [
        ("plan", [0, 8, 16]),
        ("closed", 3.0, 2.0),
        ("plan", [24, 32]),
        ("closed", 3.0, 2.0),
    ]
    assert session.state.stopped
