"""Texts and tokens that arrive one by one: nothing waits for what is not needed."""

from __future__ import annotations

import asyncio
import contextlib
import io
import math
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
import torch
from random_readers import READERS, random_model, random_words

from streamdyn.errors import ConfigError, StoreError
from streamdyn.plan import Action
from streamdyn.text.batches import PaddedReader
from streamdyn.text.reader import SkimReader
from streamdyn.text.reading import Reading
from streamdyn.text.session import Decision, ReaderSession

WORDS = random_words(60)
TEXT = " ".join(WORDS)


def same(one: Reading, other: Reading) -> None:
    assert one.actions.tolist() == other.actions.tolist()
    assert (one.label, one.reads, one.stop_index) == (other.label, other.reads, other.stop_index)
    assert (one.flops, one.source) == (other.flops, other.source)
    np.testing.assert_allclose(list(one.scores.values()), list(other.scores.values()), atol=1e-6)


def fed(session: ReaderSession, words: list[str]) -> list[Decision]:
    return [session.feed(word) for word in words]


# Many texts.


class SlowStream:
    """Texts that count how many of them were pulled."""

    def __init__(self, num_texts: int) -> None:
        self.num_texts, self.pulled = num_texts, 0

    def __iter__(self) -> Iterator[str]:
        for number in range(self.num_texts):
            self.pulled += 1
            yield f"w{number} is late"


def test_pipe_gives_a_text_before_the_next_one_arrives() -> None:
    stream = SlowStream(4)
    readings = SkimReader(random_model()).pipe(stream, batch_size=32)
    assert stream.pulled == 0
    for number in range(4):
        assert next(readings).source == f"w{number} is late"
        assert stream.pulled == number + 1
    assert list(readings) == []


@pytest.fixture
def batched() -> SkimReader:
    """Reads padded batches, as on a GPU."""
    reader = SkimReader(random_model("skim_rnn"))
    reader._batches = PaddedReader(reader.model.network, torch.device("cpu"))
    return reader


def test_a_batch_of_a_stream_is_waited_for_only_when_asked_for(batched: SkimReader) -> None:
    stream = SlowStream(5)
    next(batched.pipe(stream))
    assert stream.pulled == 1
    stream = SlowStream(5)
    readings = batched.pipe(stream, batch_size=3)
    next(readings)
    assert stream.pulled == 3
    assert len(list(readings)) == 4


@pytest.mark.parametrize("budget", [{}, {"rate": 0.3}, {"target_tokens": 5}, {"threshold": 1.0}])
def test_a_batch_reads_as_single_texts_do(batched: SkimReader, budget: dict[str, float]) -> None:
    texts = [TEXT, "", "w1 w2", " ".join(random_words(33, seed=3))]
    one_by_one = SkimReader(random_model("skim_rnn")).pipe(texts, **budget)  # type: ignore[arg-type]
    for one, other in zip(batched.pipe(texts, **budget), one_by_one, strict=True):  # type: ignore[arg-type]
        assert one.actions.tolist() == other.actions.tolist()
        np.testing.assert_allclose(
            list(one.scores.values()), list(other.scores.values()), atol=1e-5
        )


def test_pipe_hands_through_what_goes_with_a_text() -> None:
    reader = SkimReader(random_model())
    pairs = list(reader.pipe([("w1", 7), ("w2 w3", "x")], as_tuples=True, rate=0.5))
    assert [(reading.source, context) for reading, context in pairs] == [("w1", 7), ("w2 w3", "x")]


@pytest.mark.parametrize("size", [1, 4])
def test_a_bad_item_is_named_after_the_good_ones_were_given(batched: SkimReader, size: int) -> None:
    readings = batched.pipe(["w1", "w2", None, "w3"], batch_size=size)  # type: ignore[list-item]
    assert [next(readings).source, next(readings).source] == ["w1", "w2"]
    with pytest.raises(ConfigError, match=r"texts\[2\] must be a str, got NoneType"):
        next(readings)
    with pytest.raises(ConfigError, match=r"texts\[0\] must be a tuple of a text and its context"):
        next(batched.pipe(["w1"], as_tuples=True, batch_size=size))  # type: ignore[call-overload]


@pytest.mark.parametrize("size", [1, 4])
def test_texts_that_came_before_their_source_failed_are_read(
    batched: SkimReader, size: int
) -> None:
    def texts() -> Iterator[str]:
        yield from ("w1", "w2")
        raise OSError("the disk is gone")

    readings = batched.pipe(texts(), batch_size=size)
    assert [next(readings).source, next(readings).source] == ["w1", "w2"]
    with pytest.raises(OSError, match="the disk is gone"):
        next(readings)


