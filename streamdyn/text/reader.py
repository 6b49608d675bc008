"""A trained reader at work: on one text, on many, or on a text that arrives token by token.

```python
reader = SkimReader.load("movie-sentiment")
reading = reader("Two hours that felt like four.", rate=0.2)
reading.label, reading.kept, reading.read_rate
```
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache, partial
from hashlib import sha256
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, TypeVar, Unpack, overload

import torch

from streamdyn.errors import ConfigError
from streamdyn.text import pretrained
from streamdyn.text.answer import Desk, Taken
from streamdyn.text.batches import BatchReader, PaddedReader, RaggedExecutor, RaggedReader
from streamdyn.text.budget_knob import UNLIMITED, ReadBudget
from streamdyn.text.network import ReaderNetwork
from streamdyn.text.policies import with_policy
from streamdyn.text.pretrained import ReaderModel
from streamdyn.text.reading import Reading
from streamdyn.text.session import ReaderSession, TokenStream

Context = TypeVar("Context")
BATCH_SIZE = 32


class Asked(TypedDict, total=False):
    """How much to read, as for `SkimReader.__call__`."""

    rate: float | None
    threshold: float | None
    target_tokens: int | None
    query: str | None


class SkimReader:
    """Answers from a part of a text, and says which part.

    An empty text gets the answer of the untouched state. One reader may be used by many threads,
    and sent to other processes. A transformer takes 510 word pieces of a text, the best by its
    first gate: of a longer one it reads less than it is asked to.

    Args:
        model: A `ReaderModel`, the name of a shipped model, or a folder.
        policy: A trivial policy (`first_k`, `full`, `idf`, `last_k`, `random` or `uniform`) to
            choose with the model's weights; `None`: the model's own.
        device: `cpu`, where what is skipped is not computed; or `cuda`, where padded batches are
            computed in full under the reader's decisions: fast for many texts, saving nothing.
        mode: `exact` or, where the reader has it, `block`; `None`: as the model prefers.
        options: In place of the model's own. A transformer with heads after earlier layers takes
            `exit_confidence`, the probability in (0, 1] at which a text needs no further layer, and
            `patience`, the number of heads that must agree with the one before; a GPU neither.
        now: Clock in seconds, for `Reading.seconds`.

    Raises:
        UnknownName: No model or policy is called so.
        ModelError: A file of the model is missing or damaged.
        ConfigError: The device is not there, or the reader has no such mode or option.
    """

    def __init__(
        self,
        model: ReaderModel | str | Path,
        *,
        policy: str | None = None,
        device: str = "cpu",
        mode: str | None = None,
        options: Mapping[str, Any] | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not isinstance(model, ReaderModel):
            model = pretrained.load(pretrained.locate(model))
        if policy is not None and policy != model.network.name:
            model = with_policy(model, policy)
        place = _device(device)
        executor = model.network.executor()
        mode = model.mode if mode is None else mode
        if mode not in executor.modes:
            raise ConfigError(
                f"{model.network.name} reads in {' or '.join(executor.modes)} mode, not {mode!r}"
            )
        # A GPU leaves the model's own options aside.
        known = () if place.type == "cuda" else executor.options
        chosen = model.options if options is None else options
        if options is not None or place.type == "cpu":
            _check_options(chosen, known, model, device)
        self.model = model
        """Network, vocabulary, labels and calibration."""
        self.device = device
        """Where it reads."""
        # Where no decision depends on what was read, the best tokens are known beforehand.
        free = getattr(executor, "block_size", 0) == UNLIMITED
        self._desk = Desk(
            executor=executor,
            coder=model.coder,
            labels=model.labels,
            knob_for=lru_cache(maxsize=1024)(model.calibration.knob_for),
            choose=executor.choose if free else None,  # type: ignore[attr-defined]
            mode=mode,
            options=chosen,
            fingerprint=cache(lambda: _fingerprint(model.network)),
            now=now,
        )
        self._batches: BatchReader | None = None
        if place.type == "cuda":
            self._batches = PaddedReader(model.network, place)
        elif isinstance(executor, RaggedExecutor):
            self._batches = RaggedReader(executor, chosen)

    @classmethod
    def load(cls, name: str, *, device: str = "cpu") -> Self:
        """A model that comes with streamdyn: a task, or `task/reader`.

        Raises:
            UnknownName: None is called so; lists those there are.
        """
        return cls(pretrained.load(pretrained.find(name)), device=device)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str = "cpu") -> Self:
        """A model that `save_pretrained` wrote.

        Raises:
            ModelError: A file is missing, cut short, or does not fit the others.
        """
        return cls(pretrained.load(folder), device=device)

    def save_pretrained(self, folder: str | Path, *, half: bool = False) -> None:
        """Write the model as a folder, as it is read here; `half` stores floats as float16.

        Raises:
            OSError: The folder cannot be written.
        """
        pretrained.save(self._as_read(), folder, half=half)

    def __reduce__(self) -> tuple[Callable[[ReaderModel], Self], tuple[ReaderModel]]:
        """The model and how it is read: another process compiles its own reader."""
        return partial(type(self), device=self.device, now=self._desk.now), (self._as_read(),)

    def _as_read(self) -> ReaderModel:
        return replace(self.model, mode=self._desk.mode, options=self._desk.options)

    def __call__(
        self,
        text: str,
        *,
        rate: float | None = None,
        threshold: float | None = None,
        target_tokens: int | None = None,
        query: str | None = None,
    ) -> Reading:
        """Read one text with one budget at most; without one as the reader was trained.

        Args:
            text: Any text.
            rate: Share of the tokens read in full, in (0, 1]; never exceeded.
            threshold: The reader's own knob: larger reads less, 0 is as trained.
            target_tokens: Tokens read in full, at least 1; never exceeded.
            query: A trained reader answers the one question of its labels and takes none.

        Raises:
            ConfigError: Two budgets, a wrong one, a query, or no text.
        """
        budget = _budget(rate, threshold, target_tokens, query)
        return next(iter(self._read_all([_text(text)], budget)))

    @overload
    def pipe(
        self,
        texts: Iterable[str],
        *,
        as_tuples: Literal[False] = False,
        batch_size: int | None = None,
        **asked: Unpack[Asked],
    ) -> Iterator[Reading]: ...

    @overload
    def pipe(
        self,
        texts: Iterable[tuple[str, Context]],
        *,
        as_tuples: Literal[True],
        batch_size: int | None = None,
        **asked: Unpack[Asked],
    ) -> Iterator[tuple[Reading, Context]]: ...

    def pipe(
        self,
        texts: Iterable[Any],
        *,
        as_tuples: bool = False,
        batch_size: int | None = None,
        **asked: Unpack[Asked],
    ) -> Iterator[Any]:
        """Read many texts, each as it is pulled; their readings in the same order.

        A recurrent reader on the CPU gains nothing from batches and reads text by text. On a GPU,
        and a transformer anywhere, a sequence is read in batches of 32; any other iterable, which
        may be a slow stream, text by text unless `batch_size` is given.

        Args:
            texts: Texts, or pairs of a text and what goes with it.
            as_tuples: Take and give pairs.
            batch_size: Texts to wait for before they are read together.
            **asked: One budget, as for one text.

        Raises:
            ConfigError: A wrong budget or batch size; or, when it is reached, an item that is no
                text, after all items before it were given. So is what `texts` itself raises.
        """
        budget = _budget(**asked)
        if isinstance(texts, str):
            raise ConfigError("texts is one str; read it with reader(text), or pass a list")
        if batch_size is not None and not (isinstance(batch_size, Integral) and batch_size > 0):
            raise ConfigError(f"batch_size must be a whole number from 1 on, got {batch_size!r}")
        if batch_size is None:
            batch_size = BATCH_SIZE if isinstance(texts, Sequence) else 1
        if self._batches is None:
            batch_size = 1
        return self._pipe(texts, as_tuples, batch_size, budget)

    def tokens(self, text: str) -> list[str]:
        """The text token by token, as `feed` of a session takes it.

        For a recurrent reader these are the tokens it reads. A transformer cuts what it is fed anew
        and not as before within a word: for it they are what stands between white space.

        Raises:
            ConfigError: It is no text.
        """
        if isinstance(self._desk.executor, RaggedExecutor):
            return re.findall("[^ \t\n\r]+", _text(text))
        cut = self.model.coder.encode(_text(text))
        return [text[start:stop] for start, stop in zip(cut.starts, cut.stops, strict=True)]

    def open(self, *, resume_from: bytes | None = None, **asked: Unpack[Asked]) -> ReaderSession:
        """A session that takes one text token by token.

        Args:
            resume_from: A `snapshot()` of a session of this reader, which keeps its budget.
            **asked: One budget, as for one text.

        Raises:
            ConfigError: The reader is on a GPU, or the budget is wrong.
            StoreError: The snapshot is damaged or another reader's.
        """
        budget = _budget(**asked)
        if isinstance(self._batches, PaddedReader):
            raise ConfigError(f"tokens are read one by one on the cpu, not on {self.device!r}")
        if resume_from is None:
            return ReaderSession(self._desk, budget)
        if budget != ReadBudget():
            raise ConfigError("a resumed session keeps its budget; leave out the new one")
        return ReaderSession.resume(self._desk, resume_from)

    def astream(self, tokens: AsyncIterable[str], **asked: Unpack[Asked]) -> TokenStream:
        """Decisions over an asynchronous stream of tokens; iterate it with `async for`.

        Args:
            tokens: Each is pulled when its decision is asked for; closed once the reader stops.
            **asked: One budget, as for one text.

        Raises:
            ConfigError: As for `open`, or `tokens` is not asynchronous.
        """
        if not isinstance(tokens, AsyncIterable):
            raise ConfigError(
                f"astream needs an asynchronous iterable of tokens, got {type(tokens).__name__}; "
                "feed the tokens of a list to reader.open()"
            )
        return TokenStream(self.open(**asked), aiter(tokens))

    def _read_batch(
        self, batches: BatchReader, texts: list[str], budget: ReadBudget
    ) -> list[Reading]:
        """Each text is charged its share of the time of a stage."""
        desk = self._desk
        began = desk.now()
        rows = [desk.coder.encode(text) for text in texts]
        coded = desk.now()
        took: dict[int, Taken] = {}
        knobs = [budget.knob(len(row), desk.knob_for) for row in rows]
        for knob in dict.fromkeys(knobs):
            chosen = [i for i, row in enumerate(rows) if len(row) and knobs[i] == knob]
            caps = [budget.cap(len(rows[i])) for i in chosen]
            answers = batches.read([rows[i].ids for i in chosen], knob=knob, caps=caps)
            took.update(zip(chosen, answers, strict=True))
        share = 1 / len(rows)
        seconds = {"tokenize": (coded - began) * share, "read": (desk.now() - coded) * share}
        return [
            desk.reading(text, rows[i], took[i], seconds, desk.now())
            if len(rows[i])
            else desk.read(text, budget)
            for i, text in enumerate(texts)
        ]

    def _read_all(self, texts: list[str], budget: ReadBudget) -> Iterable[Reading]:
        if self._batches is None:
            return (self._desk.read(text, budget) for text in texts)
        return self._read_batch(self._batches, texts, budget)

    def _pipe(
        self, texts: Iterable[Any], as_tuples: bool, batch_size: int, budget: ReadBudget
    ) -> Iterator[Any]:
        items, num_texts, failed = iter(texts), 0, None
        while failed is None:
            batch: list[tuple[str, Any]] = []
            try:
                for item in islice(items, batch_size):
                    batch.append(_pair(item, num_texts + len(batch), as_tuples))
            except Exception as exc:  # raised below, once what came before was read
                failed = exc
            if batch:
                readings = self._read_all([text for text, _ in batch], budget)
                for reading, (_, context) in zip(readings, batch, strict=True):
                    yield (reading, context) if as_tuples else reading
                num_texts += len(batch)
            elif failed is None:
                return
        raise failed


def _budget(
    rate: float | None = None,
    threshold: float | None = None,
    target_tokens: int | None = None,
    query: str | None = None,
) -> ReadBudget:
    if query is not None:
        raise ConfigError(
            "a trained reader answers the question of its labels and takes no query; to keep what "
            "matters to a query use skim(text, query=...)"
        )
    return ReadBudget(rate, threshold, target_tokens)


def _pair(item: Any, number: int, as_tuples: bool) -> tuple[str, Any]:
    """An item of `pipe` as a text and its context."""
    if not as_tuples:
        return _text(item, f"texts[{number}]"), None
    if not isinstance(item, tuple) or len(item) != 2:
        raise ConfigError(
            f"texts[{number}] must be a tuple of a text and its context, got {type(item).__name__}"
        )
    return _text(item[0], f"texts[{number}]"), item[1]


def _text(given: object, name: str = "a text") -> str:
    if not isinstance(given, str):
        raise ConfigError(f"{name} must be a str, got {type(given).__name__}")
    return given


def _check_options(options: object, known: Sequence[str], model: ReaderModel, device: str) -> None:
    if not isinstance(options, Mapping) or not options.keys() <= set(known):
        raise ConfigError(
            f"options of this {model.network.name} on {device} are {', '.join(known) or 'none'}, "
            f"got {options!r}"
        )


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as exc:
        raise ConfigError(f"device must be cpu, cuda or cuda:N, got {name!r}") from exc
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device must be cpu, cuda or cuda:N, got {name!r}")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(
            f"device {name!r} is not there: torch {torch.__version__} sees {count} CUDA devices; "
            "use device='cpu', or install a torch with CUDA and its driver"
        )
    return device


def _fingerprint(network: ReaderNetwork) -> str:
    digest = sha256(json.dumps(network.config()).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
