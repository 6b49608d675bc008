"""Readers on generated sequences and digits: one row each, none measured twice, and the plot.

Rows are executed, one sequence after the other on one thread. Speed is wall clock of a full read
by torch's fused cell of the same sizes over the reader's, decisions included, in turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamdyn.errors import ConfigError, UnknownName
from streamdyn.index.placing import write_explained
from streamdyn.learning.evaluation import Evaluation
from streamdyn.pipelines.bench_text import full_read, ratios
from streamdyn.pipelines.row_file import Row, RowFile
from streamdyn.pipelines.sequence_recipes import FEW_READS, RECIPES, sequence_recipe
from streamdyn.pipelines.train_sequences import (
    TASKS,
    SequenceReader,
    evaluate_sequence,
    load_sequence,
    save_sequence,
    stage_file,
    train_sequence,
    unseen,
)
from streamdyn.text.network import ReaderNetwork, fresh_network

ROWS = tuple(f"{task}/{row}" for task, rows in RECIPES.items() for row in rows)
LENGTHS = (10, 30, 100, 300, 1000, 3000, 10_000)
"""Of p[p[0]], where the gain is measured."""
ROUNDS = 7
_TESTS, _TIMED = 2000, 50
_TIMED_TOKENS = 30_000
"""Tokens of the sequences that a round times, about."""


def bench_sequences(
    out: Path,
    *,
    rows: Iterable[str] | None = None,
    digits: Path | None = None,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """Train and measure what is not in the folder yet; gives old and new rows.

    Args:
        out: Folder of `sequences.jsonl` and of the weights, `TASK-ROW-SEED.safetensors`.
        rows: Of `ROWS`; `None`: all.
        digits: File of the task `digits`; without it, rows of this task are left out.
        seed: Of every training.
        on_step: Told what is done now, and how a training goes.

    Raises:
        UnknownName: There is no such row.
        ConfigError: A row of `digits` is asked for without the file.
        StoreError: The folder cannot be written.
    """
    chosen = list(ROWS if rows is None else rows)
    for name in chosen:
        if name not in ROWS:
            raise UnknownName("row of sequences", name, ROWS)
        if rows is not None and name.startswith("digits/") and digits is None:
            raise ConfigError(f"{name} needs the npz file of the digits; name it with --digits")
    with write_explained(out):
        out.mkdir(parents=True, exist_ok=True)
    file = RowFile(out / "sequences.jsonl")
    done = []
    for name in chosen:
        task, row = name.split("/")
        if task == "digits" and digits is None:
            continue
        key = {"task": task, "row": row, "seed": seed}
        found = [known for known in file.read() if key.items() <= known.items()]
        if not found:
            reader = _kept(out, task, row, digits, seed, on_step)
            on_step(f"{name}: measuring")
            found = [key | measure(task, row, reader, digits=digits, seed=seed)]
            file.add(found[0])
        done.append(found[-1])
    return done


def measure(
    task: str, row: str, reader: SequenceReader, *, digits: Path | None = None, seed: int = 0
) -> Row:
    """Execute a trained reader on what it has not seen, and time it."""
    network = reader.network
    found = evaluate_sequence(task, network, count=_TESTS, digits=digits, seed=seed)
    made: Row = {
        "reader": network.name,
        "cell": network.spec.cell,
        "hidden_size": network.spec.hidden_size,
        **_figures(found),
        "training_seconds": round(reader.seconds, 1),
        "speed": paired(network, unseen(task, _TIMED, digits=digits, seed=seed).inputs[:_TIMED]),
        "command": f"streamdyn bench text --task {task} --reader {row} --seed {seed}",
    }
    length = len(unseen(task, 1, digits=digits, seed=seed).inputs[0])
    made["tokens_touched"] = length * (found.read_rate + found.partial_rate)
    variance = TASKS[task].variance
    if variance is not None:
        made["share_of_variance"] = found.score / variance
    if task == "number_prediction" and row in FEW_READS:
        made["lengths"] = [_at_length(network, length, seed) for length in LENGTHS]
    return made | {"met": is_met(task, row, made)}


def is_met(task: str, row: str, made: Row) -> bool | None:
    """Whether a row reaches this project's target; `None`: there is none for it.

    A random reader is to fail.
    """
    rate = made["read_rate"]
    if "lengths" in made:
        gains = [point["speed"]["ratio"] for point in made["lengths"]]
        return bool(
            all(p["score"] >= 0.95 and p["tokens_touched"] <= 3 for p in made["lengths"])
            and gains == sorted(gains)
        )
    if task == "adding" and row.startswith("random"):
        return bool(made["share_of_variance"] >= 0.01)
    if task == "adding" and row.startswith("skip_"):
        return bool(made["share_of_variance"] < 0.01 and rate <= 0.6)
    if task == "frequency" and row.startswith("skip_"):
        return bool(made["score"] > 0.99 and rate <= 0.25)
    return None


def paired(network: ReaderNetwork, inputs: Sequence[np.ndarray[Any, Any]]) -> Row:
    """Time of the full read over the executed one: `ratio` with its least and greatest round."""
    executor = network.executor()
    # The cell of hm_rnn has other inputs; the time depends on sizes alone.
    whole = fresh_network("full", network.spec).eval()

    def read(x: np.ndarray[Any, Any]) -> None:
        state = executor.start()
        executor.advance(state, x)
        executor.logits(state)

    # Compiled, and caches warm.
    for x in inputs[:3]:
        read(x)
        full_read(whole, x)
    mine, theirs = [], []
    for _ in range(ROUNDS):
        own = other = 0.0
        for x in inputs:
            began = time.perf_counter()
            read(x)
            middle = time.perf_counter()
            full_read(whole, x)
            own += middle - began
            other += time.perf_counter() - middle
        mine.append(own)
        theirs.append(other)
    return ratios(mine, theirs, len(inputs))


def _kept(
    out: Path, task: str, row: str, digits: Path | None, seed: int, on_step: Callable[[str], None]
) -> SequenceReader:
    """Trained unless its weights are in the folder."""
    path = out / f"{task}-{row}-{seed}.safetensors"
    if not path.exists():
        how = sequence_recipe(task, row)
        start = _kept(out, task, how.start, digits, seed, on_step).network if how.start else None
        checkpoint = path.with_suffix(".part")
        made = train_sequence(
            task,
            row,
            start=start,
            digits=digits,
            seed=seed,
            checkpoint=checkpoint,
            on_epoch=lambda stage, report: on_step(
                f"{stage}, epoch {report.epoch}: loss {report.loss:.5f}, score {report.score:.5f}, "
                f"read {report.read_rate:.1%}, {report.seconds:.0f} s"
            ),
        )
        save_sequence(made, path)
        for number in range(len(how.stages)):
            stage_file(checkpoint, number).unlink(missing_ok=True)
    return load_sequence(path)


def _figures(found: Evaluation) -> Row:
    return {
        "n": found.n,
        "score": found.score,
        "standard_error": found.standard_error,
        "read_rate": found.read_rate,
        "partial_rate": found.partial_rate,
        "flops": found.flops,
    }


def _at_length(network: ReaderNetwork, length: int, seed: int) -> Row:
    count = min(_TESTS, 2_000_000 // length)
    found = evaluate_sequence("number_prediction", network, count=count, length=length, seed=seed)
    timed = max(3, min(_TIMED, _TIMED_TOKENS // length))
    inputs = unseen("number_prediction", timed, length, seed=seed).inputs
    return {
        "length": length,
        **_figures(found),
        "tokens_touched": length * found.read_rate,
        "speed": paired(network, inputs),
    }
