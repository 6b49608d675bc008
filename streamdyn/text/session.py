"""A text that arrives token by token: each is decided at once, and what is skipped need not exist.

```python
session = reader.open(rate=0.2)
while not session.stopped:
    decision = session.feed(next(words))
    session.skip(decision.skip_until - session.position)   # these are never produced
reading = session.result()
```
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, fields
from numbers import Integral
from typing import Any, Self

import numpy as np

from streamdyn.errors import ConfigError, StoreError
from streamdyn.plan import Action
from streamdyn.text.answer import Desk, taken
from streamdyn.text.batches import RaggedExecutor
from streamdyn.text.budget_knob import ReadBudget
from streamdyn.text.network import Ids
from streamdyn.text.reading import Reading
from streamdyn.text.words import PADDING_ID, TextCoder, Tokens

SNAPSHOT_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one token."""

    index: int
    """Its place in the text, from 0."""
    action: Action
    """SKIP, PARTIAL or PROCESS; OPEN: it is decided with a later token."""
    skip_until: int
    """Tokens before this index will not be looked at, and need not be produced."""
    stopped: bool
    """No later token will be looked at."""
    decided: tuple[tuple[int, Action], ...] = ()
    """Index and action of the open tokens that were decided with this one."""


_DAMAGED = (
    EOFError, ValueError, KeyError, OSError, zipfile.BadZipFile, zlib.error,
    # A flipped bit may name a compression or a cipher.
    NotImplementedError, RuntimeError,
)  # fmt: skip


class ReaderSession:
    """One text, fed token by token.

    Its length is not known, so a rate is kept as a running limit: of the first n tokens,
    `ceil(rate * n)` are read at most. It remembers every token until `result`.

    A transformer looks at a text as a whole: all decisions stay open until `result`, where it reads
    the tokens put together, cut anew by its own coder.
    """

    def __init__(self, desk: Desk, budget: ReadBudget) -> None:
        self._desk, self._budget = desk, budget
        self._state = desk.executor.start()
        self._words: list[str | None] = []
        self._actions = bytearray()
        self._seconds = {"tokenize": 0.0, "read": 0.0}
        self._knob = budget.knob(None, desk.knob_for)
        self._whole = isinstance(desk.executor, RaggedExecutor)
        self._ended = False

    @property
    def position(self) -> int:
        """Index of the next token."""
        return len(self._words)

    @property
    def skip_until(self) -> int:
        """Index of the next token that will be looked at."""
        return max(self._state.skip_until, self.position)

    @property
    def stopped(self) -> bool:
        """No later token will be looked at: the reader has stopped, or its budget is spent."""
        return self._state.stopped or self._budget.spent(self._state.num_full)

    def feed(self, token: str) -> Decision:
        """Take the next token, one as `SkimReader.tokens` gives.

        A recurrent reader knows a word with a mark at its end for none; a transformer cuts what it
        is fed anew, and so takes whole words as well.

        Raises:
            ConfigError: It is no string, or the session was ended.
        """
        if not isinstance(token, str):
            raise ConfigError(f"a token must be a str, got {type(token).__name__}")
        began = self._desk.now()
        ids = np.array([self._desk.coder.id_of(token)], np.int32)
        self._seconds["tokenize"] += self._desk.now() - began
        index, first = self.position, len(self._actions)
        self._advance(ids, [token])
        decided = [(i, Action(self._actions[i])) for i in range(first, len(self._actions))]
        action = Action.OPEN
        if decided and decided[-1][0] == index:
            action = decided.pop()[1]
        return Decision(index, action, self.skip_until, self.stopped, tuple(decided))

    def skip(self, num_tokens: int) -> None:
        """Pass over tokens that were not produced; the same as feeding any tokens there.

        Raises:
            ConfigError: One of them would have been looked at, or the session was ended.
        """
        if not isinstance(num_tokens, Integral):
            raise ConfigError(f"tokens are skipped in whole numbers, got {num_tokens!r}")
        after = self.position + num_tokens
        if num_tokens < 0 or (after > self.skip_until and not self.stopped):
            raise ConfigError(
                f"cannot skip {num_tokens} tokens at {self.position}: the reader may look at "
                f"token {self.skip_until}; skip up to there, then feed it"
            )
        self._advance(np.zeros(num_tokens, np.int32), [None] * num_tokens)

    def result(self) -> Reading:
        """End the text here and answer; skipped tokens that were not produced have empty spans.

        The text of the reading is the tokens with one space between.
        """
        if self._whole:
            self._check_open()
            self._ended = True
            return self._desk.read(_joined(self._words, self._desk.coder)[0], self._budget)
        self._advance(np.zeros(0, np.int32), [], ended=True)
        self._ended = True
        since = self._desk.now()
        actions = np.frombuffer(bytes(self._actions), np.uint8).copy()
        took = taken(self._desk.executor, self._state, actions)
        source, tokens = _joined(self._words, self._desk.coder)
        return self._desk.reading(source, tokens, took, self._seconds, since)

    def snapshot(self) -> bytes:
        """Where the reading stands, for `reader.open(resume_from=…)`; arrays and JSON, no code."""
        self._check_open()
        facts = {
            **_written_by(self._desk),
            "budget": asdict(self._budget),
            "words": self._words,
            "seconds": self._seconds,
        }
        state = {f"state.{f.name}": getattr(self._state, f.name) for f in fields(self._state)}
        out = io.BytesIO()
        np.savez(
            out,
            facts=np.frombuffer(json.dumps(facts).encode(), np.uint8),
            actions=np.frombuffer(bytes(self._actions), np.uint8),
            **state,
        )
        return out.getvalue()

    @classmethod
    def resume(cls, desk: Desk, data: bytes) -> Self:
        """Go on from a snapshot, with its budget.

        Raises:
            StoreError: It is damaged, or another reader wrote it.
        """
        wanted = _written_by(desk)
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                facts = json.loads(arrays["facts"].tobytes())
                held = {name: facts.get(name) for name in wanted}
                if held != wanted:
                    raise StoreError(
                        f"the snapshot was written by another reader: {', '.join(wanted)} are "
                        f"{tuple(held.values())}, not {tuple(wanted.values())}; open it with the "
                        "reader that wrote it"
                    )
                session = cls(desk, ReadBudget(**facts["budget"]))
                session._words, session._seconds = facts["words"], facts["seconds"]
                session._actions += arrays["actions"].tobytes()
                for field in fields(session._state):
                    value = arrays[f"state.{field.name}"]
                    setattr(session._state, field.name, value if value.ndim else value.item())
        except _DAMAGED as exc:
            raise StoreError(
                f"cannot read the snapshot ({len(data)} bytes): {exc}; read the text afresh"
            ) from exc
        return session

    def _advance(self, ids: Ids, words: list[str] | list[None], *, ended: bool = False) -> None:
        self._check_open()
        self._words += words
        if self._whole:
            return
        began = self._desk.now()
        decided = self._desk.executor.advance(
            self._state,
            ids,
            knob=self._knob,
            max_reads=self._budget.cap(self.position),
            ended=ended,
            mode=self._desk.mode,
            **self._desk.options,
        )
        self._seconds["read"] += self._desk.now() - began
        self._actions += decided.tobytes()

    def _check_open(self) -> None:
        if self._ended:
            raise ConfigError("this session was ended by result(); open another one")


