"""One trainer for all readers: task loss, what reading costs, and how the gates get a gradient."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from streamdyn.errors import ConfigError
from streamdyn.learning.alarms import Alarm, collapses
from streamdyn.learning.examples import Batch, Examples, batches
from streamdyn.learning.recipe import Recipe
from streamdyn.nn.gates import Sampling
from streamdyn.text.budget_knob import READ_ALL
from streamdyn.text.network import Masked
from streamdyn.text.words import UNKNOWN_ID

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class EpochReport:
    """Means over one epoch."""

    epoch: int
    loss: float
    """Of the task."""
    score: float
    """Accuracy, or the negative mean squared error of a regression, on training batches."""
    read_rate: float
    revisits: float
    cost_weight: float
    """At the end of the epoch."""
    seconds: float
    alarms: list[Alarm] = field(default_factory=list)


@dataclass(slots=True)
class _Progress:
    epoch: int = 0
    step: int = 0
    cost_weight: float = 0.0
    reward_mean: float = 0.0
    reports: list[EpochReport] = field(default_factory=list)


class Trainer:
    """Trains a network by a recipe; may be interrupted after any epoch and go on.

    Args:
        network: Anything with `masked(inputs, lengths, sampling) -> Masked`.
        examples: What to learn from.
        recipe: How.
        checkpoint: File that holds the state after each epoch; one that is there is gone on with.
        on_epoch: Called with each report.

    Raises:
        ConfigError: The network cannot learn by the recipe's estimator, or the checkpoint is of
            another recipe.
    """

    def __init__(
        self,
        network: Any,
        examples: Examples,
        recipe: Recipe,
        *,
        checkpoint: Path | None = None,
        on_epoch: Callable[[EpochReport], None] | None = None,
    ) -> None:
        if recipe.estimator not in ("greedy", *network.estimators):
            raise ConfigError(
                f"{network.name} learns by {', '.join(network.estimators)}, not by "
                f"{recipe.estimator!r}"
            )
        self._network, self._examples, self._recipe = network, examples, recipe
        self._checkpoint, self._on_epoch = checkpoint, on_epoch
        self._noise = torch.Generator().manual_seed(recipe.seed)
        self._order = np.random.default_rng(recipe.seed)
        parameters = [p for p in network.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self._steps = recipe.epochs * -(-len(examples) // recipe.batch_size)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, recipe.learning_rate, total_steps=self._steps + 1, pct_start=0.15
        )
        self._progress = _Progress(cost_weight=recipe.cost_weight)
        if checkpoint is not None and checkpoint.exists():
            self._load(checkpoint)

    def run(self) -> list[EpochReport]:
        """All epochs that are left; the reports of all."""
        progress = self._progress
        while progress.epoch < self._recipe.epochs:
            report = self._run_epoch()
            progress.reports.append(report)
            rates = [r.read_rate for r in progress.reports]
            # While the target is being brought in, reading all is no collapse.
            brought_in = progress.step >= self._recipe.anneal * self._steps
            target = self._recipe.target_rate if brought_in else None
            report.alarms = collapses(rates, report.revisits, target_rate=target)
            for alarm in report.alarms:
                logger.warning("%s: %s", self._network.name, alarm)
            progress.epoch += 1
            if self._checkpoint is not None:
                self._save(self._checkpoint)
            if self._on_epoch is not None:
                self._on_epoch(report)
        self._network.eval()
        return progress.reports

    def _run_epoch(self) -> EpochReport:
        self._network.train()
        began = time.perf_counter()
        sums, rows = np.zeros(4), 0
        for batch in self._batches():
            figures = self._learn(batch)
            sums += np.array(figures) * len(batch.lengths)
            rows += len(batch.lengths)
        loss, score, rate, revisits = (sums / rows).tolist()
        weight = self._progress.cost_weight
        seconds = time.perf_counter() - began
        return EpochReport(self._progress.epoch, loss, score, rate, revisits, weight, seconds)

    def _batches(self) -> Iterator[Batch]:
        recipe = self._recipe
        return batches(
            self._examples, recipe.batch_size, longest=recipe.longest, generator=self._order
        )

    def _learn(self, batch: Batch) -> tuple[float, float, float, float]:
        recipe, progress, network = self._recipe, self._progress, self._network
        share = progress.step / self._steps
        if hasattr(network, "set_progress"):
            network.set_progress(share)
        inputs = self._drop_words(batch.inputs)
        drawn = self._drawn_knob()
        out: Masked = network.masked(inputs, batch.lengths, self._sampling(share, drawn))
        task_losses = _task_losses(out.logits, batch.targets)  # (B,)
        rate = out.cost.mean()
        loss = task_losses.mean()
        if recipe.estimator == "oracle":
            loss = loss + network.oracle_loss(inputs, batch.lengths, batch.targets)
        off = self._follow_target(float(rate.detach()), share) if drawn == 0 else 0.0
        if out.log_prob is not None:
            loss = loss + recipe.policy_weight * self._policy_loss(out, batch.targets, share, off)
        elif drawn == 0:
            loss = loss + self._weight(share, off) * rate
        if out.extra_loss is not None:
            loss = loss + out.extra_loss
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._optimizer.param_groups[0]["params"], recipe.clip)
        self._optimizer.step()
        self._schedule.step()
        progress.step += 1
        score = _scores(out.logits.detach(), batch.targets).mean()
        return float(task_losses.detach().mean()), float(score), float(rate.detach()), out.revisits

    def _drop_words(self, inputs: Tensor) -> Tensor:
        if not self._recipe.word_dropout or inputs.is_floating_point():
            return inputs
        dropped = torch.rand(inputs.shape, generator=self._noise) < self._recipe.word_dropout
        return torch.where(dropped & (inputs > 0), UNKNOWN_ID, inputs)

    def _drawn_knob(self) -> float:
        spread = self._recipe.knob_spread
        if not spread or self._progress.step % 2 == 0:
            return 0.0
        if self._recipe.whole_share and self._random() < self._recipe.whole_share:
            return READ_ALL
        return spread * (2.0 * self._random() - 1.0)

    def _random(self) -> float:
        return float(torch.rand((), generator=self._noise))

    def _sampling(self, share: float, knob: float) -> Sampling:
        estimator: Any = self._recipe.estimator
        temperature = 1.0 - share * (1.0 - self._recipe.temperature_last)
        if estimator == "oracle":
            estimator = "greedy"
        return Sampling(estimator, temperature, knob, self._noise)

    def _brought_in(self, share: float) -> float:
        return min(1.0, share / self._recipe.anneal) if self._recipe.anneal else 1.0

    def _weight(self, share: float, off: float) -> float:
        if self._recipe.target_rate is not None:
            # May turn negative: a reader that reads too little is drawn back.
            return self._progress.cost_weight + self._recipe.cost_gain * off
        return self._recipe.cost_weight * self._brought_in(share)

    def _follow_target(self, rate: float, share: float) -> float:
        """Raise the cost's weight while the rate is above the target; how far it is above."""
        target, progress = self._recipe.target_rate, self._progress
        if target is None:
            return 0.0
        off = rate - 1.0 + self._brought_in(share) * (1.0 - target)
        raised = progress.cost_weight + self._recipe.cost_step * off
        progress.cost_weight = min(max(raised, -1.0), 20.0)
        return off

    def _policy_loss(self, out: Masked, targets: Tensor, share: float, off: float) -> Tensor:
        """REINFORCE with a baseline: a right answer is worth 1, a wrong one -1, less the cost."""
        reward = 2.0 * _scores(out.logits.detach(), targets) - 1.0
        reward = reward - self._weight(share, off) * out.cost.detach()  # (B,)
        mean = float(reward.mean())
        progress = self._progress
        progress.reward_mean += 0.1 * (mean - progress.reward_mean)
        if out.baseline is None:
            advantage = reward - progress.reward_mean
            loss = reward.new_zeros(())
        else:
            advantage = reward - out.baseline.detach()
            loss = (out.baseline - reward).square().mean()
        assert out.log_prob is not None
        loss = loss - (advantage * out.log_prob).mean()
        if out.entropy is not None:
            entropy_weight = self._recipe.entropy_weight * (1.0 - 0.9 * share)
            loss = loss - entropy_weight * out.entropy.mean()
        return loss

    def _save(self, path: Path) -> None:
        state = {
            "recipe": repr(self._recipe),
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "noise": self._noise.get_state(),
            "order": self._order.bit_generator.state,
            "progress": (
                self._progress.epoch,
                self._progress.step,
                self._progress.cost_weight,
                self._progress.reward_mean,
            ),
            "reports": [
                (r.epoch, r.loss, r.score, r.read_rate, r.revisits, r.cost_weight, r.seconds)
                for r in self._progress.reports
            ],
        }
        temporary = path.with_suffix(path.suffix + ".part")
        torch.save(state, temporary)
        temporary.replace(path)

    def _load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        if state["recipe"] != repr(self._recipe):
            raise ConfigError(
                f"the checkpoint {path} is of another recipe; remove it or train by the same one"
            )
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._noise.set_state(state["noise"])
        self._order.bit_generator.state = state["order"]
        reports = [EpochReport(*values) for values in state["reports"]]
        epoch, step, cost_weight, reward_mean = state["progress"]
        self._progress = _Progress(epoch, step, cost_weight, reward_mean, reports)


def _task_losses(logits: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        return (logits - targets).square().mean(1)
    return nn.functional.cross_entropy(logits, targets, reduction="none")


def _scores(logits: Tensor, targets: Tensor) -> Tensor:
    """`(B,)`: 1 for a right label; a regression's negative squared error."""
    if targets.is_floating_point():
        return -(logits - targets).square().mean(1)
    return (logits.argmax(1) == targets).to(logits.dtype)
