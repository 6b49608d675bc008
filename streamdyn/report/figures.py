"""Figures as a report shows them: times as people read them, the receipt as rows and bars."""

from __future__ import annotations

from dataclasses import dataclass

from streamdyn.index.overview import Overview, stage_milliseconds

EXECUTED = {
    "demux": ("num_demuxed", "packets"),
    "decode": ("num_decoded", "packets"),
    "convert": ("num_converted", "pictures"),
    "preview": ("num_glanced", "previews"),
    "recognize": ("num_processed", "calls"),
}
"""Stage → the receipt's count and its unit."""
REMARKABLE = {
    "num_partial": "looked at in part",
    "num_over_budget": "over budget",
    "num_dropped": "dropped",
    "num_restarts": "decoder restarts",
    "num_fallbacks": "open-GOP fallbacks",
    "num_retimed": "retimed",
    "num_seeks": "seeks",
}
"""Counts of a receipt that are mentioned where they are not zero."""


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage of a receipt."""

    stage: str
    plan_ms: float
    audit_ms: float
    executed: str
    """Count and unit; empty where nothing is counted."""
    full_ms: float | None
    """Estimate for the full pass; `None` for a stage that it does not have."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Stages one after another, on the scale of all bars drawn together."""

    name: str
    is_estimate: bool
    total_ms: float
    stages: tuple[tuple[str, float, float], ...]
    """Stage, milliseconds, percent of the scale."""


def duration(milliseconds: float) -> str:
    """Milliseconds as people read them: `12 ms`, `3.4 s`, `2 min 05 s`."""
    if milliseconds < 1000:
        return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def axis_label(seconds: float) -> str:
    """A time on an axis, without what is zero: `12 s`, `12.5 s`, `1:30`, `1:02:00`."""
    hundredths = round(abs(seconds) * 100)
    minutes, rest = divmod(hundredths, 6000)
    sign = "-" if seconds < 0 and hundredths else ""
    text = f"{rest / 100:.2f}".rstrip("0").rstrip(".")
    if not minutes:
        return f"{sign}{text} s"
    hours, minutes = divmod(minutes, 60)
    text = text.zfill(2 if "." not in text else 3 + len(text.partition(".")[2]))
    return f"{sign}{hours}:{minutes:02d}:{text}" if hours else f"{sign}{minutes}:{text}"


def percent(share: float) -> str:
    """`7.2 %`."""
    return f"{100 * share:.1f} %"


def receipt_rows(over: Overview) -> list[StageRow]:
    """Stage by stage: measured milliseconds, what was executed, and the estimated full pass."""
    plan, audits = stage_milliseconds(over.receipt), stage_milliseconds(over.audit_receipt)
    both, full = over.receipt + over.audit_receipt, over.full_pass
    rows = []
    for stage in dict.fromkeys((*plan, *audits)):
        count, unit = EXECUTED.get(stage, ("", ""))
        rows.append(
            StageRow(
                stage,
                plan.get(stage, 0.0),
                audits.get(stage, 0.0),
                f"{getattr(both, count):,} {unit}" if count else "",
                getattr(full, f"{stage}_ms", None),
            )
        )
    return rows


def stage_bars(over: Overview) -> list[Bar]:
    """Two bars on one scale: what was measured, and the estimate of the full pass."""
    rows = receipt_rows(over)
    measured = [(row.stage, row.plan_ms + row.audit_ms) for row in rows]
    full = [(row.stage, row.full_ms) for row in rows if row.full_ms is not None]
    widest = max(over.total_ms, over.full_pass.total_ms if over.full_pass else 0.0) or 1.0

    def bar(name: str, stages: list[tuple[str, float]], *, is_estimate: bool) -> Bar:
        scaled = tuple((stage, ms, 100 * ms / widest) for stage, ms in stages)
        return Bar(name, is_estimate, sum(ms for _, ms in stages), scaled)

    bars = [bar("measured", measured, is_estimate=False)]
    return [*bars, bar("full pass", full, is_estimate=True)] if full else bars


def remarkable(over: Overview) -> list[tuple[str, int]]:
    """What is rarely there and good to know."""
    both = over.receipt + over.audit_receipt
    return [(name, getattr(both, key)) for key, name in REMARKABLE.items() if getattr(both, key)]
