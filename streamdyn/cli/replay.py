"""`streamdyn replay`: what other policies would have cost and kept, from traces."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any

import typer

from streamdyn.cli import options
from streamdyn.cli.app import app
from streamdyn.cli.output import percent, print_json_lines, show, table


@app.command()
def replay(
    traces: Annotated[
        list[str],
        typer.Argument(metavar="TRACE", help="Files of index --trace DIR, or such folders."),
    ],
    policy: Annotated[
        list[str],
        typer.Option(
            "--policy", metavar="NAME[:KEY=VALUE,...]", help="To replay; may be given again."
        ),
    ],
    budget_share: options.BudgetShare = None,
    budget_items: options.BudgetItems = None,
    audit: options.Audit = None,
    seed: options.Seed = None,
    propagation: options.PropagationOption = None,
    as_json: options.Json = False,
) -> None:
    """Replay traces under other policies, without decoding or recognizing anything.

    Items that nobody looked at in the recorded run are assumed to be like the nearest one that
    somebody did; traces of a full pass (--policy stride:every=1) leave nothing to assume. A policy
    that tunes itself, such as agreement, needs --audit. With --json, a JSON object a line.
    """
    from streamdyn.audit import AuditRule
    from streamdyn.budget import Budget
    from streamdyn.config import PartConfig, parse_part
    from streamdyn.pipelines.replay_traces import find_traces, replay_traces

    results = replay_traces(
        find_traces(traces),
        {text: PartConfig(**parse_part(text)).build("policy") for text in policy},
        budget=Budget(share=budget_share, items=budget_items),
        audit=AuditRule(audit or 0.0, seed or 0),
        propagation="two-sided" if propagation is None else propagation.value,
    )
    if as_json:
        print_json_lines(results)
        return
    for stream, of_stream in groupby(results, key=lambda result: result.stream):
        show(_comparison(stream, list(of_stream)))


def _comparison(stream: str, results: Sequence[Any]) -> Any:
    rows = [
        (
            result.policy,
            percent(result.share_recognized),
            percent(result.num_assumed / max(1, result.num_processed + result.num_audits)),
            f"{result.agreement:.3f}",
            f"{result.num_compared:,}",
            f"{result.num_decoded:,}",
            "" if result.estimated_ms is None else f"{result.estimated_ms:,.0f}",
        )
        for result in results
    ]
    return table(
        f"{stream}: {results[0].num_items:,} items",
        "*policy", ">looked at", ">assumed", ">agreement", ">over items", ">packets",
        ">ms, estimated",
        rows=rows,
    )  # fmt: skip
