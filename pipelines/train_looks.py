"""Train agents that choose where to look, on kept features.

All rehearse on streams whose items were judged by heads that have not seen them. Of those that
learn in rounds the best round is kept, by streams that it was not taught on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from streamdyn.learning.perceptrons import Ensemble, PerceptronRecipe, fit_perceptrons, scaled
from streamdyn.learning.rounds import NOTHING_KEPT, Best, Rounds
from streamdyn.learning.subsets import draw_subsets, subset_log_prob
from streamdyn.nn.perceptrons import Perceptrons
from streamdyn.pipelines.rehearsal import Rehearsal
from streamdyn.previews.hops import MEMORY, NUM_HOPS, hop_features

Array = npt.NDArray[Any]
Taught = TypeVar("Taught")
OnRound = Callable[[int, float], None]
PARTS = 48
"""Places that are told apart in a file."""
MOST_LOOKS = 16
ROUNDS = 5
EXPLORE = 0.3
"""Share of the looks that are drawn."""
DISCOUNT = 0.8
"""Of what comes ten units later, in `ffnet`: a longer hop is paid for by what is missed."""
WORTH = (-2.0, 4.0)
"""Of a hop in the long run, least and greatest that are told apart."""
PRICES = (0.003, 0.1)
"""Least and greatest price of a millisecond that `ffnet` is taught at."""
BATCH = 16
"""Streams in a step of REINFORCE."""
ENTROPY = 0.001
JUDGED_AT = 8
"""Looks at which rounds are compared."""


def split(taught: Sequence[Taught]) -> tuple[list[Taught], list[Taught]]:
    """Three of four to learn from, the fourth to choose a round by; all of too few."""
    if len(taught) < 8:
        return list(taught), list(taught)
    held = set(range(3, len(taught), 4))
    learn = [one for k, one in enumerate(taught) if k not in held]
    return learn, [one for k, one in enumerate(taught) if k in held]


# Coarse to fine.


def fit_liteeval(
    taught: Sequence[Rehearsal],
    seed: int = 0,
    on_epoch: OnRound = lambda epoch, loss: None,
    kept: Rounds = NOTHING_KEPT,
) -> dict[str, Array]:
    """Perceptrons that know by small grey pictures which ones show an action.

    Args:
        taught: Streams.
        seed: Of weights and order.
        on_epoch: Told the number of the epoch and its mean loss.
        kept: What was done before.
    """
    rows = [one.coarse(one.places(PARTS)) for one in taught]
    inside = [one.lesson.inside[one.places(PARTS)] for one in taught]
    x, y = np.concatenate(rows), np.concatenate(inside).astype(np.float32)
    recipe = PerceptronRecipe(seed=seed, epochs=15)
    return fit_perceptrons(x, y, np.ones(len(y)), recipe, on_epoch, kept)


# Pre-sampling.


def fit_ocsampler(
    taught: Sequence[Rehearsal],
    start: dict[str, Array],
    seed: int,
    on_round: OnRound,
    *,
    k: int = 6,
    rounds: int = 30,
    draws: int = 8,
    kept: Rounds = NOTHING_KEPT,
) -> dict[str, Array]:
    """Perceptrons whose best `k` places are worth most as a set; REINFORCE.

    Args:
        taught: Streams.
        start: Perceptrons to start from, over the same columns.
        seed: Of what is drawn.
        on_round: Told the number of the round and the mean reward.
        k: Looks in a set.
        rounds: Times that all streams are gone through.
        draws: Sets a stream and round.
        kept: What was done before.
    """
    learn, held = split(taught)
    noise = torch.Generator().manual_seed(seed)
    network = Ensemble(start["mean"].shape[0], start["first"].shape[1], len(start["first"]))
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.copy_(torch.from_numpy(start[name]))
    network.eval()
    mean, scale = start["mean"], start["scale"]
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-3)
    usual = [one.share_right(one.places(k).tolist()) for one in learn]

    best = Best()
    best.offer(start, _worth_of_set(held, start, k))
    parts = {"network": network, "optimizer": optimizer, "noise": noise, "best": best}
    for number in kept.over("sets", rounds, **parts):
        rewards = []
        order = torch.randperm(len(learn), generator=noise).tolist()
        for first in range(0, len(order), BATCH):
            losses = []
            for place in order[first : first + BATCH]:
                one = learn[place]
                places = one.places(PARTS)
                likely = network(scaled(one.packets[places], mean, scale)).sigmoid().mean(0)
                # The order of the executed scores; the set is drawn in proportion to them.
                logits = torch.logit(likely, 1e-6).expand(draws, -1)
                chosen = draw_subsets(logits.detach(), min(k, len(places) - 1), noise)
                worth = [one.share_right(places[row].tolist()) for row in chosen.numpy()]
                reward = torch.tensor(worth) - usual[place]
                rewards.append(float(reward.mean()))
                advantage = (reward - reward.mean()).to(logits.dtype)
                loss = -(advantage * subset_log_prob(logits, chosen)).mean()
                entropy = -(logits[0].softmax(0) * logits[0].log_softmax(0)).sum()
                losses.append(loss - ENTROPY * entropy)
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        on_round(number, float(np.mean(rewards)))
        arrays = network.arrays(mean, scale)
        best.offer(arrays, _worth_of_set(held, arrays, k))
    return best.arrays


def _worth_of_set(held: Sequence[Rehearsal], arrays: dict[str, Array], k: int) -> float:
    scored = Perceptrons(**arrays)
    worth = []
    for one in held:
        places = one.places(PARTS)
        best = np.argsort(-scored(one.packets[places]), kind="stable")[:k]
        worth.append(one.share_right(places[best].tolist()))
    return float(np.mean(worth))


# Jumps to anywhere.


def fit_adaframe(
    taught: Sequence[Rehearsal],
    seed: int,
    on_round: OnRound,
    *,
    rounds: int = ROUNDS,
    kept: Rounds = NOTHING_KEPT,
) -> dict[str, Array]:
    """Perceptrons that foresee what share of the evidence shows an action after one more look.

    Args:
        taught: Streams.
        seed: Of weights and of what is drawn.
        on_round: Told the number of the round and the share after `JUDGED_AT` looks, on streams
            that were held out.
        rounds: Each looks as the one before has learned, explores, and learns from all so far.
        kept: What was done before.
    """
    learn, held = split(taught)
    dice = np.random.default_rng(seed)
    rows: list[Array] = []
    shares: list[Array] = []
    best, foresee = Best(), None
    for number in range(rounds):
        for one in learn:
            looks = jumps(one, foresee, MOST_LOOKS, dice)
            places = one.places(PARTS)
            for count in range(len(looks)):
                free = np.flatnonzero(~np.isin(places, looks[:count]))
                tried = dice.choice(free, min(16, len(free)), replace=False)
                rows.append(one.features(places, looks[:count])[tried])
                after = [one.share_inside([*looks[:count], int(places[c])]) for c in tried]
                shares.append(np.array(after))
        x, y = np.concatenate(rows), np.concatenate(shares)
        recipe = PerceptronRecipe(seed=seed + number, epochs=4)
        fitted = partial(fit_perceptrons, x, y, np.ones(len(y)), recipe)
        arrays = kept.once(f"jumps-{number}", fitted)
        foresee = Perceptrons(**arrays)
        worth = float(np.mean([one.share_inside(jumps(one, foresee, JUDGED_AT)) for one in held]))
        on_round(number, worth)
        best.offer(arrays, worth)
    return best.arrays


def jumps(
    one: Rehearsal,
    foresee: Perceptrons | None,
    count: int,
    dice: np.random.Generator | None = None,
) -> list[int]:
    """Rows that the agent looks at, in order.

    Args:
        one: The stream.
        foresee: Perceptrons; `None`: looks are drawn.
        count: Most looks.
        dice: For exploring; without them the best place is always taken.
    """
    places = one.places(PARTS)
    looks: list[int] = []
    for _ in range(min(count, len(places))):
        free = np.flatnonzero(~np.isin(places, looks))
        if foresee is None or (dice is not None and dice.random() < EXPLORE):
            assert dice is not None
            chosen = int(dice.choice(free))
        else:
            chosen = int(free[foresee(one.features(places, looks))[free].argmax()])
        looks.append(int(places[chosen]))
    return looks


# Hops ahead.


@dataclass(frozen=True, slots=True, eq=False)
class Hop:
    """One of those through a stream."""

    features: Array
    """`(F,)`."""
    units: int
    reward: float
    following: Array
    """`(H, F)`, of the hops that may come next; H is 0 at the end."""


def fit_ffnet(
    taught: Sequence[Rehearsal],
    seed: int,
    on_round: OnRound,
    *,
    unit: int = 3,
    rounds: int = 10,
    kept: Rounds = NOTHING_KEPT,
) -> dict[str, Array]:
    """Perceptrons of what a hop is worth in the long run, between 0 and 1; fitted Q iteration.

    Paper: Ernst et al. 2005, Tree-Based Batch Mode Reinforcement Learning, section 3.

    Args:
        taught: Streams.
        seed: Of weights and of what is drawn.
        on_round: Told the number of the round and the mean reward of streams that were held out.
        unit: Items of the shortest hop.
        rounds: Each hops as the one before has learned, explores, and learns from all so far.
        kept: What was done before.
    """
    learn, held = split(taught)
    dice = np.random.default_rng(seed)
    taken: list[Hop] = []
    best, worth_of = Best(), None
    for number in range(rounds):
        explore = 1.0 if worth_of is None else max(0.1, 1 - number / 3)
        for one in learn:
            taken += hops(one, worth_of, unit, _price(dice), dice, explore)
        x = np.stack([hop.features for hop in taken])
        rewards = np.array([hop.reward for hop in taken])
        discounts = np.array([DISCOUNT ** (hop.units / 10) for hop in taken])
        for step in range(3 if number == 0 else 2):
            y = _to_share(rewards + discounts * _best_after(taken, worth_of))
            recipe = PerceptronRecipe(seed=seed + 10 * number + step, epochs=6)
            fitted = partial(fit_perceptrons, x, y, np.ones(len(y)), recipe)
            arrays = kept.once(f"hops-{number}-{step}", fitted)
            worth_of = Perceptrons(**arrays)
        prices = (PRICES[0], 0.02, PRICES[1])
        found = [hops(one, worth_of, unit, price) for one in held for price in prices]
        worth = float(np.mean([sum(hop.reward for hop in run) for run in found]))
        on_round(number, worth)
        best.offer(arrays, worth)
    return best.arrays


def hops(
    one: Rehearsal,
    worth_of: Perceptrons | None,
    unit: int,
    price: float,
    dice: np.random.Generator | None = None,
    explore: float = 0.0,
) -> list[Hop]:
    """The hops through a stream.

    The reward is what the next look shows, an action being worth 1 thrice and a third after that,
    less the price of its milliseconds.
    """
    block = one.lesson.features.block
    looks = [0]
    num_inside = int(one.lesson.inside[0])
    found: list[Hop] = []
    rows = _hop_rows(one, looks, unit, price)
    while len(rows):
        if dice is not None and (worth_of is None or dice.random() < explore):
            choice = int(dice.integers(len(rows)))
        else:
            assert worth_of is not None
            choice = int(worth_of(rows).argmax())
        place = looks[-1] + unit * (choice + 1)
        decode_ms, recognize_ms = one.ms_per_item
        same_gop = block.gop[place] == block.gop[looks[-1]]
        num_decoded = place - looks[-1] if same_gop else int(block.reach[place])
        cost = price * (recognize_ms + decode_ms * num_decoded)
        shows = float(one.lesson.inside[place]) * (1.0 if num_inside < 3 else 1 / 3)
        num_inside += int(one.lesson.inside[place])
        looks.append(place)
        after = _hop_rows(one, looks, unit, price)
        found.append(Hop(rows[choice], choice + 1, shows - cost, after))
        rows = after
    return found


def _to_share(worth: Array) -> Array:
    """From `WORTH` to [0, 1], which perceptrons speak."""
    low, high = WORTH
    return np.clip((worth - low) / (high - low), 0, 1)


def _hop_rows(one: Rehearsal, looks: Sequence[int], unit: int, price: float) -> Array:
    block = one.lesson.features.block
    kept = np.array(looks[-MEMORY:])
    ahead = block.slice(looks[-1], min(len(block), looks[-1] + NUM_HOPS * unit + 1))
    return hop_features(ahead, unit, one.seconds[kept], one.lesson.embeddings[kept], price)


def _best_after(taken: Sequence[Hop], worth_of: Perceptrons | None) -> Array:
    """What the best hop from each state is worth; nothing is gained after the last."""
    if worth_of is None:
        return np.zeros(len(taken))
    low, high = WORTH
    starts = np.cumsum([0, *(len(hop.following) for hop in taken)])
    worth = low + (high - low) * worth_of(np.concatenate([hop.following for hop in taken]))
    return np.array([worth[a:b].max() if b > a else 0.0 for a, b in pairwise(starts)])


def _price(dice: np.random.Generator) -> float:
    low, high = np.log(PRICES)
    return float(np.exp(dice.uniform(low, high)))
