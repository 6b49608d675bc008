"""`streamdyn train text` and `streamdyn bench text`: readers of text, trained and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from streamdyn.cli.app import app
from streamdyn.cli.bench import bench_app
from streamdyn.cli.options import Json
from streamdyn.cli.output import percent, print_json, remark, show, table

train_app = typer.Typer(no_args_is_help=True)
app.add_typer(train_app, name="train", help="Train a reader of text, or an agent for video.")


@train_app.callback()
def _train() -> None:
    """Train a reader of text, or an agent for video."""


Data = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", help="Holds one folder for each task, as imdb or trec."),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out", metavar="DIR", help="Trained readers are kept here, and found the next time."
    ),
]
Seed = Annotated[
    int,
    typer.Option("--seed", metavar="N", min=0, max=2**32 - 1, help="Of weights, noise and order."),
]


@train_app.command("text")
def train(
    task: Annotated[str, typer.Argument(metavar="TASK", help="As imdb or trec.")],
    reader: Annotated[str, typer.Argument(metavar="READER", help="As leap_lstm or skim_rnn.")],
    data: Data = Path("data/text"),
    out: Out = Path("text-runs"),
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="SHARE", help="Of the tokens to train for, in (0, 1]."),
    ] = None,
    fold: Annotated[
        int, typer.Option("--fold", metavar="N", help="Test part of a cross-validated task.")
    ] = 0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a reader on a text task and leave it as a folder that SkimReader loads.

    The full read is trained first, unless it is there. Ctrl-C loses the epoch it is in at most:
    the same command goes on.
    """
    from streamdyn.errors import UnknownName
    from streamdyn.pipelines.bench_text import ROWS
    from streamdyn.pipelines.text_runs import TextRuns

    if reader not in ROWS:
        raise UnknownName("text reader", reader, ROWS)
    _one_thread()
    runs = TextRuns(task, data, out, fold=fold, seed=seed, on_epoch=_report)
    model = runs.model(reader, rate=rate)
    folder = runs.folder_of(reader, rate)
    if as_json:
        print_json({"folder": str(folder), **model.facts})
    else:
        show_facts = ", ".join(f"{key} {value}" for key, value in model.facts.items() if value)
        remark(show_facts)
        typer.echo(folder)


