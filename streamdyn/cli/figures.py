"""Tables of what a run or an index comes to; shared by `index`, `demo` and `list`."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from streamdyn.cli.output import percent, seconds, table
from streamdyn.index.overview import Overview, stage_milliseconds

COUNTS = {
    "demux": "num_demuxed",
    "decode": "num_decoded",
    "convert": "num_converted",
    "preview": "num_glanced",
    "recognize": "num_processed",
}
"""Stage → what is counted in it."""
UNITS = {
    "demux": "packets",
    "decode": "packets",
    "convert": "pictures",
    "preview": "items",
    "recognize": "calls",
}


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
    plan, audits = stage_milliseconds(over.receipt), stage_milliseconds(over.audit_receipt)
    full = _full_pass_stages(over)
    rows = []
    for stage in dict.fromkeys((*plan, *audits)):
        both = over.receipt + over.audit_receipt
        counted = f"{getattr(both, COUNTS[stage]):,} {UNITS[stage]}" if stage in COUNTS else ""
        rows.append(
            (
                stage,
                f"{plan.get(stage, 0.0):,.1f}",
                f"{audits.get(stage, 0.0):,.1f}",
                counted,
                f"{full[stage]:,.1f}" if stage in full else "",
            )
        )
    total = over.full_pass.total_ms if over.full_pass else None
    rows.append(
        (
            "total",
            f"{over.receipt.total_ms:,.1f}",
            f"{over.audit_receipt.total_ms:,.1f}",
            "",
            "" if total is None else f"{total:,.1f}",
        )
    )
    return table(
        "Receipt (milliseconds of work, added up over workers)",
        "stage", ">plan", ">audits", ">executed", ">full pass, estimated",
        rows=rows,
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


def _full_pass_stages(over: Overview) -> dict[str, Any]:
    full = over.full_pass
    if full is None:
        return {}
    return {
        "demux": full.demux_ms,
        "decode": full.decode_ms,
        "convert": full.convert_ms,
        "recognize": full.recognize_ms,
    }
