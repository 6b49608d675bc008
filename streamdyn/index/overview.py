"""What an index holds in figures: items, shares, agreement, measured and estimated time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from streamdyn.audit import Agreement, AuditTally
from streamdyn.index.reading import IndexReader
from streamdyn.index.records import MediaRow, MediaStatus
from streamdyn.receipt import STAGES, Receipt


@dataclass(frozen=True, slots=True)
class FullPass:
    """Estimate of what looking at every item would have cost; milliseconds, by stage.

    Each item is charged what a packet, a picture and a call cost in the run. That is a little too
    much where mostly keyframes were decoded, which take longer than the packets between them.
    """

    demux_ms: float
    decode_ms: float
    convert_ms: float
    recognize_ms: float

    @property
    def total_ms(self) -> float:
        """Sum of the stages."""
        return self.demux_ms + self.decode_ms + self.convert_ms + self.recognize_ms

    @staticmethod
    def estimate(num_items: int, spent: Receipt) -> FullPass | None:
        """From what was measured, plan and audits together.

        Args:
            num_items: That passed by.
            spent: Measured.

        Returns:
            `None` where nothing was recognized, or the source does not count what it decodes.
        """
        calls = spent.num_processed + spent.num_partial
        if not calls or not spent.num_converted or spent.num_decoded < spent.num_converted:
            return None
        return FullPass(
            spent.demux_ms,
            num_items * spent.decode_ms / spent.num_decoded,
            num_items * spent.convert_ms / spent.num_converted,
            num_items * (spent.recognize_ms + spent.transfer_ms) / calls,
        )


@dataclass(frozen=True, slots=True)
class Overview:
    """Figures over the finished files of an index, or over some of its files."""

    statuses: Mapping[MediaStatus, int]
    """Files of each status; the figures below are of those that are done."""
    num_items: int
    num_segments: int
    num_errors: int
    """Chosen items that could not be decoded."""
    receipt: Receipt
    """What the plans cost, added up over workers."""
    audit_receipt: Receipt
    """What the audits cost, on top."""
    tally: AuditTally
    agreement: Agreement
    """With the full pass, estimated from the audits."""
    full_pass: FullPass | None

    @property
    def share_recognized(self) -> float:
        """Recognizer calls per item that the policy asked for; audits come on top."""
        return self.receipt.share_recognized

    @property
    def share_audited(self) -> float:
        """Audits per item."""
        return self.audit_receipt.num_processed / self.num_items if self.num_items else 0.0

    @property
    def total_ms(self) -> float:
        """Measured work, plan and audits, added up over workers."""
        return self.receipt.total_ms + self.audit_receipt.total_ms

    @property
    def is_measured(self) -> bool:
        """Whether the agreement rests on anything: audits, or a look at every item."""
        return bool(self.num_items) and (
            self.tally.num_audits > 0 or self.tally.num_observed == self.num_items
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        full = self.full_pass
        return {
            "files": dict(self.statuses),
            "num_items": self.num_items,
            "num_segments": self.num_segments,
            "num_errors": self.num_errors,
            "share_recognized": self.share_recognized,
            "share_audited": self.share_audited,
            "agreement": asdict(self.agreement) if self.is_measured else None,
            "receipt": self.receipt.as_dict(),
            "audit_receipt": self.audit_receipt.as_dict(),
            "measured_ms": self.total_ms,
            "estimated_full_pass_ms": None
            if full is None
            else {**asdict(full), "total_ms": full.total_ms},
        }


def overview(index: IndexReader, media: Sequence[MediaRow] | None = None) -> Overview:
    """Figures over some files, by default over all.

    Args:
        index: Where to read.
        media: Files of it.
    """
    rows = index.media() if media is None else media
    done = [row for row in rows if row.status == "done"]
    receipt = sum((index.receipt(row.id, "plan") for row in done), Receipt())
    audits = sum((index.receipt(row.id, "audit") for row in done), Receipt())
    tally = sum((audit_tally(index, row.id) for row in done), AuditTally())
    return Overview(
        statuses=Counter(row.status for row in rows),
        num_items=tally.num_items,
        num_segments=sum(_count(index, "segments", row.id) for row in done),
        num_errors=sum(_count(index, "errors", row.id) for row in done),
        receipt=receipt,
        audit_receipt=audits,
        tally=tally,
        agreement=tally.agreement(),
        full_pass=FullPass.estimate(tally.num_items, receipt + audits),
    )


def audit_tally(index: IndexReader, media_id: str) -> AuditTally:
    """The sums of a file's audits, as its session had them at its end."""
    ((num_items,),) = index.fetch(
        "SELECT coalesce(sum(num_items), 0) FROM windows WHERE media_id = ?", media_id
    )
    tally = AuditTally(num_items, _count(index, "outcomes", media_id))
    for audit in index.audits(media_id):
        tally.add(audit)
    return tally


def stage_milliseconds(receipt: Receipt) -> dict[str, float]:
    """Stage → milliseconds, of the stages that took any."""
    spent = {stage: float(getattr(receipt, f"{stage}_ms")) for stage in STAGES}
    return {stage: milliseconds for stage, milliseconds in spent.items() if milliseconds}


def _count(index: IndexReader, table: str, media_id: str) -> int:
    ((number,),) = index.fetch(f"SELECT count(*) FROM {table} WHERE media_id = ?", media_id)
    return int(number)
