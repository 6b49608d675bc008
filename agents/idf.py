"""The rarest words: those that the fewest sentences of the window hold.

Cost: the preview `token` of every token; no model and no corpus. By default the window is the whole
text, so it is for files.

Paper: Spärck Jones 1972, A statistical interpretation of term specificity and its application in
retrieval, Journal of Documentation 28.
Differs: the documents are the sentences of the window, so that no corpus has to be known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamdyn.errors import ConfigError
from streamdyn.items import Array
from streamdyn.observation import Grade, Observation
from streamdyn.plan import Plan
from streamdyn.previews.token import Feature, token_names
from streamdyn.protocols import WHOLE_STREAM
from streamdyn.registry import policy
from streamdyn.text.words import Mark


@policy("idf")
@dataclass(frozen=True, kw_only=True)
class Idf:
    """Process the share of the tokens whose words occur in the fewest sentences.

    Of equally rare words the longer ones come first, then the earlier ones.

    Args:
        share: Of the tokens of a window, in (0, 1]; at least one.
        lookahead: Tokens to compare; the whole text unless given.
    """

    share: float = 0.2
    lookahead: int = WHOLE_STREAM
    name = "idf"
    version = "1"
    previews = frozenset[Grade](("token",))
    glances = frozenset[Grade]()

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"idf needs a share in (0, 1], got {self.share}")

    def initial_state(self) -> None:
        """Nothing to remember."""

    def decide(self, obs: Observation, state: None) -> tuple[Plan, None]:
        """Close the window at once; the scores rank the chosen under a hard budget."""
        rows = obs.previews["token"]
        n = len(rows)
        known = np.flatnonzero(~np.isnan(rows[:, 0]))
        rarity = _rarity(rows[known])
        order = np.lexsort((-rows[known, Feature.LENGTH], -rarity))
        chosen = known[order[: max(1, round(self.share * n))]]
        scores = np.zeros(n, np.float32)
        scores[known] = rarity
        return Plan.process_only(n, chosen, scores=scores), None


def _rarity(rows: Array) -> npt.NDArray[np.float64]:
    """`(n,)` logarithm of the number of sentences to those that hold the word, from 0 on."""
    ends = rows[:, Feature.MARK] == Mark.SENTENCE
    sentence = np.cumsum(ends) - ends
    _, word = np.unique(token_names(rows), return_inverse=True)
    pairs = np.unique(np.stack([word, sentence]), axis=1)
    holding = np.bincount(pairs[0], minlength=1)
    return np.asarray(np.log(len(np.unique(sentence)) / holding[word]))
