"""How a reader is trained: every number in one place."""

from __future__ import annotations

from dataclasses import dataclass

from streamdyn.errors import ConfigError
from streamdyn.nn.gates import Estimator


@dataclass(frozen=True, slots=True)
class Recipe:
    """Numbers of one training; the defaults are for a few thousand short texts."""

    estimator: Estimator | str = "straight_through"
    """Also `oracle`, for a network with an `oracle_loss`."""
    epochs: int = 5
    batch_size: int = 64
    longest: int = 400
    """Tokens a training example is cropped to; evaluation reads all."""
    learning_rate: float = 2e-3
    """Peak of a one-cycle schedule."""
    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest norm of the gradient."""
    word_dropout: float = 0.0
    """Share of the ids that are replaced by the unknown word."""
    target_rate: float | None = None
    """Share of the tokens to read: the weight of the cost is raised while the reader reads more
    than this, and lowered while it reads less."""
    cost_weight: float = 0.0
    """Weight of the cost; with a `target_rate`, where it starts."""
    cost_step: float = 0.01
    """How fast that weight follows a rate that is off the target."""
    cost_gain: float = 3.0
    """What a rate that is off the target adds to that weight at once."""
    anneal: float = 0.4
    """Share of the training in which the cost weight (or the target) is brought in."""
    temperature_last: float = 0.5
    """Gumbel-softmax: falls to this from 1 over the training."""
    entropy_weight: float = 0.01
    """REINFORCE: worth of an undecided policy; falls to a tenth."""
    policy_weight: float = 0.1
    """REINFORCE: weight of the policy's gradient beside the classifier's."""
    knob_spread: float = 0.0
    """Every other batch is read with a knob drawn from so far on either side of 0, at no cost, so
    that the reader learns to answer at any rate."""
    whole_share: float = 0.0
    """Share of those batches that are read in full, so that it answers no worse for reading all."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.target_rate is not None and not 0 < self.target_rate <= 1:
            raise ConfigError(f"target_rate must be in (0, 1], got {self.target_rate}")
        for name in ("epochs", "batch_size", "longest"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
