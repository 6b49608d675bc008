"""Wrap an agent with one knob and turn it until the audits say that the target is met.

After every audit the knob moves by how much the audit fell short of the target or beat it: a
disagreement closes it by nearly one step, an agreement opens it by a small part of one. The two
balance exactly where the share of agreeing items equals the target, whatever the video does, and a
drift is followed at the pace of the step. This is the update of adaptive conformal inference (Gibbs
and Candès 2021, arXiv:2106.00170, equation 2), applied to the logarithm of the knob.

Observed items agree with themselves, so that skipped ones may agree a little less than the target:
`(target - observed) / (1 - observed)`. Audits that stand for more items count for more.

Differs from thresholds calibrated once (NoScope, Reducto): no labelled prefix, no re-profiling.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import exp
from typing import Any

from streamdyn.errors import ConfigError
from streamdyn.observation import AuditSummary, Grade, Observation
from streamdyn.plan import Plan
from streamdyn.protocols import Policy
from streamdyn.registry import build, parts, policy


@dataclass(frozen=True, slots=True)
class TunerState:
    """Where the knob stands, and the audits it has been turned by."""

    value: float
    weight: float = 0.0
    weighted_agreement: float = 0.0
    window_first: int = -1
    """Ordinal of the window being decided: the knob is turned between windows only."""
    inner: Any = None


@policy("agreement")
@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Tune a policy's knob from the run's own audits until the target agreement holds.

    Args:
        target: Agreement with the full pass to hold, in (0, 1).
        inner: Name of a policy that has a `knob`: its name, its finest and coarsest value.
        options: Options of that policy; the knob's value there is where tuning starts.
        step: How far one disagreement turns the knob, in units of its natural logarithm.
        margin: Aim this much above the target.
    """

    target: float = 0.95
    inner: str = "bisect"
    options: dict[str, Any] = field(default_factory=dict)
    step: float = 0.2
    margin: float = 0.005
    name = "agreement"
    version = "1"

    def __post_init__(self) -> None:
        if not 0 < self.target < 1 or self.step <= 0 or self.margin < 0:
            raise ConfigError(
                "agreement needs target in (0, 1), step > 0 and margin >= 0, got "
                f"{self.target = }, {self.step = }, {self.margin = }"
            )
        if not hasattr(self._start(), "knob"):
            tunable = [name for name, part in parts("policy").items() if hasattr(part, "knob")]
            raise ConfigError(
                f"agreement cannot tune policy {self.inner!r}: it has no knob; wrap one that has: "
                f"{', '.join(tunable)}"
            )

    @property
    def previews(self) -> frozenset[Grade]:
        """Those of the inner policy."""
        return frozenset(self._start().previews)

    @property
    def glances(self) -> frozenset[Grade]:
        """Those of the inner policy."""
        return frozenset(self._start().glances)

    @property
    def lookahead(self) -> int:
        """That of the inner policy."""
        return int(self._start().lookahead)

    def initial_state(self) -> TunerState:
        """The knob where the inner policy's options put it."""
        start = self._start()
        return TunerState(float(getattr(start, start.knob[0])), inner=start.initial_state())

    def carry_over(self, state: TunerState) -> TunerState:
        """State to start another stream with: the knob stays where it is."""
        return replace(self.initial_state(), value=state.value)

    def decide(self, obs: Observation, state: TunerState) -> tuple[Plan, TunerState]:
        """Turn the knob between windows, and let the inner policy decide."""
        if obs.audits is None:
            raise ConfigError(
                "policy 'agreement' tunes from audits and this run has none; "
                "set an audit rate (--audit 0.005)"
            )
        if obs.window.first != state.window_first:
            state = self._turn(obs.audits, replace(state, window_first=obs.window.first))
        plan, inner = self._tuned(state.value).decide(obs, state.inner)
        return plan, replace(state, inner=inner)

    def _start(self) -> Any:
        return build("policy", self.inner, **self.options)

    def _tuned(self, value: float) -> Policy[Any]:
        knob = self._start().knob[0]
        whole = isinstance(getattr(self._start(), knob), int)
        options = {**self.options, knob: round(value) if whole else value}
        return build("policy", self.inner, **options)  # type: ignore[no-any-return]

    def _turn(self, audits: AuditSummary, state: TunerState) -> TunerState:
        weight = audits.weight - state.weight
        if weight <= 0:
            return state
        share = audits.share_observed
        required = max(0.0, self.target + self.margin - share) / max(1e-9, 1 - share)
        total = audits.weight * audits.agreement
        beaten_by = (total - state.weighted_agreement - required * weight) / (
            audits.weight / audits.num_audits
        )
        _, finest, coarsest = self._start().knob
        low, high = sorted((finest, coarsest))
        direction = 1 if coarsest > finest else -1
        value = state.value * exp(min(99.0, direction * self.step * beaten_by))
        return replace(
            state,
            value=min(high, max(low, value)),
            weight=audits.weight,
            weighted_agreement=total,
        )
