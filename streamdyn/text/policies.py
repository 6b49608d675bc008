"""A trained model's weights under a policy that has nothing to learn, to compare with its own."""

from __future__ import annotations

from dataclasses import replace

import torch

from streamdyn.errors import ConfigError, UnknownName
from streamdyn.registry import build
from streamdyn.text.calibration import Calibration
from streamdyn.text.network import ReaderNetwork
from streamdyn.text.pretrained import ReaderModel

TRIVIAL = ("first_k", "full", "idf", "last_k", "random", "uniform")


def with_policy(model: ReaderModel, policy: str) -> ReaderModel:
    """The model's embedding, cell and head under a trivial policy; without a budget it reads all.

    `idf` takes the order of the vocabulary, most frequent first, for the order of importance,
    unless the model holds better values.

    Raises:
        UnknownName: No trivial policy is called so.
        ConfigError: The model is a transformer, or its cell does not read its word vectors.
    """
    if policy not in TRIVIAL:
        raise UnknownName("policy for a trained model", policy, TRIVIAL)
    if not isinstance(model.network, ReaderNetwork):
        raise ConfigError(
            f"policy {policy!r} needs a recurrent model, and {model.network.name} is a transformer"
        )
    options = {} if policy == "full" else {"rate": 1.0}
    # Its fresh weights are replaced, and the caller's dice are not touched.
    with torch.random.fork_rng(devices=[]):
        network: ReaderNetwork = build("reader", policy, spec=model.network.spec, **options)
    ranks = {"importance": torch.arange(len(model.coder), dtype=torch.float32)}
    held, wanted = {**ranks, **model.network.state_dict()}, network.state_dict()
    if any(held[name].shape != value.shape for name, value in wanted.items()):
        raise ConfigError(
            f"policy {policy!r} needs a model whose cell reads word vectors, and that of "
            f"{model.network.name} has other inputs; take another model, as "
            "movie-sentiment/leap_lstm"
        )
    network.load_state_dict({name: held[name] for name in wanted})
    return replace(model, network=network.eval(), calibration=Calibration(), mode="exact")
