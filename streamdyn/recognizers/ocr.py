"""Text on frames, read by RapidOCR (PP-OCRv4 in onnxruntime)."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from streamdyn.errors import ConfigError, MissingExtra, RecognizerError
from streamdyn.items import FrameSpec, Item, Selection
from streamdyn.outcome import Box, Outcome
from streamdyn.recognizers import telemetry
from streamdyn.recognizers.stateless import check_pictures
from streamdyn.registry import recognizer


@recognizer("ocr")
class Ocr:
    """Reads text: one line of `Outcome.text` and one box a piece of text, in reading order.

    Reading order is top to bottom, and left to right where pieces stand side by side. Labels stay
    empty. Pictures come as coded; the reader shrinks those larger than `max_side` and enlarges
    those whose shorter side is below 736 pixels. It runs on the CPU, on one thread, and is for
    one thread only.

    Args:
        min_score: Pieces read with less confidence are left out.
        max_side: Longest side in pixels that is read at full size.
    """

    def __init__(self, *, min_score: float = 0.5, max_side: int = 1280) -> None:
        if not 0 <= min_score <= 1:
            raise ConfigError(f"min_score of ocr must be in [0, 1], got {min_score}")
        if max_side < 32:
            raise ConfigError(f"max_side of ocr must be at least 32 pixels, got {max_side}")
        self.name = "ocr"
        self.version = f"1-{min_score:g}-{max_side}"
        self.input = FrameSpec(None, None)
        self.batch_size = 1
        self.min_score = min_score
        self.max_side = max_side
        self._reader: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}

    def setup(self, device: str) -> None:
        """Load the three networks, about 15 MB.

        Args:
            device: `cpu`.

        Raises:
            MissingExtra: rapidocr-onnxruntime is not installed.
            RecognizerError: Another device was asked for, or a system library is missing.
        """
        if device != "cpu":
            raise RecognizerError(
                f"recognizer ocr cannot run on device {device!r}: it only runs on the CPU; use "
                "device='cpu'"
            )
        if self._reader is not None:
            return
        telemetry.turn_off()
        try:
            import cv2
            from rapidocr_onnxruntime import RapidOCR
        except ModuleNotFoundError as exc:
            raise MissingExtra("rapidocr-onnxruntime", "recognizer ocr", "models") from exc
        except ImportError as exc:
            raise RecognizerError(
                f"cannot load recognizer ocr: {exc}; opencv needs that system library (on Debian: "
                "apt-get install libgl1 libglib2.0-0)"
            ) from exc
        cv2.setNumThreads(1)
        self._reader = RapidOCR(
            text_score=self.min_score,
            max_side_len=self.max_side,
            intra_op_num_threads=1,
            inter_op_num_threads=1,
        )

    def initial_hidden(self) -> None:
        """Nothing: every picture is read alone."""

    def recognize(self, selection: Selection, hidden: None) -> tuple[list[Outcome], None]:
        """One outcome an item, in order."""
        if self._reader is None:
            raise RecognizerError(
                f"recognizer 'ocr' cannot recognize {selection!r}: it is not loaded; call "
                "setup(device) first"
            )
        check_pictures(selection, self.name)
        return [self._outcome(item) for item in selection.items], None

    def agree(self, propagated: Outcome, looked_up: Outcome) -> float:
        """Similarity of the two texts, case and white space aside; two empty ones agree."""
        # Readers lose spaces between capitals now and then.
        left, right = ("".join(o.text.casefold().split()) for o in (propagated, looked_up))
        return SequenceMatcher(None, left, right, autojunk=False).ratio()

    def _outcome(self, item: Item) -> Outcome:
        # The reader wants blue first.
        try:
            pieces, _ = self._reader(np.ascontiguousarray(item.data[..., ::-1]))
        except Exception as exc:
            raise RecognizerError(
                f"recognizer 'ocr' cannot read {item!r}: {exc!r}; leave the item out, or change "
                f"max_side={self.max_side}"
            ) from exc
        height, width = item.data.shape[:2]
        boxes = []
        for corners, text, score in pieces or ():
            x, y = (np.asarray(corners) / (width, height)).clip(0, 1).T
            boxes.append(
                Box(
                    text,
                    float(score),
                    float(x.min()),
                    float(y.min()),
                    float(x.max()),
                    float(y.max()),
                )
            )
        ordered = reading_order(boxes)
        return Outcome(
            item.stream,
            item.ordinal,
            item.pts,
            f"{self.name}/{self.version}",
            text="\n".join(box.label for box in ordered),
            boxes=tuple(ordered),
        )


def reading_order(boxes: Sequence[Box]) -> list[Box]:
    """Boxes row by row, each row from left to right.

    A box belongs to the row above it if its middle is not below that row's first box.
    """
    rows: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: box.top + box.bottom):
        if rows and (box.top + box.bottom) / 2 < rows[-1][0].bottom:
            rows[-1].append(box)
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row, key=lambda box: box.left)]
