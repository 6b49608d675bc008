"""How much of a text to read, as a caller says it: a share, a number of tokens or a raw knob."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Final

from streamdyn.errors import ConfigError

UNLIMITED: Final = 1 << 60
"""Tokens; more than any text has."""
READ_ALL: Final = -1e9
"""A knob at which every reader reads every token. Larger ones, of either sign, are cut to it."""
_KINDS = {"rate": Real, "threshold": Real, "target_tokens": Integral}
_NAMES = {Real: "a number", Integral: "a whole number"}


@dataclass(frozen=True, slots=True)
class ReadBudget:
    """One knob at most; without one a reader reads as it was trained."""

    rate: float | None = None
    """Share of the tokens read in full, in (0, 1]."""
    threshold: float | None = None
    """The reader's own knob: larger reads less, 0 is as trained."""
    target_tokens: int | None = None
    """Tokens read in full, at least 1."""

    def __post_init__(self) -> None:
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(given)} are given; give one of them")
        for name in given:
            value, kind = getattr(self, name), _KINDS[name]
            if isinstance(value, bool) or not isinstance(value, kind):
                raise ConfigError(f"{name} must be {_NAMES[kind]}, got {value!r}")
        if self.rate is not None and not 0 < self.rate <= 1:
            raise ConfigError(
                f"rate is the share of the tokens to read, in (0, 1], got {self.rate}; "
                "for a number of tokens use target_tokens"
            )
        if self.target_tokens is not None and self.target_tokens < 1:
            raise ConfigError(f"target_tokens must be at least 1, got {self.target_tokens}")
        if self.threshold in (math.inf, -math.inf) or self.threshold != self.threshold:
            raise ConfigError(f"threshold must be finite, got {self.threshold}")
        for name in given:
            # Numbers of numpy as well: a snapshot stores plain ones.
            value = getattr(self, name)
            if name == "threshold":
                plain: float = float(min(max(value, READ_ALL), -READ_ALL))
            else:
                plain = min(int(value), UNLIMITED) if _KINDS[name] is Integral else float(value)
            object.__setattr__(self, name, plain)

    @property
    def capped(self) -> bool:
        """The number of reads has a hard limit."""
        return self.rate is not None or self.target_tokens is not None

    def cap(self, num_tokens: int) -> int:
        """Tokens that may be read in full out of `num_tokens`."""
        if self.rate is not None:
            # 0.1 * 30 is a little more than 3 in floating point.
            return max(min(1, num_tokens), math.ceil(self.rate * num_tokens - 1e-9))
        return UNLIMITED if self.target_tokens is None else self.target_tokens

    def spent(self, num_reads: int) -> bool:
        """Nothing more may be read, however long the text gets."""
        return self.target_tokens is not None and num_reads >= self.target_tokens

    def knob(self, num_tokens: int | None, knob_for: Callable[[float], float]) -> float:
        """The reader's knob for a text of `num_tokens` tokens; `None`: of unknown length."""
        if self.threshold is not None:
            return float(self.threshold)
        if self.rate is not None:
            return knob_for(self.rate)
        if self.target_tokens is not None and num_tokens:
            return knob_for(min(1.0, self.target_tokens / num_tokens))
        return 0.0