@bench_app.command("text")
def bench(
    task: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="NAME", help="May be given again. Default: all tasks."),
    ] = None,
    reader: Annotated[
        list[str] | None,
        typer.Option("--reader", metavar="NAME", help="May be given again. Default: all readers."),
    ] = None,
    data: Data = Path("data/text"),
    out: Out = Path("text-runs"),
    digits: Annotated[
        Path | None,
        typer.Option("--digits", metavar="FILE", help="The npz file of the task digits."),
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", metavar="N", min=1, help="Of a cross-validated task.")
    ] = 1,
    seed: Seed = 0,
    time_again: Annotated[
        bool, typer.Option("--time-again", help="Time the rows that are there again.")
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(
            "--page",
            metavar="FILE",
            help="Also write all rows in --out as tables, .md, with plots beside.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train and measure every reader and every trivial policy on every text task.

    Tasks are those of the data folder, and the generated ones: number_prediction, adding,
    frequency, and digits where the file is given.

    One row each: accuracy, what was read, FLOPs, and wall clock against the full read. Rows are
    kept in --out as they are measured; the same command goes on with what is missing.
    """
    from streamdyn.pipelines import bench_sequences as generated
    from streamdyn.pipelines.bench_text import ROWS, bench_text
    from streamdyn.pipelines.row_file import RowFile
    from streamdyn.pipelines.text_report import write_page
    from streamdyn.pipelines.text_runs import TextRuns
    from streamdyn.text.tasks import TASKS

    _check_asked(task or [], reader or [])
    _one_thread()
    runs = []
    for name in [name for name in task or TASKS if name in TASKS]:
        first = TextRuns(name, data, out, seed=seed, on_epoch=_report)
        # Asked only where it matters: the answer costs reading the task.
        more = range(1, min(folds, first.num_folds) if folds > 1 else 1)
        runs += [
            first,
            *(TextRuns(name, data, out, fold=k, seed=seed, on_epoch=_report) for k in more),
        ]
    wanted = [row for row in ROWS if row in (reader or ROWS)]
    rows = list(bench_text(runs, out, wanted, time_again=time_again, on_row=remark))
    sequences = generated.bench_sequences(
        out,
        rows=[
            row
            for row in generated.ROWS
            if (task is None or row.split("/")[0] in task)
            and (reader is None or row.split("/")[1] in reader)
            and (task is not None or digits is not None or not row.startswith("digits/"))
        ],
        digits=digits,
        seed=seed,
        on_step=remark,
    )
    if page is not None:
        kept = [RowFile(out / name).read() for name in ("rows.jsonl", "sequences.jsonl")]
        write_page(kept[0], page, kept[1])
        remark(f"page: {page}")
    if as_json:
        print_json([*rows, *sequences])
        return
    for name in dict.fromkeys(row["task"] for row in rows):
        show(_table(name, [row for row in rows if row["task"] == name]))
    if sequences:
        show(_sequence_table(sequences))


def _check_asked(tasks: list[str], readers: list[str]) -> None:
    from streamdyn.errors import ConfigError, UnknownName
    from streamdyn.pipelines import bench_sequences as generated
    from streamdyn.pipelines.bench_text import ROWS
    from streamdyn.text.tasks import TASKS

    rows = {name: list(ROWS) for name in TASKS}
    for row in generated.ROWS:
        task, reader = row.split("/")
        rows.setdefault(task, []).append(reader)
    known = {reader for each in rows.values() for reader in each}
    for reader in set(readers) - known:
        raise UnknownName("text reader", reader, known)
    for task in set(tasks) - rows.keys():
        raise UnknownName("text task", task, rows)
    for task in tasks:
        if readers and not set(readers) & set(rows[task]):
            raise ConfigError(
                f"{task} has no row of {' or '.join(readers)}; it has {', '.join(rows[task])}"
            )


def _table(task: str, rows: list[dict[str, Any]]) -> Any:
    cells = []
    for row in rows:
        own, speed = row["as_trained"], row.get("speed", {})
        fifth = row.get("points", {}).get("0.2")
        timed = [
            f"{speed[key]['ratio']:.1f}x" if key in speed else "" for key in ("as_trained", "0.2")
        ]
        cells.append(
            (
                row["row"],
                str(row["fold"]),
                percent(own["accuracy"]),
                percent(own["read_rate"]),
                timed[0],
                percent(fifth["accuracy"]) if fifth else "",
                timed[1],
            )
        )
    return table(
        task,
        "reader", ">fold", ">accuracy", ">read", ">speed", ">accuracy at 20 %", ">speed",
        rows=cells,
    )  # fmt: skip


def _sequence_table(rows: list[dict[str, Any]]) -> Any:
    cells = [
        (
            row["task"],
            row["row"],
            f"{row['score']:.4g}",
            percent(row["read_rate"]),
            percent(row["partial_rate"]),
            f"{row['tokens_touched']:.1f}",
            f"{row['speed']['ratio']:.1f}x",
            {True: "met", False: "missed", None: ""}[row["met"]],
        )
        for row in rows
    ]
    return table(
        "generated sequences (score: accuracy, or the mean squared error of adding)",
        "task", "reader", ">score", ">read", ">partly", ">tokens", ">speed", "target",
        rows=cells,
    )  # fmt: skip


def _report(stage: str, report: Any) -> None:
    remark(
        f"  {stage}, epoch {report.epoch}: loss {report.loss:.3f}, score {report.score:.3f}, "
        f"read {percent(report.read_rate)}, {report.seconds:.0f} s"
    )


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
