"""`streamdyn demo`: the main job on two real clips, beside the full pass."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from streamdyn.cli.app import app
from streamdyn.cli.options import Json
from streamdyn.cli.output import percent, print_json, remark, show, table

CAREFUL = (
    "The clips are short and cut fast, so the agent looks closely here (bisect, max_doubt 7). "
    "Left to itself (policy agreement, the default of index) it tunes its knob by the audits as it "
    "goes, which takes minutes of video; long quiet video saves far more."
)


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the index and the report are left.")
    ] = Path("streamdyn-demo"),
    as_json: Json = False,
) -> None:
    """Index two real clips, then watch them in full as well, and compare.

    Prints the timeline, the receipt, the agreement (estimated by audits, and exact) and a search
    result, and leaves the index and an HTML report.
    """
    from streamdyn.pipelines.demo import run_demo

    result = run_demo(out, on_step=lambda step: remark(f"{step} ..."))
    if as_json:
        print_json(result)
        return
    for media, segments in result.files:
        show(_timeline(media, segments))
    _print_comparison(result)
    _print_search(result)
    show(
        f"The index is {result.index}; go on with: streamdyn search bird --in {result.index}",
        f"The report is {result.report}; open it in a browser.",
    )


def _timeline(media: Any, segments: Any) -> Any:
    from streamdyn.clock import format_seconds

    rows = [
        (
            format_seconds(media.pts(segment.start_ticks).seconds),
            format_seconds(media.pts(segment.stop_ticks).seconds),
            segment.label,
            f"{segment.score:.2f}",
            f"{segment.num_observed} of {segment.num_observed + segment.num_propagated}",
        )
        for segment in segments
    ]
    size = f"{media.width}x{media.height}, {media.num_items} frames"
    return table(
        f"{media.path}: {size}",
        ">from", ">to", "label", ">score", ">frames looked at",
        rows=rows,
    )  # fmt: skip


def _print_comparison(result: Any) -> None:
    from streamdyn.cli import figures

    over, full = result.over, result.full_over
    show(figures.receipt_table(over))
    both = over.receipt + over.audit_receipt
    rows = [
        ("recognizer calls", f"{both.num_processed:,}", f"{full.receipt.num_processed:,}"),
        ("packets decoded", f"{both.num_decoded:,}", f"{full.receipt.num_decoded:,}"),
        ("pictures converted", f"{both.num_converted:,}", f"{full.receipt.num_converted:,}"),
        ("work, all stages", f"{over.total_ms:,.0f} ms", f"{full.total_ms:,.0f} ms"),
        (
            "wall clock, loading the model included",
            f"{1000 * result.wall_seconds:,.0f} ms",
            f"{1000 * result.full_wall_seconds:,.0f} ms",
        ),
    ]
    show(
        table(
            "Measured: the agent with its audits, and the full pass",
            "what", ">agent", ">full pass",
            rows=rows,
        )
    )  # fmt: skip
    kept = (
        ("looked at", f"{percent(over.share_recognized)} of the frames, and audits: "
         f"{percent(over.share_audited)}"),
        ("agreement, estimated by the audits", figures.agreement_text(over)),
        ("agreement, exact", f"{result.exact_agreement:.3f} ({result.num_agreeing:.0f} of "
         f"{over.num_items} frames)"),
        ("faster", f"{result.speedup:.1f} times by the wall clock, "
         f"{full.total_ms / over.total_ms:.1f} times without loading the model"),
    )  # fmt: skip
    show(table("What it saved, and what it cost", "what", "*figure", rows=kept), CAREFUL, "")


def _print_search(result: Any) -> None:
    from streamdyn.cli.search import hit_table
    from streamdyn.pipelines.demo import QUERY

    show(hit_table(result.hits, f"Search for {QUERY!r} (by words and by meaning)"))
