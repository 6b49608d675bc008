"""Actions: what is done in a video, from the evidence of all pictures looked at so far.

A linear head on the embedding of lite0 says for each picture which action it shows. The answer is
the mean over the pictures looked at, each weighted by an attention: how likely it is that the
picture shows an action at all, by how unlike everything far away it is, how unlike the looks before
and after it, and how undecided the head is. What a camera shows all day counts next to nothing, an
action among it counts; in a clip that is too short to have anything far away all pictures count
alike. The evidence is the recognizer's hidden state, and the order in which pictures are looked at
does not matter.

Paper: the mean of per-picture probabilities is the consensus of Wang et al. 2016, Temporal Segment
Networks, arXiv:1608.00859, section 3.1, attention over pictures is its section 3.2. Differs: the
attention sees no embedding, only likeness and entropy: a head with an idle class took footage that
it had not seen for actions. It is taught by heads that have not seen the recordings; taught by one
that has, it learns that the head is always sure of an action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError, ModelError, RecognizerError
from streamdyn.items import FrameSpec, Selection
from streamdyn.nn.weights import AgentWeights, load_weights
from streamdyn.outcome import Outcome
from streamdyn.plan import Action
from streamdyn.previews.glimpses import FAR_SECONDS
from streamdyn.recognizers.lite0 import Lite0
from streamdyn.registry import recognizer

Floats = npt.NDArray[np.float32]


MOST_LOOKS = 512
"""The oldest are forgotten."""
_NONE = -2.0
"""Below every cosine."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The `n` pictures so far."""

    seconds: npt.NDArray[np.float64]
    """`(n,)`."""
    embeddings: Floats
    """`(n, D)`, unit length."""
    said: Floats
    """`(n, C)`, probability of each action; zeros where a picture only tells what is usual."""
    likeness: Floats
    """`(n, 3)`, greatest cosine with a picture that is far away, and cosines with the looks before
    and after it in time; -2 where there is none."""

    @staticmethod
    def none(size: int, num_labels: int) -> Evidence:
        """Before the first picture; `size` is D, `num_labels` C."""
        return Evidence(
            np.empty(0),
            np.empty((0, size), np.float32),
            np.empty((0, num_labels), np.float32),
            np.empty((0, 3), np.float32),
        )

    def after(self, seconds: float, embedding: Floats, said: Floats) -> Evidence:
        """With one more picture."""
        kept = slice(-(MOST_LOOKS - 1), None)
        times, seen, likeness = (
            self.seconds[kept],
            self.embeddings[kept],
            self.likeness[kept].copy(),
        )
        cosines = (seen @ embedding).astype(np.float32)
        alike = np.where(np.abs(times - seconds) > FAR_SECONDS, cosines, np.float32(_NONE))
        likeness[:, 0] = np.maximum(likeness[:, 0], alike)
        own = np.array([alike.max(initial=_NONE), _NONE, _NONE], np.float32)
        before, later = np.flatnonzero(times <= seconds), np.flatnonzero(times > seconds)
        if len(before):
            near = before[times[before].argmax()]
            own[1] = likeness[near, 2] = cosines[near]
        if len(later):
            near = later[times[later].argmin()]
            own[2] = likeness[near, 1] = cosines[near]
        return Evidence(
            np.append(times, seconds),
            np.vstack([seen, embedding[None]]),
            np.vstack([self.said[kept], said[None]]),
            np.vstack([likeness, own[None]]),
        )

    def features(self) -> Floats:
        """`(n, 4)`, what the attention sees: the cosines, and the entropy of `said` in nats.

        A look at an end of the file is as like the one that is missing as the one that is there.
        """
        far, before, later = self.likeness.T
        before, later = (
            np.where(before == _NONE, later, before),
            np.where(later == _NONE, before, later),
        )
        entropy = -(self.said * np.log(self.said + 1e-9)).sum(1)
        return np.stack([far, before, later, entropy], 1)

    @property
    def is_short(self) -> bool:
        """A picture has nothing far away to be compared with."""
        return bool((self.likeness[:, 0] == _NONE).any())


