"""Train `marl`: agents that share a file are paid by what their looks together are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from streamdyn.errors import ConfigError
from streamdyn.learning.perceptrons import Ensemble, scaled
from streamdyn.learning.rounds import NOTHING_KEPT, Best, Rounds
from streamdyn.nn.perceptrons import Perceptrons
from streamdyn.pipelines.rehearsal import Rehearsal
from streamdyn.pipelines.train_looks import BATCH, PARTS, OnRound, split
from streamdyn.previews.glimpses import places_of
from streamdyn.previews.moves import MOVES, ROUNDS, move_features, moved

Array = npt.NDArray[Any]


def fit_marl(
    taught: Sequence[Rehearsal],
    seed: int,
    on_round: OnRound,
    *,
    k: int = 8,
    rounds: int = 24,
    draws: int = 6,
    kept: Rounds = NOTHING_KEPT,
) -> dict[str, Array]:
    """Perceptrons by which `k` agents move, each paid by what all looks are worth; REINFORCE.

    Args:
        taught: Streams.
        seed: Of weights and of what is drawn.
        on_round: Told the number of the round and the mean reward.
        k: Agents.
        rounds: Times that all streams are gone through.
        draws: Games a stream and round.
        kept: What was done before.

    Raises:
        ConfigError: A stream is too short.
    """
    learn, held = split(taught)
    dice = np.random.default_rng(seed)
    if any(len(one) < PARTS for one in taught):
        raise ConfigError(f"marl learns from streams of {PARTS} pictures or more")
    packets = np.stack([one.packets[one.places(PARTS)] for one in learn])
    features, _ = move_features(packets, _evenly(len(packets), k), np.zeros(len(packets), int))
    flat = features.reshape(-1, features.shape[2])
    mean, scale = flat.mean(0), flat.std(0) + 1e-6
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Ensemble(len(mean), 24, 4)
    network.eval()
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=1e-3)

    best = Best()
    parts = {"network": network, "optimizer": optimizer, "dice": dice, "best": best}
    for number in kept.over("games", rounds, **parts):
        rewards = []
        for batch in np.array_split(dice.permutation(len(learn)), -(-len(learn) // BATCH)):
            games = np.repeat(batch, draws)
            at, log_probs = _evenly(len(games), k), torch.zeros(len(games))
            for step in range(ROUNDS * k):
                turn = np.full(len(games), step % k)
                features, free = move_features(packets[games], at, turn)
                likely = (
                    network(scaled(features, mean, scale).flatten(0, 1))
                    .sigmoid()
                    .mean(0)
                    .reshape(free.shape)
                )
                # The order of the executed worths; a move is drawn in proportion to their odds.
                logits = torch.logit(likely, 1e-6).masked_fill(~torch.from_numpy(free), -torch.inf)
                noise = torch.from_numpy(dice.gumbel(size=free.shape).astype(np.float32))
                move = (logits.detach() + noise).argmax(1)
                log_probs = log_probs + logits.log_softmax(1).gather(1, move[:, None])[:, 0]
                at[np.arange(len(games)), turn] += np.array(MOVES)[move.numpy()]
            worth = [
                learn[game].share_right(learn[game].places(PARTS)[stand].tolist())
                for game, stand in zip(games.tolist(), at, strict=True)
            ]
            reward = torch.tensor(worth, dtype=torch.float32).reshape(-1, draws)
            rewards.append(float(reward.mean()))
            advantage = (reward - reward.mean(1, keepdim=True)).flatten()
            optimizer.zero_grad()
            (-(advantage * log_probs).mean()).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        on_round(number, float(np.mean(rewards)))
        arrays = network.arrays(mean, scale)
        worth_of = Perceptrons(**arrays)
        found = float(np.mean([one.share_right(stands(one, k, worth_of)) for one in held]))
        best.offer(arrays, found)
    return best.arrays


def stands(one: Rehearsal, k: int, worth_of: Perceptrons) -> list[int]:
    """Rows that the agents come to stand at."""
    places = one.places(PARTS)
    rows: list[int] = places[moved(one.packets[places], k, worth_of)].tolist()
    return rows


def _evenly(count: int, k: int) -> Array:
    return np.tile(places_of(PARTS, k), (count, 1))
