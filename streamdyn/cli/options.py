"""Options that several commands share, and the configuration that they add up to."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

PARTS = "Parts"
SPENDING = "Budget and audits"


class Propagation(StrEnum):
    """Which neighbours may stand in for a skipped item."""

    TWO_SIDED = "two-sided"
    FORWARD = "forward"


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
In = Annotated[Path, typer.Option("--in", metavar="FILE", help="The index to read.")]
Clips = Annotated[
    Path,
    typer.Argument(metavar="CLIPS", help="Folder with labels.csv, or a folder for each class."),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="TOML",
        help="Configuration file; options given here win over it.",
        rich_help_panel=PARTS,
    ),
]
Policy = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="NAME[:KEY=VALUE,...]",
        help="The agent that chooses; see: streamdyn policies.",
        rich_help_panel=PARTS,
    ),
]
Recognizer = Annotated[
    str | None,
    typer.Option(
        "--recognizer",
        metavar="NAME[:KEY=VALUE,...]",
        help="The model that looks at what was chosen; see: streamdyn recognizers.",
        rich_help_panel=PARTS,
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="NAME[:KEY=VALUE,...]",
        help="How files are read; see: streamdyn sources.",
        rich_help_panel=PARTS,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="cpu|cuda", help="Where the model runs.", rich_help_panel=PARTS
    ),
]
TargetAgreement = Annotated[
    float | None,
    typer.Option(
        "--target-agreement",
        metavar="SHARE",
        help="Agreement with the full pass to hold, such as 0.95: the policy's knob is tuned from "
        "the audits until it does.",
        rich_help_panel=SPENDING,
    ),
]
Audit = Annotated[
    float | None,
    typer.Option(
        "--audit",
        metavar="RATE",
        help="Share of the skipped items to look at after all, in [0, 1]: measures the agreement.",
        rich_help_panel=SPENDING,
    ),
]
BudgetShare = Annotated[
    float | None,
    typer.Option(
        "--budget-share",
        metavar="SHARE",
        help="At most this share of the items, in (0, 1].",
        rich_help_panel=SPENDING,
    ),
]
BudgetItems = Annotated[
    int | None,
    typer.Option(
        "--budget-items",
        metavar="N",
        help="At most this many items of each file.",
        rich_help_panel=SPENDING,
    ),
]
BudgetMs = Annotated[
    float | None,
    typer.Option(
        "--budget-ms",
        metavar="MS",
        help="At most this many milliseconds of work a second of media.",
        rich_help_panel=SPENDING,
    ),
]
PropagationOption = Annotated[
    Propagation | None,
    typer.Option(
        "--propagation",
        metavar="two-sided|forward",
        help="Which neighbours may stand in for a skipped item.",
        rich_help_panel=SPENDING,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="Draws the audits.", rich_help_panel=SPENDING, min=0),
]


def overrides(
    *,
    policy: str | None = None,
    recognizer: str | None = None,
    source: str | None = None,
    device: str | None = None,
    audit: float | None = None,
    budget_share: float | None = None,
    budget_items: int | None = None,
    budget_ms: float | None = None,
    propagation: Propagation | None = None,
    seed: int | None = None,
    split: float | None = None,
) -> dict[str, Any]:
    """What was given on the command line, as a configuration table.

    Raises:
        ConfigError: A part's option without `=`.
    """
    from streamdyn.config import parse_part

    parts = {"policy": policy, "recognizer": recognizer, "source": source}
    table: dict[str, Any] = {name: parse_part(text) for name, text in parts.items() if text}
    limits = {"share": budget_share, "items": budget_items, "ms_per_media_second": budget_ms}
    budget = {name: value for name, value in limits.items() if value is not None}
    if budget:
        table["budget"] = budget
    rest = {
        "device": device,
        "audit": audit,
        "seed": seed,
        "split_seconds": split,
        "propagation": None if propagation is None else propagation.value,
    }
    return {**table, **{name: value for name, value in rest.items() if value is not None}}


def run_config(
    config: Path | None, given: dict[str, Any], target_agreement: float | None = None
) -> Any:
    """The configuration of a run.

    Args:
        config: TOML file, or nothing.
        given: From `overrides`.
        target_agreement: Makes the policy tune itself until this holds.

    Returns:
        A `RunConfig`.

    Raises:
        ConfigError: A wrong file, key, value or part.
    """
    from streamdyn.config import load_config, with_target

    resolved = load_config(config, given)
    return resolved if target_agreement is None else with_target(resolved, target_agreement)
