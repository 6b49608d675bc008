"""How windows follow each other: early close, hop, stop, the end, live streams, audits beside."""

from contextlib import suppress
from dataclasses import replace

import pytest
from passes import facts, watch

from streamdyn.audit import AuditRule
from streamdyn.errors import PlanError, SourceError
from streamdyn.protocols import WHOLE_STREAM
from streamdyn.registry import build
from streamdyn.sources.synthetic import Synthetic
from streamdyn.testing.recurrent import RunningBrightness
from streamdyn.testing.scripted import ScriptedPolicy, read_plan
from streamdyn.testing.streams import Broken, ListSource


def play(plans, num_items=8, lookahead=4, levels=None, **options):
    policy = ScriptedPolicy(plans, lookahead=lookahead)
    source = ListSource(levels or [16 + i % 200 for i in range(num_items)])
    return policy, watch(source, policy, **options)


def windows_of(policy):
    """Items of each window as it was first shown."""
    shown = [(obs.window.first, obs.window.stop) for obs in policy.seen]
    return [window for i, window in enumerate(shown) if i == 0 or window != shown[i - 1]]


def test_windows_are_as_long_as_the_policy_wants_whatever_the_blocks_are():
    for lookahead in (1, 3, 8, 11, 30):
        policy, seen = play([], 24, lookahead)
        stops = [*range(lookahead, 24, lookahead), 24]
        assert [stop for _, stop in windows_of(policy)] == stops
        assert len(seen.results) == len(stops)


def test_a_whole_stream_can_be_seen_at_once():
    policy, seen = play(["P" + "S" * 23], 24, WHOLE_STREAM)
    assert windows_of(policy) == [(0, 24)]
    assert seen.processed == [0]


@pytest.mark.parametrize("num_items", [8, 9, 11, 12])
def test_the_policy_is_told_when_a_window_is_the_last_one(num_items):
    policy, _ = play([], num_items)
    assert [obs.ended for obs in policy.seen] == [False] * (len(policy.seen) - 1) + [True]
    assert policy.seen[-1].window.stop == num_items


def test_an_empty_stream_has_no_windows():
    policy, seen = play([], levels=[], num_items=0)
    assert (policy.seen, seen.results) == ([], [])
    assert seen.summary.receipt.num_items == 0


def test_an_early_close_hands_the_rest_to_the_next_window():
    policy, seen = play(["POOO", read_plan("SSPO", done=3), "SSSP"], 8)
    assert windows_of(policy) == [(0, 4), (3, 7), (7, 8)]
    assert [(r.window.first, r.window.stop) for r in seen.results] == [(0, 3), (3, 7), (7, 8)]
    assert seen.reasons == "PsP" + "sssP" + "s"
    assert [o.ordinal for r in seen.results for o in r.outcomes] == [0, 2, 6]


def test_what_was_skipped_beyond_the_close_is_open_again():
    policy, seen = play([read_plan("PSSS", done=1), "PPPP"], 5)
    assert policy.seen[1].status.tolist() == [0, 0, 0, 0]
    assert seen.reasons == "PPPPP"


@pytest.mark.parametrize(
    "plans", [[read_plan("PSSP", done=2)], ["OOOP", read_plan("SSSS", done=2)]]
)
def test_an_item_that_was_paid_for_cannot_be_handed_back(plans):
    with pytest.raises(PlanError, match="closed 2 items and chose one after them; close it too"):
        play(plans)


def test_an_item_that_failed_beyond_the_close_is_an_error_of_the_window_that_closes_it():
    levels = [16, 16, 16, Broken(), 16, 16]
    _, seen = play(["POOP", read_plan("SPSS", done=2), "SPSS"], levels=levels)
    assert seen.reasons == "PP" + "sfss"
    assert [[e.ordinal for e in r.errors] for r in seen.results] == [[], [3]]


def test_a_hop_leaves_items_unseen_but_counted():
    policy, seen = play([read_plan("PSSS", hop=6), "PSSS"], 16)
    assert windows_of(policy) == [(0, 4), (10, 14), (14, 16)]
    assert seen.reasons == "Psss" + "h" * 6 + "Psss" + "ss"
    counts = seen.summary.receipt
    assert (counts.num_items, counts.num_skipped, counts.num_processed) == (16, 14, 2)
    assert policy.seen[1].left.ordinal == 0


def test_a_hop_starts_after_the_items_that_were_closed():
    policy, seen = play([read_plan("PSSS", done=2, hop=1)], 8)
    assert windows_of(policy) == [(0, 4), (3, 7), (7, 8)]
    assert seen.reasons == "Ps" + "h" + "sssss"


def test_a_hop_beyond_the_end_ends_the_stream():
    policy, seen = play([read_plan("PSSS", hop=1000)], 12)
    assert windows_of(policy) == [(0, 4)]
    assert seen.reasons == "Psss" + "h" * 8


def test_a_long_hop_is_closed_in_pieces():
    policy, seen = play([read_plan("PSSS", hop=9000)], 9010)
    assert [len(r.window) for r in seen.results] == [4, 4096, 4096, 808, 4, 2]
    assert windows_of(policy)[1] == (9004, 9008)