@recognizer("actions")
class Actions:
    """Labels of the action by the evidence so far; the embedding is that of the picture alone.

    Items that hold an embedding in place of a picture (a recording of features) are recognized
    from it, without lite0. A picture that updates it in part (`PARTIAL`), as a rule a small one,
    tells what is usual in the stream and nothing else.

    Args:
        model: File with the weights of the head; those that come with streamdyn when not given.
        top_k: Labels in an outcome.
        batch_size: Pictures at once at most.
        pool: How looks count: by the `attention`, or all alike for their `mean`.
        alone: Outcomes say what the picture alone shows: a label over time, as for a query. The
            answer by all looks is there all the same, see `answer`.
    """

    name = "actions"
    needs = frozenset({"attention"})
    """Arrays that its weights have besides those of the linear head."""

    def __init__(
        self,
        *,
        model: str | None = None,
        top_k: int = 5,
        batch_size: int = 16,
        pool: Literal["attention", "mean"] = "attention",
        alone: bool = False,
    ) -> None:
        if top_k < 1 or pool not in ("attention", "mean"):
            raise ConfigError(
                f"{self.name} needs top_k >= 1 and a pool of attention or mean, got {top_k = }, "
                f"{pool = }"
            )
        head = load_weights(model, self.name)
        if missing := self.needs - head.arrays.keys():
            raise ModelError(
                f"{model} holds a head without {', '.join(missing)}, of an earlier version; train "
                f"it again with `streamdyn train video {self.name}`"
            )
        self.model, self.top_k, self.batch_size, self.alone = model, top_k, batch_size, alone
        self.pool = pool
        self.resolution = int(head.facts["resolution"])
        self.labels: tuple[str, ...] = tuple(head.facts["labels"])
        self.version = f"2-{head.digest}{'-mean' * (pool == 'mean')}{'-alone' * alone}"
        self._body = Lite0(resolution=self.resolution, batch_size=batch_size)
        self.input: FrameSpec = self._body.input

    @property
    def _head(self) -> AgentWeights:
        # Read anew on the worker: a recognizer that is sent there takes no weights along.
        return load_weights(self.model, self.name)

    def setup(self, device: str) -> None:
        """Load lite0; the head runs in numpy whatever the device."""
        self._body.setup(device)

    def initial_hidden(self) -> Any:
        """No picture so far."""
        return Evidence.none(self._head.arrays["weight"].shape[1], len(self.labels))

    def _after(self, hidden: Any, seconds: float, embedding: Floats, said: Floats) -> Any:
        return hidden.after(seconds, embedding, said)

    def recognize(self, selection: Selection, hidden: Any) -> tuple[list[Outcome], Any]:
        """One outcome an item: the answer after it, items of the selection in order."""
        outcomes = []
        seen = zip(selection.items, selection.actions, self._embeddings(selection), strict=True)
        for item, action, embedding in seen:
            said = self.probabilities(embedding[None])[0] * (action == Action.PROCESS)
            hidden = self._after(hidden, float(item.pts.seconds), embedding, said)
            outcomes.append(
                Outcome(
                    item.stream,
                    item.ordinal,
                    item.pts,
                    f"{self.name}/{self.version}",
                    *(self._best(said) if self.alone else self.answer(hidden)),
                    embedding=embedding.astype(np.float16),
                )
            )
        return outcomes, hidden

    def answer(self, hidden: Any) -> tuple[tuple[str, ...], tuple[float, ...]]:
        """Labels and scores by all that was seen, best first; none before a whole picture."""
        sums = self.attention(hidden) @ hidden.said
        return self._best(sums / max(float(sums.sum()), 1e-9))

    def _best(self, shares: Floats) -> tuple[tuple[str, ...], tuple[float, ...]]:
        if not shares.any():
            return (), ()
        order = np.argsort(-shares, kind="stable")[: self.top_k]
        return tuple(self.labels[i] for i in order), tuple(shares[order].tolist())

    def attention(self, hidden: Evidence) -> Floats:
        """`(n,)` in [0, 1], how likely each picture shows an action; 1 in a short clip."""
        if hidden.is_short or self.pool == "mean":
            return np.ones(len(hidden.seconds), np.float32)
        return attended(hidden.features(), self._head.arrays["attention"])

    def agree(self, propagated: Outcome, looked_up: Outcome) -> float:
        """1 if both labels are the same, else 0."""
        return float(propagated.label == looked_up.label)

    def probabilities(self, embeddings: Floats) -> Floats:
        """`(N, D)` embeddings → `(N, C)`, of pictures alone."""
        return said_by(self._head.arrays, embeddings)

    def _embeddings(self, selection: Selection) -> list[Floats]:
        flat = [item.data.ndim == 1 for item in selection.items]
        if not any(flat):
            whole = replace(selection, actions=(Action.PROCESS,) * len(selection))
            outcomes, _ = self._body.recognize(whole, None)
            return [_of(outcome) for outcome in outcomes]
        size = self._head.arrays["weight"].shape[1]
        if not all(flat) or any(item.data.shape != (size,) for item in selection.items):
            raise RecognizerError(
                f"recognizer 'actions' cannot take {selection!r}: items must all be pictures, or "
                f"all be embeddings of {size} numbers"
            )
        return [item.data.astype(np.float32) for item in selection.items]


def said_by(arrays: Mapping[str, Floats], embeddings: Floats) -> Floats:
    """`(N, D)` embeddings → `(N, C)` probabilities, by the `weight` and `bias` of a head."""
    logits = embeddings @ arrays["weight"].T + arrays["bias"]
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: Floats = powers / powers.sum(1, keepdims=True)
    return shares


def attended(features: Floats, attention: Floats) -> Floats:
    """`(n, 4)` features of `Evidence` → `(n,)` in (0, 1), by four weights and a bias."""
    likely: Floats = 1 / (1 + np.exp(-(features @ attention[:-1] + attention[-1])))
    return likely.astype(np.float32)


def _of(outcome: Outcome) -> Any:
    assert outcome.embedding is not None
    return outcome.embedding.astype(np.float32)
