"""Text drawn on a picture is read back, in reading order and in its place."""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from streamdyn import build
from streamdyn.clock import Pts
from streamdyn.errors import ConfigError, MissingExtra, RecognizerError
from streamdyn.items import Item
from streamdyn.outcome import Box, Outcome
from streamdyn.recognizers.ocr import Ocr, reading_order
from streamdyn.testing.recognizers import select

pytest.importorskip("rapidocr_onnxruntime", reason="rapidocr-onnxruntime is not installed")


@pytest.fixture(scope="module")
def ocr() -> Ocr:
    recognizer: Ocr = build("recognizer", "ocr")
    recognizer.setup("cpu")
    return recognizer


def picture(width: int, height: int, *pieces: tuple[float, float, str], size: int = 32) -> Item:
    """White text on blue; places in shares of the picture."""
    image = Image.new("RGB", (width, height), (30, 60, 120))
    draw = ImageDraw.Draw(image)
    for left, top, text in pieces:
        font = ImageFont.load_default(size)
        draw.text((left * width, top * height), text, font=font, fill="white")
    return Item("news", 0, Pts(0, Fraction(1, 25)), np.asarray(image))


def read(ocr: Ocr, item: Item) -> Outcome:
    return ocr.recognize(select([item]), None)[0][0]


def test_text_is_read_in_reading_order(ocr: Ocr) -> None:
    item = picture(
        640, 360, (0.1, 0.8, "Flood warning"), (0.6, 0.12, "LIVE"), (0.1, 0.1, "Evening news")
    )
    outcome = read(ocr, item)
    assert outcome.text == "Evening news\nLIVE\nFlood warning"
    assert outcome.labels == ()
    assert outcome.recognizer == "ocr/1-0.5-1280"


@pytest.mark.parametrize("width", [640, 2560])
def test_boxes_are_in_shares_of_the_picture(ocr: Ocr, width: int) -> None:
    item = picture(width, width // 2, (0.25, 0.5, "Headline"), size=width // 20)
    (box,) = read(ocr, item).boxes
    assert box.label == "Headline"
    assert (box.left, box.top) == pytest.approx((0.25, 0.5), abs=0.05)
    assert box.right < 0.75
    assert box.bottom < 0.7


def test_an_empty_picture_has_no_text(ocr: Ocr) -> None:
    outcome = read(ocr, picture(320, 240))
    assert (outcome.text, outcome.boxes) == ("", ())


def test_doubtful_text_is_left_out() -> None:
    strict = build("recognizer", "ocr", min_score=1.0)
    strict.setup("cpu")
    assert read(strict, picture(320, 240, (0.1, 0.4, "Evening news"), size=18)).text == ""


def test_a_picture_that_cannot_be_read_is_named(ocr: Ocr) -> None:
    with pytest.raises(RecognizerError, match=r"cannot read Item\('news', frame 0, uint8\[1, 2000"):
        read(ocr, picture(2000, 1))


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("", "", 1.0),
        ("News at ten", "news\nat TEN", 1.0),
        ("abcd", "", 0.0),
        ("abcd", "abcx", 0.75),
    ],
)
def test_agreement_is_similarity_of_texts(left: str, right: str, expected: float) -> None:
    outcomes = [Outcome("s", 0, Pts(0, Fraction(1)), "ocr/1", text=t) for t in (left, right)]
    assert build("recognizer", "ocr").agree(*outcomes) == expected


def test_pieces_of_one_row_are_read_from_the_left() -> None:
    def box(label: str, left: float, top: float) -> Box:
        return Box(label, 1.0, left, top, left + 0.2, top + 0.1)

    boxes = [box("d", 0.1, 0.5), box("c", 0.7, 0.11), box("a", 0.1, 0.12), box("b", 0.4, 0.1)]
    assert [b.label for b in reading_order(boxes)] == ["a", "b", "c", "d"]


def test_another_device_is_refused() -> None:
    with pytest.raises(RecognizerError, match="only runs on the CPU; use device='cpu'"):
        build("recognizer", "ocr").setup("cuda")


def test_it_must_be_set_up_first() -> None:
    with pytest.raises(RecognizerError, match="not loaded; call setup"):
        read(build("recognizer", "ocr"), picture(64, 64))


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr_onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"streamdyn\[models\]"):
        build("recognizer", "ocr").setup("cpu")


@pytest.mark.parametrize("options", [{"min_score": 2.0}, {"max_side": 0}])
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        build("recognizer", "ocr", **options)