# One text, token by token.


@pytest.mark.parametrize("name", READERS)
def test_feeding_tokens_reads_as_the_whole_text_does(name: str) -> None:
    reader = SkimReader(random_model(name))
    session = reader.open(threshold=0.5)
    decisions = fed(session, WORDS)
    reading = session.result()
    same(reading, reader(TEXT, threshold=0.5))
    for index, decision in enumerate(decisions):
        assert decision.index == index
        assert index < decision.skip_until
        for place, action in [(index, decision.action), *decision.decided]:
            assert action in (Action.OPEN, reading.actions[place])


@pytest.mark.parametrize("name", READERS)
def test_tokens_that_are_skipped_need_not_be_produced(name: str) -> None:
    reader = SkimReader(random_model(name))
    session = reader.open()
    produced = 0
    while session.position < len(WORDS):
        session.feed(WORDS[session.position])
        produced += 1
        session.skip(min(session.skip_until, len(WORDS)) - session.position)
    reading, whole = session.result(), reader(TEXT)
    assert reading.actions.tolist() == whole.actions.tolist()
    np.testing.assert_allclose(
        list(reading.scores.values()), list(whole.scores.values()), atol=1e-6
    )
    spans = zip(reading.tokens.starts, reading.tokens.stops, strict=True)
    assert sum(stop > start for start, stop in spans) == produced
    assert len(reading.source.split()) == produced
    if name in ("skip_rnn", "lstm_jump"):
        assert produced < 60


def test_a_token_that_may_be_looked_at_cannot_be_skipped() -> None:
    session = SkimReader(random_model("skim_rnn")).open()
    session.feed("w1")
    with pytest.raises(ConfigError, match="cannot skip 1 tokens at 1: the reader may look at"):
        session.skip(1)
    with pytest.raises(ConfigError, match="cannot skip -1 tokens"):
        session.skip(-1)


@pytest.mark.parametrize("name", READERS)
def test_a_rate_is_a_running_limit_on_a_stream(name: str) -> None:
    session = SkimReader(random_model(name)).open(rate=0.2)
    actions: list[int] = []
    for number, word in enumerate(WORDS, 1):
        decision = session.feed(word)
        actions += [action for _, action in decision.decided]
        actions += [decision.action] * (decision.action != Action.OPEN)
        assert actions.count(Action.PROCESS) <= math.ceil(0.2 * number)
    assert session.result().reads <= 12


def test_a_session_stops_once_its_tokens_are_spent() -> None:
    session = SkimReader(random_model(), policy="full").open(target_tokens=3)
    assert [d.stopped for d in fed(session, WORDS[:4])] == [False, False, True, True]
    session.skip(1000)
    assert (session.result().tokens_read, session.position) == (3, 1004)


def test_a_reader_that_looks_ahead_decides_later() -> None:
    reader = SkimReader(random_model("leap_lstm", window=2))
    session = reader.open()
    decisions = fed(session, WORDS)
    assert all(decision.action is Action.OPEN for decision in decisions)
    decided = [pair for decision in decisions for pair in decision.decided]
    assert [index for index, _ in decided] == list(range(58))
    assert [action for _, action in decided] == session.result().actions[:58].tolist()


def test_a_session_that_was_ended_takes_nothing_more() -> None:
    session = SkimReader(random_model()).open()
    session.feed("w1")
    session.result()
    for further in (lambda: session.feed("w2"), session.result, session.snapshot):
        with pytest.raises(ConfigError, match=r"ended by result\(\); open another"):
            further()


def test_a_session_without_tokens_answers_as_for_an_empty_text() -> None:
    reader = SkimReader(random_model())
    same(reader.open().result(), reader(""))


# Stored half-way.


@pytest.mark.parametrize("name", READERS)
def test_a_half_read_text_goes_on_from_its_snapshot(name: str) -> None:
    unbroken = SkimReader(random_model(name)).open(rate=0.5)
    fed(unbroken, WORDS)
    first = SkimReader(random_model(name)).open(rate=0.5)
    fed(first, WORDS[:23])
    stored = first.snapshot()
    # As in another process: a reader of its own, from the same weights.
    second = SkimReader(random_model(name)).open(resume_from=stored)
    assert second.position == 23
    fed(second, WORDS[23:])
    same(second.result(), unbroken.result())


