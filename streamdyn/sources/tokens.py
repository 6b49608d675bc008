"""Text as items: its words and punctuation marks, each at its place in characters.

A token is what `streamdyn.text.words` takes for one. Its pts is the offset of its first character
in the decoded text (a line break of two characters counts two), on a time base of one, so that
"seconds" are characters. A file is read in pieces and forgotten as it is released: its size does
not matter, and a word across two pieces is one token all the same.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Generator, Iterable, Sequence
from fractions import Fraction
from hashlib import sha256
from io import BytesIO, TextIOWrapper
from itertools import chain
from pathlib import Path

import numpy as np

from streamdyn.clock import Pts
from streamdyn.errors import ConfigError, SourceError
from streamdyn.items import Array, Block, FrameSpec, Item, ItemError
from streamdyn.observation import Grade
from streamdyn.previews.token import token_features
from streamdyn.protocols import Position, SourceInfo
from streamdyn.receipt import Receipt
from streamdyn.registry import source
from streamdyn.text.words import UNSEEN, word_pattern

TIME_BASE = Fraction(1)
PIECE = 1 << 16
"""Bytes of a file, or characters of a text, taken at once."""
LONGEST_TOKEN = 1 << 20
"""Characters; what goes on longer is no text, and would have to be held as a whole."""
_CONNECTORS = {"'", "\u2019", *UNSEEN, "\u200d"}


@source("tokens")
class Tokens:
    """The tokens of a text file, or of a text that is given.

    Args:
        path: File.
        text: The text itself, instead of a file.
        block_size: Tokens of a block, at least 1.
        encoding: Of the file.
        stream: Id in results; the path, or a hash of the text, when not given.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        text: str | None = None,
        block_size: int = 64,
        encoding: str = "utf-8",
        stream: str | None = None,
    ) -> None:
        if (path is None) == (text is None):
            raise ConfigError("source 'tokens' reads a path or a text; give one of them")
        if block_size < 1:
            raise ConfigError(f"block_size must be at least 1 token, got {block_size}")
        try:
            TextIOWrapper(BytesIO(), encoding)
        except LookupError as exc:
            raise ConfigError(
                f"encoding must be one that Python knows, such as 'utf-8', got {encoding!r}"
            ) from exc
        self.path, self.text = None if path is None else str(path), text
        self.block_size, self.encoding = block_size, encoding
        self.stream = stream if stream is not None else self.path or _name_of(text or "")

    def open(self, resume_from: Position | None = None) -> TokenCursor:
        """A cursor at the start, or after the last closed item of an earlier run.

        Raises:
            SourceError: Not a readable file, without a token, or not the text of the earlier run.
        """
        return TokenCursor(self, resume_from)

    def pieces(self) -> Generator[str, None, None]:
        """The text, piece by piece.

        Raises:
            SourceError: It cannot be read, or is not written in this encoding.
        """
        if self.path is not None:
            return _decoded(self.path, self.encoding)
        text = self.text or ""
        return (text[start : start + PIECE] for start in range(0, len(text), PIECE))


class TokenWindow:
    """Tokens that were read and not released: what cursors over text share.

    Args:
        stream: Id.
    """

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._receipt = Receipt()
        self._first = 0  # Ordinal of the first token held.
        self._next = 0  # Ordinal of the first one that was not handed out.
        self._starts: list[int] = []
        self._words: list[str] = []

    def _hand_out(self, count: int) -> Block | None:
        """The next tokens that are held, so many at most."""
        first = self._next
        held = slice(first - self._first, first - self._first + count)
        words = self._words[held]
        n = len(words)
        if not n:
            return None
        self._next += n
        return Block(
            self._stream,
            first,
            TIME_BASE,
            pts=np.array(self._starts[held], np.int64),
            keyframe=np.ones(n, bool),
            num_bytes=np.array([_num_bytes(word) for word in words], np.int32),
            disposable=np.ones(n, bool),
            gop=np.arange(first, first + n, dtype=np.int32),
            reach=np.ones(n, np.int32),
        )

    def materialize(
        self, ordinals: Sequence[int], spec: FrameSpec
    ) -> tuple[list[Item], list[ItemError]]:
        """`(num_bytes,)` uint8 of each token, in UTF-8; `spec` is for pictures, not looked at."""
        with self._receipt.timed("convert"):
            items = [self._item(ordinal) for ordinal in ordinals]
        self._receipt.num_converted += len(items)
        return items, []

    def _item(self, ordinal: int) -> Item:
        data = np.frombuffer(_bytes(self._word(ordinal)), np.uint8)
        pts = Pts(self._starts[ordinal - self._first], TIME_BASE)
        return Item(self._stream, ordinal, pts, data, "token")

    def preview(self, grade: Grade, ordinals: Sequence[int]) -> Array:
        """`(n, 10)` float32 for `token`, see `streamdyn.previews.token`.

        Raises:
            ConfigError: Another grade.
        """
        if grade != "token":
            raise ConfigError(f"a text has no preview of grade {grade!r}; it has packet and token")
        with self._receipt.timed("preview"):
            return token_features([self._word(ordinal) for ordinal in ordinals])

    def _word(self, ordinal: int) -> str:
        if not self._first <= ordinal < self._next:
            raise SourceError(
                f"cannot read token {ordinal} of {self._stream}: it was released or not "
                f"handed out; ask for {self._first} to {self._next - 1}"
            )
        return self._words[ordinal - self._first]

    def release(self, before: int) -> None:
        """Forget the tokens below `before`."""
        count = min(max(0, before - self._first), len(self._words))
        del self._words[:count], self._starts[:count]
        self._first += count