def test_a_stop_ends_the_stream_and_closes_what_is_open():
    policy, seen = play(["PSSS", read_plan("OPSO", stop=True)], 40)
    assert len(policy.seen) == 2
    assert seen.reasons == "Psss" + "sPss"
    assert seen.summary.receipt.num_items == 8


def test_a_stop_may_leave_the_end_of_the_window_unobserved():
    _, seen = play([read_plan("PSSS", done=2, stop=True)], 40)
    assert seen.reasons == "Ps"


def test_the_last_outcome_before_the_window_is_shown():
    policy, _ = play(["PSPS", "SSSS", "SSSP", "SSSS"], 16)
    assert [obs.left and obs.left.ordinal for obs in policy.seen] == [None, 2, 2, 11]
    assert [sorted(obs.outcomes) for obs in policy.seen] == [[]] * 4


class Watched(ListSource):
    """A stream, live or not, that lets its cursor be looked at."""

    def __init__(self, items, *, live):
        super().__init__(items, keyframe_every=4)
        self.live = live

    def open(self, resume_from=None):
        self.cursor = super().open(resume_from)
        self.cursor.info = replace(self.cursor.info, live=self.live)
        return self.cursor


@pytest.mark.parametrize(("live", "ahead"), [(True, [0] * 5), (False, [4, 4, 4, 4, 0])])
def test_only_a_file_is_read_beyond_the_window(live, ahead):
    source, found = Watched([16] * 20, live=live), []

    class Looking(ScriptedPolicy):
        def decide(self, obs, state):
            found.append(source.cursor.next_ordinal - obs.window.stop)
            return super().decide(obs, state)

    watch(source, Looking([], lookahead=4))
    assert found == ahead


def test_items_of_closed_windows_are_forgotten():
    source, kept = Watched([16] * 20, live=False), []

    class Asking(ScriptedPolicy):
        def decide(self, obs, state):
            before = max(0, obs.window.first - 1)
            with suppress(SourceError):
                source.cursor.preview("luma", [before])
                kept.append(before)
            return super().decide(obs, state)

    watch(source, Asking(["PPPP"], lookahead=4))
    assert kept == [0]


def test_audits_of_a_live_stream_settle_in_their_window():
    policy = ScriptedPolicy(["PSSS", "SSSP"], lookahead=4, previews=frozenset({"luma"}))
    seen = watch(Watched([16] * 8, live=True), policy, audit=AuditRule(1.0))
    assert [[a.propagated_from for a in r.audits] for r in seen.results] == [[0] * 3, [7] * 3]


@pytest.mark.parametrize("name", ["bisect", "stride", "change"])
def test_audits_change_nothing_that_the_policy_or_the_recognizer_state_sees(name):
    source = Synthetic(num_items=300, every=15, keyframe_every=20)
    policy = build("policy", name, **({"every": 9} if name == "stride" else {}))
    plain = watch(source, policy, RunningBrightness())
    audited = watch(source, policy, RunningBrightness(), audit=AuditRule(0.5))
    assert len(audited.audits) > 40
    assert [row[:-1] for row in facts(audited.results)] == [
        row[:-1] for row in facts(plain.results)
    ]
    for name_ in ("num_items", "num_converted", "num_processed", "num_skipped", "num_glanced"):
        assert getattr(audited.summary.receipt, name_) == getattr(plain.summary.receipt, name_)
    assert audited.summary.audit_receipt.num_processed == len(audited.audits)


def test_an_audited_item_is_looked_at_with_a_fresh_state_and_never_shown():
    policy = ScriptedPolicy(["PSSS", "PSSS"], lookahead=4)
    seen = watch(
        ListSource([200, 16, 16, 16] * 2), policy, RunningBrightness(), audit=AuditRule(0.9, 3)
    )
    assert {a.found for a in seen.audits} == {"black"}
    assert {a.expected for a in seen.audits} == {"dim", "medium"}
    assert [o.text for o in seen.outcomes.values()] == ["1 process", "2 process"]
    assert [sorted(obs.outcomes) for obs in policy.seen] == [[], []]
    assert policy.seen[1].left.ordinal == 0


def test_a_policy_sees_audits_as_numbers_once_they_are_settled():
    policy = ScriptedPolicy(["PSSP", "SSSP"], lookahead=4, previews=frozenset({"luma"}))
    watch(ListSource([16, 16, 240, 16] * 3), policy, audit=AuditRule(1.0))
    seen = [obs.audits for obs in policy.seen]
    assert [a.num_audits for a in seen] == [0, 2, 5]
    assert [a.weight for a in seen] == [0, 2, 5]
    assert [a.agreement for a in seen] == pytest.approx([1, 0.5, 0.6])
    assert [a.share_observed for a in seen] == [0, 0.5, 3 / 8]
    policy = ScriptedPolicy([], lookahead=4)
    watch(ListSource([16] * 4), policy)
    assert policy.seen[0].audits is None


def test_what_the_policy_took_is_on_the_receipt():
    _, seen = play([])
    assert all(result.receipt.policy_ms > 0 for result in seen.results)
