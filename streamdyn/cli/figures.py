"""Tables of what a run or an index comes to; shared by `index` and `demo`."""

from __future__ import annotations

from rich.table import Table

from streamdyn.cli.output import percent, seconds, table
from streamdyn.index.overview import Overview
from streamdyn.report.figures import receipt_rows


def agreement_text(over: Overview) -> str:
    """The agreement with its interval, or why there is none."""
    if not over.is_measured:
        return "not measured: nothing was audited (--audit RATE)"
    if over.tally.num_observed == over.num_items:
        return "1.000: every item was looked at"
    return str(over.agreement)


def summary_rows(over: Overview) -> list[tuple[str, str]]:
    """What was done, in words and figures."""
    calls = over.receipt.num_processed + over.receipt.num_partial
    audits = over.audit_receipt.num_processed
    rows = [
        ("items", f"{over.num_items:,}"),
        (
            "recognized",
            f"{calls:,} ({percent(over.share_recognized)}), and {audits:,} audits "
            f"({percent(over.share_audited)})",
        ),
        ("agreement with the full pass", agreement_text(over)),
        ("segments", f"{over.num_segments:,}"),
    ]
    if over.num_errors:
        rows.append(("items that could not be decoded", f"{over.num_errors:,}"))
    return rows


def receipt_table(over: Overview) -> Table:
    """Milliseconds and counts by stage, measured; and the estimate of the full pass."""
    rows = [
        (
            row.stage,
            f"{row.plan_ms:,.1f}",
            f"{row.audit_ms:,.1f}",
            row.executed,
            "" if row.full_ms is None else f"{row.full_ms:,.1f}",
        )
        for row in receipt_rows(over)
    ]
    total = (
        "total",
        f"{over.receipt.total_ms:,.1f}",
        f"{over.audit_receipt.total_ms:,.1f}",
        "",
        f"{over.full_pass.total_ms:,.1f}" if over.full_pass else "",
    )
    return table(
        "Receipt (milliseconds of work, added up over workers)",
        "stage", ">plan", ">audits", ">executed", ">full pass, estimated",
        rows=[*rows, total],
    )  # fmt: skip


def estimate_sentence(over: Overview) -> str:
    """What the full pass would have cost, named as the estimate it is."""
    if over.full_pass is None or not over.total_ms:
        return "Full pass: no estimate, since nothing was recognized or decoding is not counted."
    ratio = over.full_pass.total_ms / over.total_ms
    return (
        f"Estimate: a full pass would have taken {seconds(over.full_pass.total_ms)} of work, "
        f"{ratio:.1f} times the {seconds(over.total_ms)} measured here (from the milliseconds a "
        "packet, a picture and a call)."
    )
