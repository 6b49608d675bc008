"""Under load the budget shrinks first: the agent skips smarter before anything is dropped."""

from __future__ import annotations

from dataclasses import dataclass, replace

from streamdyn.budget import Budget, BudgetMeter
from streamdyn.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LoadRule:
    """How the share of items that may be recognized follows the lag.

    Additive increase, multiplicative decrease, as TCP does (Jacobson 1988, section 3), so that
    streams that share a recognizer come to fair shares without knowing of one another.

    Args:
        target_lag_seconds: Of media that waits: above it the share shrinks, below half of it it
            grows.
        shrink: Factor, in (0, 1).
        grow: Added.
        least_share: It does not shrink below.
        every_seconds: Of media time between two changes.
    """

    target_lag_seconds: float = 2.0
    shrink: float = 0.7
    grow: float = 0.02
    least_share: float = 0.005
    every_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.shrink < 1 and 0 < self.least_share <= 1 and self.grow > 0):
            raise ConfigError(
                f"load needs shrink in (0, 1), least_share in (0, 1] and grow > 0, got {self}"
            )


@dataclass(slots=True)
class LoadControl:
    """Keeps the share of one stream; audits come out of it.

    Args:
        rule: How.
        budget: As configured; its share is the most that is given.
        audit_rate: Share of the skipped items that is looked at after all.
    """

    rule: LoadRule
    budget: Budget
    audit_rate: float = 0.0
    share: float = 1.0
    """In force now, audits included."""
    _changed_at: float = float("-inf")

    def start(self) -> Budget:
        """What a stream begins with."""
        return replace(self.budget, share=self._planned(self.budget.share))

    def _planned(self, share: float | None) -> float | None:
        """What is left for plans of a share that audits are to fit in."""
        if share is None or share >= 1:
            return share
        return max(share - self.audit_rate, min(share, self.rule.least_share))

    def resume(self, meter: BudgetMeter) -> None:
        """Go on with the share of an earlier run."""
        planned = meter.budget.share
        self.share = 1.0 if planned is None else min(1.0, planned + self.audit_rate)

    def follow(self, meter: BudgetMeter, lag_seconds: float, media_seconds: float) -> BudgetMeter:
        """The meter to go on with: the same one, or one of another share.

        Args:
            meter: In use.
            lag_seconds: Media time that has come and was not watched.
            media_seconds: Time of the stream now.
        """
        most = self.budget.share or 1.0
        share = min(self.share, most)
        if media_seconds - self._changed_at < self.rule.every_seconds:
            return meter
        if lag_seconds > self.rule.target_lag_seconds:
            share = max(self.rule.least_share, share * self.rule.shrink)
        elif lag_seconds < self.rule.target_lag_seconds / 2:
            share = min(most, share + self.rule.grow)
        if share == self.share:
            return meter
        self.share, self._changed_at = share, media_seconds
        # From now on: what was spent at another share is not made up for.
        limited = self._planned(share if share < 1 else self.budget.share)
        items = meter.budget.items
        left = None if items is None else max(0, items - meter.items_spent)
        return BudgetMeter(replace(self.budget, share=limited, items=left))
