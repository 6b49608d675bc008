"""What skipping cost: process a small random share of the skipped items after all, and compare.

Audits are drawn without state from a hash of (seed, stream, ordinal), so that a resumed run
draws the same. An item's chance falls with the root of what reaching it costs (Neyman's optimal
allocation, Cochran 1977, Sampling Techniques, section 5.5), and its audit weighs the inverse:
otherwise one audit in a GOP that nobody looked into would decode all of it.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError
from streamdyn.items import Block
from streamdyn.observation import AuditSummary
from streamdyn.outcome import Outcome
from streamdyn.timeline import Audit, Propagation

RECOGNIZE_COST_IN_PACKETS = 10
"""Recognizing an item costs about as much as decoding ten (lite0 at 160 px against H.264)."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class AuditRule:
    """How many of the skipped items to look at after all."""

    rate: float = 0.0
    """Share of the skipped items that are decoded already, in [0, 1]; less of dearer ones."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ConfigError(f"audit rate must be in [0, 1], got {self.rate}")

    def chances(self, packets: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """`(N,)` chance of each item to be drawn, given the packets to decode for it."""
        return self.rate / np.sqrt(1 + packets / RECOGNIZE_COST_IN_PACKETS)

    def draws(self, stream: str, ordinals: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """`(N,)` uniform numbers in [0, 1), the same whenever they are asked for."""
        digest = hashlib.sha256(f"{self.seed}\0{stream}".encode()).digest()
        start = np.uint64(int.from_bytes(digest[:8], "little"))
        # SplitMix64: one step from a start that the ordinal sets.
        with np.errstate(over="ignore"):
            z = start + (ordinals.astype(np.uint64) + np.uint64(1)) * _GOLDEN
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) / float(1 << 53)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Estimated agreement of a run with the full pass over the same items, and its interval."""

    estimate: float
    low: float
    high: float
    num_audits: int
    confidence: float = 0.95

    def __str__(self) -> str:
        if self.num_audits == 0:
            return "not audited"
        return (
            f"{self.estimate:.3f} ({self.low:.3f} to {self.high:.3f} at {self.confidence:.0%}, "
            f"{self.num_audits} audits)"
        )


@dataclass(slots=True)
class AuditTally:
    """Sums over the audits of a run; picklable, part of a checkpoint."""

    num_items: int = 0
    num_observed: int = 0
    num_audits: int = 0
    weight: float = 0.0
    weight_squared: float = 0.0
    weighted_agreement: float = 0.0

    def add(self, audit: Audit) -> None:
        """One more audit."""
        self.num_audits += 1
        self.weight += audit.weight
        self.weight_squared += audit.weight**2
        self.weighted_agreement += audit.weight * audit.agreement

    def __add__(self, other: AuditTally) -> AuditTally:
        names = self.__slots__
        return AuditTally(*(getattr(self, name) + getattr(other, name) for name in names))

    def summary(self) -> AuditSummary:
        """As a policy sees it."""
        mean = self.weighted_agreement / self.weight if self.weight else 1.0
        share = self.num_observed / self.num_items if self.num_items else 0.0
        return AuditSummary(self.num_audits, self.weight, mean, share)

    def agreement(self) -> Agreement:
        """Over all items: observed ones agree with themselves, skipped ones as the audits say.

        The interval is Wilson's, with Kish's effective number of audits, since weights differ.
        """
        seen = self.summary()
        skipped = 1 - seen.share_observed
        if skipped == 0 and self.num_items:
            return Agreement(1.0, 1.0, 1.0, self.num_audits)
        effective = self.weight**2 / self.weight_squared if self.weight_squared else 0.0
        low, high = wilson_interval(seen.agreement, effective)
        known = seen.share_observed
        return Agreement(
            known + skipped * seen.agreement,
            known + skipped * low,
            known + skipped * high,
            self.num_audits,
        )


@dataclass(slots=True)
class PendingAudit:
    """An audited item whose right neighbour is not known yet."""

    looked_up: Outcome
    weight: float
    left: Outcome | None


class AuditDesk:
    """Draws the audits of a session and compares them once both neighbours are known.

    Args:
        rule: How many.
        propagation: Which neighbours stand in for a skipped item.
        agree: The recognizer's agreement of a propagated outcome with one looked up.
        tally: Where the sums go.
        pending: Audits that wait for a right neighbour; kept up to date.
    """

    def __init__(
        self,
        rule: AuditRule,
        propagation: Propagation,
        agree: Callable[[Outcome, Outcome], float],
        tally: AuditTally,
        pending: list[PendingAudit],
    ) -> None:
        self._rule, self._propagation, self._agree = rule, propagation, agree
        self._tally, self._pending = tally, pending

    def summary(self) -> AuditSummary | None:
        """As a policy sees it; `None` where nothing is audited."""
        return self._tally.summary() if self._rule.rate else None

    def draw(
        self, block: Block, skipped: npt.NDArray[np.int64], packets: npt.NDArray[np.int32]
    ) -> dict[int, float]:
        """Ordinal → weight of the skipped items of a block to look at after all.

        Args:
            block: The closed items.
            skipped: Indices in it.
            packets: `(N,)` packets to decode for each of its items.
        """
        if not self._rule.rate:
            return {}
        ordinals = block.first + skipped
        chances = self._rule.chances(packets[skipped])
        drawn = self._rule.draws(block.stream, ordinals) < chances
        weights = 1 / chances[drawn]
        return dict(zip(ordinals[drawn].tolist(), weights.tolist(), strict=True))

    def settle(
        self,
        left: Outcome | None,
        outcomes: Sequence[Outcome],
        looked_up: Iterable[PendingAudit],
        *,
        final: bool,
    ) -> tuple[Audit, ...]:
        """Compare what can be compared now.

        Args:
            left: The last outcome before the window.
            outcomes: Those of the window, in order.
            looked_up: New audits in it.
            final: Nothing comes after: the left neighbour has to do.
        """
        ordinals = [outcome.ordinal for outcome in outcomes]
        waiting, decided = [], []
        for pending in self._pending:
            waiting.append((pending, outcomes[0] if outcomes else None))
        for pending in looked_up:
            place = bisect_right(ordinals, pending.looked_up.ordinal)
            pending.left = outcomes[place - 1] if place else left
            waiting.append((pending, outcomes[place] if place < len(outcomes) else None))
        self._pending.clear()
        for pending, right in waiting:
            if right is None and not final and self._propagation == "two-sided":
                self._pending.append(pending)
            else:
                decided.append(self._compare(pending, right))
        for audit in decided:
            self._tally.add(audit)
        return tuple(decided)

    def _compare(self, pending: PendingAudit, right: Outcome | None) -> Audit:
        found, source = pending.looked_up, pending.left
        if right is not None and self._propagation == "two-sided":
            nearer = source is None or (
                right.pts.exact - found.pts.exact < found.pts.exact - source.pts.exact
            )
            source = right if nearer else source
        return Audit(
            found.ordinal,
            found.pts.ticks,
            self._agree(source, found) if source is not None else 0.0,
            pending.weight,
            source.ordinal if source is not None else -1,
            source.label if source is not None else "",
            found.label,
        )


def wilson_interval(share: float, n: float, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927, JASA 22).

    Args:
        share: Observed proportion, in [0, 1].
        n: Number of trials; may be an effective number.
        z: Normal quantile; the default gives 95 %.
    """
    if n <= 0:
        return 0.0, 1.0
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
