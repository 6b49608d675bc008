"""Every reader and every trivial policy on every text task: one row each, and none measured twice.

A row is a line of `rows.jsonl` in the folder of the runs; a bench that was interrupted goes on with
the row it was at. Rows are executed, text by text on one thread: what is skipped is not computed.
Speed is wall clock against the full read of the same texts, in turns: `nn.LSTM` (or `nn.GRU`) of
the same sizes for a recurrent reader, the same MiniLM with all its layers for the transformer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamdyn.index.placing import write_explained
from streamdyn.nn.cells import pooled
from streamdyn.pipelines.row_file import Row, RowFile
from streamdyn.pipelines.text_recipes import RECIPES, TRANSFORMER
from streamdyn.pipelines.text_runs import FULL, TextRuns
from streamdyn.plan import Action
from streamdyn.text.budget_knob import READ_ALL
from streamdyn.text.network import ReaderNetwork
from streamdyn.text.pretrained import ReaderModel
from streamdyn.text.reader import SkimReader
from streamdyn.text.tasks import Split

ROWS = (FULL, *RECIPES)
RATES = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05)
"""Means over texts that a curve asks for by the knob; a text may have more or less."""
MAIN_RATES = (0.5, 0.2)
"""Also timed, and given as a cap that no text exceeds."""
WHOLE = (1.0, 0.2)
"""Measured over the whole test part."""
CURVE_TEXTS = 2000
"""Test texts of the other points of a curve, at most."""
CONFIDENCES = (0.7, 0.8, 0.9, 0.95, 0.99)
"""At which a transformer with early heads stops, with all tokens read."""
TIMED_TEXTS = 100
ROUNDS = 5


def bench_text(
    runs: Iterable[TextRuns],
    out: Path,
    rows: Sequence[str] = ROWS,
    *,
    time_again: bool = False,
    on_row: Callable[[str], None] = lambda text: None,
) -> Iterator[Row]:
    """Measure the rows that are not in the folder yet; gives old and new ones.

    Args:
        runs: One for each task and fold.
        out: Folder of `rows.jsonl`.
        rows: Of `ROWS`.
        time_again: Time the rows that are there again; what they answered stands.
        on_row: Told what is measured now.

    Raises:
        StoreError: The folder cannot be written.
    """
    with write_explained(out):
        out.mkdir(parents=True, exist_ok=True)
    file = RowFile(out / "rows.jsonl")
    for run in runs:
        for name in rows:
            key = {"task": run.task, "fold": run.fold, "seed": run.seed, "row": name}
            found = [row for row in file.read() if key.items() <= row.items()]
            if not found:
                on_row(f"{run.task}, fold {run.fold}: {name}")
                found = [key | measure(run, name)]
                file.add(found[0])
            elif time_again and name != FULL:
                on_row(f"{run.task}, fold {run.fold}: {name}, its speed")
                again = found[0] | {"speed": speed(run, name)}
                file.replace(found[0], again)
                found = [again]
            yield found[0]


def measure(run: TextRuns, name: str) -> Row:
    """Train a reader unless it is there, execute it on the test part, and time it."""
    model = run.model(name)
    reader = SkimReader(model, options={})
    test = _test(run, name)
    row: Row = {
        "family": "trivial" if name == FULL else RECIPES[name].family,
        "as_trained": score(SkimReader(model), test),
        "facts": dict(model.facts),
    }
    if name == FULL:
        return row
    some, knobs = _some(test), _knobs(model)
    points = {
        str(rate): score(reader, test if rate in WHOLE else some, threshold=knob)
        for rate, knob in knobs.items()
    }
    row |= {
        "points": points,
        "capped": {str(rate): score(reader, some, rate=rate) for rate in MAIN_RATES},
        "speed": speed(run, name),
    }
    if _may_exit(name, model):
        row["exits"] = {}
        for confidence in CONFIDENCES:
            leaves = SkimReader(model, options={"exit_confidence": confidence})
            row["exits"][str(confidence)] = score(leaves, some, threshold=READ_ALL)
    return row


def speed(run: TextRuns, name: str) -> Row:
    """Time a trained reader as trained, at `MAIN_RATES` and, where it may exit early, exiting."""
    model = run.model(name)
    reader = SkimReader(model, options={})
    texts, knobs = _some(_test(run, name)).texts, _knobs(model)
    full = _full(run, name, reader)
    found = {"as_trained": paired(SkimReader(model), full, texts)}
    for rate in MAIN_RATES:
        found[str(rate)] = paired(reader, full, texts, threshold=knobs[rate])
    for confidence in CONFIDENCES if _may_exit(name, model) else ():
        leaves = SkimReader(model, options={"exit_confidence": confidence})
        found[exit_key(confidence)] = paired(leaves, full, texts, threshold=READ_ALL)
    return found


def _test(run: TextRuns, name: str) -> Split:
    part: Split = (run.pieces if name == TRANSFORMER else run.prepared).task.test
    return part


def _some(test: Split) -> Split:
    order = np.random.default_rng(0).permutation(len(test))[:CURVE_TEXTS]
    return Split([test.texts[i] for i in order], test.labels[order])


def _knobs(model: ReaderModel) -> dict[float, float]:
    return {rate: model.calibration.knob_for(rate) for rate in RATES} | {1.0: READ_ALL}


def _may_exit(name: str, model: ReaderModel) -> bool:
    return name == TRANSFORMER and bool(model.options)


def exit_key(confidence: float | str) -> str:
    """Of `speed`, where rows stop early."""
    return f"exit at {confidence}"


def score(reader: SkimReader, texts: Split, **asked: Any) -> Row:
    """Accuracy and what was read; means over texts."""
    right, reads, partials, flops = [], [], [], []
    for reading, label in zip(reader.pipe(texts.texts, **asked), texts.labels, strict=True):
        right.append(reading.label == reader.model.labels[label])
        reads.append(reading.read_rate)
        partials.append(float((reading.actions == int(Action.PARTIAL)).mean()))
        flops.append(reading.flops)
    return {
        "n": len(right),
        "accuracy": float(np.mean(right)),
        "standard_error": float(np.std(right) / np.sqrt(len(right))),
        "read_rate": float(np.mean(reads)),
        "partial_rate": float(np.mean(partials)),
        "flops": float(np.mean(flops)),
    }


def paired(
    reader: SkimReader, full: Callable[[str], tuple[float, float]], texts: Sequence[str],
    **asked: Any,
) -> Row:  # fmt: skip
    """Time of the full read over the reader's, text by text in turns.

    Args:
        reader: Timed with the decisions it takes.
        full: Text → seconds of cutting it into tokens, and of reading them all.
        texts: The first `TIMED_TEXTS` count.
        **asked: Budget of the reader.

    Returns:
        `ratio` of reading, with the least and the greatest of `ROUNDS` rounds; `ratio_with_tokens`,
        where both also cut the text into tokens; milliseconds by text.
    """
    chosen = [text for text in texts[:TIMED_TEXTS] if text.strip()]
    for text in chosen[:5]:
        full(text), reader(text, **asked)
    mine, theirs, whole = [], [], []
    for _ in range(ROUNDS):
        own = own_tokens = other = other_tokens = 0.0
        for text in chosen:
            seconds = reader(text, **asked).seconds
            own_tokens += seconds["tokenize"]
            own += seconds["read"] + seconds["classify"]
            tokens, read = full(text)
            other_tokens += tokens
            other += read
        mine.append(own)
        theirs.append(other)
        whole.append((other + other_tokens) / (own + own_tokens))
    return ratios(mine, theirs, len(chosen)) | {"ratio_with_tokens": median(whole)}


def _full(run: TextRuns, name: str, reader: SkimReader) -> Callable[[str], tuple[float, float]]:
    if name == TRANSFORMER:

        def read_all(text: str) -> tuple[float, float]:
            seconds = reader(text, threshold=READ_ALL).seconds
            return seconds["tokenize"], seconds["read"] + seconds["classify"]

        return read_all
    full = run.full(RECIPES[name].cell)
    network = full.network

    def read(text: str) -> tuple[float, float]:
        began = time.perf_counter()
        ids = full.coder.encode(text).ids
        coded = time.perf_counter()
        full_read(network, ids)
        return coded - began, time.perf_counter() - coded

    return read


@torch.inference_mode()
def full_read(network: ReaderNetwork, x: np.ndarray[Any, Any]) -> Tensor:
    """`(1, num_outputs)` of one text by torch's own fused cell, as anyone would run it."""
    states, _ = network.cell.fused(network.vectors(torch.from_numpy(x)[None]))  # (1, T, H)
    if network.spec.pooling == "last":
        return network.classify(states[:, -1])
    return network.classify(pooled(states, torch.ones(1, len(x), dtype=torch.bool)))


def ratios(own: Sequence[float], full: Sequence[float], count: int) -> Row:
    """Time of the full read over the reader's: median, least and greatest round.

    Args:
        own: Seconds of the reader, one a round.
        full: Seconds of the full read.
        count: Texts a round.
    """
    each = [theirs / mine for mine, theirs in zip(own, full, strict=True)]
    return {
        "ratio": median(each),
        "ratio_min": min(each),
        "ratio_max": max(each),
        "ms": 1e3 * median(own) / count,
        "full_ms": 1e3 * median(full) / count,
    }


def speed_text(entry: Mapping[str, float]) -> str:
    """What `ratios` gives, for a table; with the time of cutting into tokens where it is there."""
    read = f"{entry['ratio']:.1f}x ({entry['ratio_min']:.1f} to {entry['ratio_max']:.1f})"
    whole = entry.get("ratio_with_tokens")
    return read if whole is None else f"{read}; {whole:.1f}x"