class TokenCursor(TokenWindow):
    """Where we are in a text; holds the tokens that were not released."""

    def __init__(self, source: Tokens, resume_from: Position | None = None) -> None:
        super().__init__(source.stream)
        self._source = source
        self._pieces = source.pieces()
        after = None if resume_from is None else resume_from.after_ticks
        # The character before tells whether a token begins there.
        begin = max(0, (after or 0) - 1)
        self._incoming = tokens_of(_from_character(self._pieces, begin), begin)
        found = self._read_on()
        if resume_from is not None and after is not None:
            if found and self._starts[0] < after:
                del self._starts[0], self._words[0]
            if not (self._starts or self._read_on()) or self._starts[0] != after:
                raise SourceError(
                    f"cannot go on in {source.stream}: no token begins at character {after}, where "
                    "the earlier run stopped; the text has changed, read it from its start"
                )
            self._first = resume_from.ordinal - 1
            self.release(resume_from.ordinal)
        elif not found:
            raise SourceError(f"cannot read {source.stream}: there is no word in it")
        self._next = self._first
        self.info = SourceInfo(
            source.stream, "token", source.encoding, TIME_BASE, note="its seconds are characters"
        )

    def next_block(self) -> Block | None:
        """The next tokens, `block_size` of them, fewer at the end."""
        stop = self._next + self._source.block_size
        while self._first + len(self._words) < stop and self._read_on():
            pass
        return self._hand_out(self._source.block_size)

    def _read_on(self) -> bool:
        """Take more tokens in; false at the end."""
        with self._receipt.timed("demux"):
            found = next(self._incoming, None)
        if found is None:
            return False
        starts, words = found
        self._starts += starts
        self._words += words
        self._receipt.num_demuxed += len(words)
        return True

    def hop_to(self, ordinal: int) -> None:
        """Leave the tokens before `ordinal` unseen; they are read, to count them, and forgotten."""
        self.release(ordinal)
        while self._first < ordinal and self._read_on():
            self.release(ordinal)
        self._next = max(self._next, self._first)

    def take_receipt(self) -> Receipt:
        """What was spent since the last call."""
        spent, self._receipt = self._receipt, Receipt()
        return spent

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._incoming.close()
        self._pieces.close()


def tokens_of(
    pieces: Iterable[str], first: int = 0
) -> Generator[tuple[list[int], list[str]], None, None]:
    """First characters and words of a text that comes in pieces; no token is cut.

    Args:
        pieces: The text from character `first` on.
        first: Where they begin: at a token or between two.

    Raises:
        SourceError: A token is longer than `LONGEST_TOKEN`.
    """
    tokenizer = Tokenizer(first)
    for piece in chain(pieces, [None]):
        starts, words = tokenizer.feed(piece)
        if words:
            yield starts, words


class Tokenizer:
    """Cuts a text that comes in pieces into tokens; holds what the next piece may go on with.

    Args:
        first: Character with which the text begins: at a token or between two.
    """

    def __init__(self, first: int = 0) -> None:
        self._held, self._first = "", first

    def feed(self, piece: str | None) -> tuple[list[int], list[str]]:
        """First characters and words of the tokens that are whole now.

        Args:
            piece: What comes next; `None`: nothing will.

        Raises:
            SourceError: A token is longer than `LONGEST_TOKEN`.
        """
        held = self._held + (piece or "")
        matches = list(word_pattern().finditer(held))
        words = [match.group() for match in matches]
        starts = [self._first + match.start() for match in matches]
        done = len(words) - (0 if piece is None else _unfinished(held, matches))
        cut = starts[done] - self._first if done < len(words) else len(held)
        self._held, self._first = held[cut:], self._first + cut
        if len(self._held) > LONGEST_TOKEN:
            raise SourceError(
                f"cannot read on at character {self._first}: a word of more than {LONGEST_TOKEN} "
                "characters begins there; this is no text, or it needs spaces between its words"
            )
        return starts[:done], words[:done]


def _unfinished(text: str, matches: Sequence[re.Match[str]]) -> int:
    """How many tokens at the end of a piece may go on in the next.

    ```
    ... cat         1: may become cats
    ... cat '       2: may become cat's, one token
    ... cat ' ▁     0
    ```
    """
    if not matches or matches[-1].end() < len(text):
        return 0
    number = 1
    while (
        number < len(matches)
        and matches[-number].group() in _CONNECTORS
        and matches[-number - 1].end() == matches[-number].start()
    ):
        number += 1
    return number


def _decoded(path: str, encoding: str) -> Generator[str, None, None]:
    decoder = codecs.getincrementaldecoder(encoding)()
    num_read = 0
    try:
        with Path(path).open("rb", buffering=0) as file:
            while True:
                data = file.read(PIECE)
                before = num_read - len(decoder.getstate()[0])
                yield decoder.decode(data, final=not data)
                num_read += len(data)
                if not data:
                    return
    except UnicodeError as exc:
        raise SourceError(
            f"cannot read {path} as {encoding}: {getattr(exc, 'reason', exc)} at byte "
            f"{before + getattr(exc, 'start', 0)}; name the encoding it is written in, such as "
            "encoding='cp1252'"
        ) from exc
    except OSError as exc:
        raise SourceError(f"cannot read {path}: {exc.strerror or exc}; check the path") from exc


def _from_character(pieces: Iterable[str], offset: int) -> Generator[str, None, None]:
    for piece in pieces:
        if offset < len(piece):
            yield piece[offset:]
        offset = max(0, offset - len(piece))


def _bytes(word: str) -> bytes:
    """In UTF-8, lone surrogates included."""
    return word.encode("utf-8", "surrogatepass")


def _num_bytes(word: str) -> int:
    return len(word) if word.isascii() else len(_bytes(word))


def _name_of(text: str) -> str:
    return f"text-{sha256(_bytes(text)).hexdigest()[:12]}"