def test_a_snapshot_keeps_tokens_that_are_no_proper_text() -> None:
    reader = SkimReader(random_model())
    session = reader.open()
    fed(session, ["\ud800", "\0", "é"])
    resumed = reader.open(resume_from=session.snapshot())
    same(resumed.result(), session.result())


def test_a_damaged_snapshot_is_refused() -> None:
    reader = SkimReader(random_model())
    session = reader.open()
    fed(session, WORDS[:9])
    stored = session.snapshot()
    for data in (b"", b"nothing", stored[:-40], stored[:300] + b"\0\0\0\0" + stored[304:]):
        with pytest.raises(StoreError, match="cannot read the snapshot"):
            reader.open(resume_from=data)
    for place in range(0, len(stored), 7):
        # One that hits nothing of worth may stay unseen; no other error gets out.
        flipped = bytearray(stored)
        flipped[place] ^= 1 << place % 8
        with contextlib.suppress(StoreError):
            reader.open(resume_from=bytes(flipped))
    with np.load(io.BytesIO(stored)) as arrays:
        fewer = {name: arrays[name] for name in arrays if name != "state.hidden"}
    out = io.BytesIO()
    np.savez(out, **fewer)
    with pytest.raises(StoreError, match="cannot read the snapshot"):
        reader.open(resume_from=out.getvalue())


def test_a_snapshot_of_another_reader_is_refused() -> None:
    stored = SkimReader(random_model()).open().snapshot()
    for other in (random_model(seed=1), random_model("skim_rnn")):
        with pytest.raises(StoreError, match="written by another reader"):
            SkimReader(other).open(resume_from=stored)
    with pytest.raises(ConfigError, match="keeps its budget"):
        SkimReader(random_model()).open(resume_from=stored, rate=0.5)


# Asynchronously.


class Producer:
    """Tokens that are made when they are asked for; says how many, and whether it was closed."""

    def __init__(self, words: list[str]) -> None:
        self.words, self.made, self.closed = words, 0, False

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        await asyncio.sleep(0)
        if self.closed or self.made == len(self.words):
            raise StopAsyncIteration
        self.made += 1
        return self.words[self.made - 1]

    async def aclose(self) -> None:
        self.closed = True


def test_an_asynchronous_stream_reads_as_the_whole_text_does() -> None:
    reader, producer = SkimReader(random_model("skim_rnn")), Producer(WORDS)

    async def read() -> Reading:
        stream = reader.astream(producer, threshold=0.5)
        async for decision in stream:
            # Back-pressure: the next token is not made before it is asked for.
            assert producer.made == decision.index + 1
        return stream.result()

    same(asyncio.run(read()), reader(TEXT, threshold=0.5))


def test_a_stream_is_closed_once_the_reader_has_stopped() -> None:
    reader, producer = SkimReader(random_model(), policy="full"), Producer(WORDS)

    async def read() -> Reading:
        stream = reader.astream(producer, target_tokens=4)
        decisions = [decision async for decision in stream]
        assert [decision.stopped for decision in decisions] == [False, False, False, True]
        return stream.result()

    assert asyncio.run(read()).tokens_total == 4
    assert (producer.made, producer.closed) == (4, True)


def test_a_stream_can_be_left_early() -> None:
    producer = Producer(WORDS)

    async def read() -> Reading:
        stream = SkimReader(random_model()).astream(producer)
        async for decision in stream:
            if decision.index == 2:
                break
        await stream.aclose()
        return stream.result()

    assert asyncio.run(read()).tokens_total == 3
    assert producer.closed


def test_an_asynchronous_generator_will_do() -> None:
    async def tokens() -> AsyncIterator[str]:
        for word in WORDS:
            yield word

    async def read() -> Reading:
        stream = SkimReader(random_model()).astream(tokens())
        assert [decision.index async for decision in stream] == list(range(60))
        return stream.result()

    assert asyncio.run(read()).tokens_total == 60


def test_a_list_of_tokens_is_no_asynchronous_stream() -> None:
    with pytest.raises(ConfigError, match=r"feed the tokens of a list to reader\.open"):
        SkimReader(random_model()).astream(WORDS)  # type: ignore[arg-type]


def test_tokens_fed_one_by_one_are_read_as_the_text_is() -> None:
    reader, text = SkimReader(random_model()), "w1, w2. w3 unknown!  w4"
    tokens = reader.tokens(text)
    assert tokens == ["w1", ",", "w2", ".", "w3", "unknown", "!", "w4"]
    session = reader.open()
    for token in tokens:
        session.feed(token)
    assert session.result().scores == reader(text).scores
