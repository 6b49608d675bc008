"""From the share of tokens a user asks for to the knob that a reader understands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamdyn.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Calibration:
    """Mean read rate on held-out documents at each knob; knobs rise, rates do not."""

    knobs: tuple[float, ...] = (0.0,)
    rates: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if len(self.knobs) != len(self.rates) or not self.knobs:
            raise ConfigError(f"{len(self.knobs) = } must equal {len(self.rates) = } and not be 0")
        if any(np.diff(self.knobs) <= 0) or any(np.diff(self.rates) > 0):
            raise ConfigError("knobs must increase and rates must not")

    def knob_for(self, rate: float) -> float:
        """The knob at which the reader reads `rate` of the tokens on average, in (0, 1]."""
        return float(np.interp(-rate, -np.array(self.rates), np.array(self.knobs)))
