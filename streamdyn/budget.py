"""How much may be spent: a share of the items, a number of them, or time per media second."""

from __future__ import annotations

from dataclasses import dataclass

from streamdyn.errors import ConfigError
from streamdyn.observation import BudgetLeft
from streamdyn.receipt import Receipt


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits that the engine keeps whatever a policy asks for; audits come on top.

    What a policy chose and the budget refused is skipped and counted as `num_over_budget`; where
    only some of a plan fits, the items with the highest scores are kept (the earliest, if the
    policy gave none).
    """

    share: float | None = None
    """Of the items that were shown to the policy or hopped over by now, in (0, 1]."""
    items: int | None = None
    """Recognizer calls over the whole stream."""
    ms_per_media_second: float | None = None
    """Measured milliseconds of decode, convert, preview, policy and recognize."""

    def __post_init__(self) -> None:
        if self.share is not None and not 0 < self.share <= 1:
            raise ConfigError(f"budget share must be in (0, 1], got {self.share}")
        for name in ("items", "ms_per_media_second"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"budget {name} must not be negative, got {value}")


@dataclass(slots=True)
class BudgetMeter:
    """What was spent of a budget; picklable, part of a checkpoint."""

    budget: Budget
    items_seen: int = 0
    items_spent: int = 0
    media_seconds: float = 0.0
    milliseconds_spent: float = 0.0

    def pass_by(self, num_items: int, media_seconds: float) -> None:
        """Items came into view, and their allowance with them."""
        self.items_seen += num_items
        self.media_seconds += media_seconds

    def give_back(self, num_items: int, media_seconds: float) -> None:
        """Items went back to the stream undecided."""
        self.pass_by(-num_items, -media_seconds)

    def spend(self, receipt: Receipt) -> None:
        """Something was carried out."""
        self.items_spent += receipt.num_processed + receipt.num_partial
        elsewhere = receipt.sink_ms + receipt.demux_ms + receipt.queue_ms + receipt.transfer_ms
        self.milliseconds_spent += receipt.total_ms - elsewhere

    def left(self) -> BudgetLeft:
        """What may still be spent by now."""
        limits = []
        if self.budget.share is not None:
            limits.append(int(self.budget.share * self.items_seen + 1e-9))
        if self.budget.items is not None:
            limits.append(self.budget.items)
        milliseconds = None
        if self.budget.ms_per_media_second is not None:
            allowance = self.budget.ms_per_media_second * self.media_seconds
            milliseconds = max(0.0, allowance - self.milliseconds_spent)
            each = self.milliseconds_spent / self.items_spent if self.items_spent else 0.0
            affordable = int(milliseconds / each) if each else int(milliseconds > 0)
            limits.append(self.items_spent + affordable)
        items = max(0, min(limits) - self.items_spent) if limits else None
        return BudgetLeft(items, milliseconds)
