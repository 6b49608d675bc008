"""What a reading gives back: numbers as numbers, and offsets into the text as it came."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Literal

import numpy as np
import numpy.typing as npt

from streamdyn.controls import CONTROLS
from streamdyn.errors import ConfigError
from streamdyn.plan import Action
from streamdyn.text.words import Tokens

# What a terminal obeys, and halves of characters that it cannot be sent.
_OBEYED = re.compile(rf"[{CONTROLS}\ud800-\udfff]")

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One text, read in part."""

    source: str
    """The text as it was given; spans count its characters."""
    tokens: Tokens
    """All its tokens."""
    actions: npt.NDArray[np.uint8]
    """`(T,)` of `Action`: SKIP, PARTIAL or PROCESS."""
    label: str = ""
    """The best label; empty where there is no classifier."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Label → probability."""
    reads: int = 0
    """Tokens read in full, re-reads counted again."""
    stop_index: int | None = None
    """Tokens before the reader stopped; `None`: it went to the end."""
    flops: float = 0.0
    """Multiply-adds times two, gates included."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Stage → wall time."""

    @property
    def tokens_total(self) -> int:
        """Tokens of the text."""
        return len(self.actions)

    @property
    def tokens_read(self) -> int:
        """Different tokens read in full."""
        return int((self.actions == Action.PROCESS).sum())

    @property
    def read_rate(self) -> float:
        """Share of the tokens read in full, in [0, 1]; 0 for an empty text."""
        return self.tokens_read / self.tokens_total if self.tokens_total else 0.0

    @property
    def kept(self) -> list[Span]:
        """`[start, stop)` in characters of what was read in full; neighbours are joined."""
        return self.spans(Action.PROCESS)

    def spans(self, action: Action) -> list[Span]:
        """`[start, stop)` in characters of runs of tokens with this action."""
        chosen = (self.actions == action).astype(np.int8)
        edges = np.flatnonzero(np.diff(chosen, prepend=0, append=0))
        starts, stops = self.tokens.starts, self.tokens.stops
        return [
            (int(starts[first]), int(stops[after - 1]))
            for first, after in zip(edges[::2], edges[1::2], strict=True)
        ]

    @property
    def text(self) -> str:
        """What was kept; a line break where the gap holds one, else one space a gap."""
        parts: list[str] = []
        end = 0
        for start, stop in self.kept:
            if parts:
                parts.append("\n" if "\n" in self.source[end:start] else " ")
            parts.append(self.source[start:stop])
            end = stop
        return "".join(parts)

    def highlight(self, form: Literal["terminal", "html"] = "terminal") -> str:
        """The whole text: what was read stands out, what was skimmed less so, the rest is dim.

        Raises:
            ConfigError: Another form.
        """
        if form not in ("terminal", "html"):
            raise ConfigError(f"form must be terminal or html, got {form!r}")
        paint = _terminal if form == "terminal" else _html
        marked = [(start, stop, Action.PROCESS) for start, stop in self.kept]
        marked += [(start, stop, Action.PARTIAL) for start, stop in self.spans(Action.PARTIAL)]
        parts: list[str] = []
        end = 0
        for start, stop, action in sorted(marked):
            parts.append(paint(self.source[end:start], Action.SKIP))
            parts.append(paint(self.source[start:stop], action))
            end = stop
        parts.append(paint(self.source[end:], Action.SKIP))
        body = "".join(parts)
        return body if form == "terminal" else f'<p style="white-space:pre-wrap">{body}</p>'

    def __repr__(self) -> str:
        answer = f"{self.label!r} {self.scores[self.label]:.3f}, " if self.label else ""
        return f"Reading({answer}{self.tokens_read} of {self.tokens_total} tokens)"


def _terminal(text: str, action: Action) -> str:
    if not text:
        return ""
    # Control characters of the text would reach the terminal.
    shown = _OBEYED.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))
    code = {Action.PROCESS: "1", Action.PARTIAL: "4"}.get(action, "2")
    return f"\x1b[{code}m{shown}\x1b[0m"


def _html(text: str, action: Action) -> str:
    if not text:
        return ""
    shown = escape(text.encode("utf-8", "replace").decode("utf-8"))
    if action is Action.PROCESS:
        return f"<mark>{shown}</mark>"
    if action is Action.PARTIAL:
        return f"<u>{shown}</u>"
    return f'<span style="opacity:.45">{shown}</span>'