class TokenStream:
    """Decisions over an asynchronous stream of tokens, each pulled when it is asked for.

    ```python
    stream = reader.astream(tokens)
    async for decision in stream:
        ...
    reading = stream.result()
    ```

    Once the reader has stopped, the source is closed and the iteration ends. Leave it early with
    `await stream.aclose()`.
    """

    def __init__(self, session: ReaderSession, tokens: AsyncIterator[str]) -> None:
        self.session = session
        """Takes `skip` where the source leaves out what will not be read."""
        self._tokens = tokens

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Decision:
        if self.session.stopped:
            raise StopAsyncIteration
        decision = self.session.feed(await anext(self._tokens))
        if decision.stopped:
            await self.aclose()
        return decision

    async def aclose(self) -> None:
        """Close the source, where it can be closed."""
        close = getattr(self._tokens, "aclose", None)
        if close is not None:
            await close()

    def result(self) -> Reading:
        """End the text after the tokens pulled so far and answer."""
        return self.session.result()


def _written_by(desk: Desk) -> dict[str, Any]:
    """What a snapshot and the reader that resumes it must have in common."""
    return {
        "format": SNAPSHOT_FORMAT,
        "fingerprint": desk.fingerprint(),
        "mode": desk.mode,
        "options": dict(desk.options),
    }


def _joined(words: list[str | None], coder: TextCoder) -> tuple[str, Tokens]:
    """The words with one space between, and where each stands."""
    starts, stops, end = [], [], 0
    pieces: list[str] = []
    for word in words:
        if word is not None and pieces:
            pieces.append(" ")
            end += 1
        starts.append(end)
        if word is not None:
            pieces.append(word)
            end += len(word)
        stops.append(end)
    ids = [PADDING_ID if word is None else coder.id_of(word) for word in words]
    columns = (np.array(values, np.int32) for values in (ids, starts, stops))
    return "".join(pieces), Tokens(*columns)
