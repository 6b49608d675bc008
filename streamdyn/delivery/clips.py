"""A clip and a picture of every event that has ended, cut from what was received."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from streamdyn.clock import format_time
from streamdyn.delivery.courier import DeliveryError
from streamdyn.errors import SourceError
from streamdyn.index.live_book import Message
from streamdyn.sources.live.clip import (
    packets_between,
    seconds_since_written,
    write_clip,
    write_thumbnail,
)
from streamdyn.sources.live.packets import TICKS_PER_SECOND

logger = logging.getLogger(__name__)
IDLE_SECONDS = 10.0
"""Nothing came for so long: what comes after an event will not come soon."""


class Clips:
    """A folder of clips, one an event; named by stream, time, label and event.

    Args:
        folder: Made when missing.
        spool_of: Stream → folder of its spool.
        before_seconds: Of the event's beginning; the clip begins at the keyframe before.
        after_seconds: Of its end.
        longest_seconds: Of a clip.
        keep_bytes: The oldest files are deleted beyond.
    """

    topics = frozenset({"event"})

    def __init__(
        self,
        folder: Path,
        spool_of: Callable[[str], Path],
        *,
        before_seconds: float,
        after_seconds: float,
        longest_seconds: float,
        keep_bytes: int,
    ) -> None:
        self.name = self.key = f"clips {folder}"
        self._folder, self._spool_of = folder, spool_of
        self._before, self._after = before_seconds, after_seconds
        self._longest, self._keep_bytes = longest_seconds, keep_bytes

    def send(self, messages: Sequence[Message]) -> int:
        """Cut clips of events that have ended; how many messages that settles.

        0 where what comes after the first event has not come yet.

        Raises:
            DeliveryError: The folder cannot be written.
        """
        for place, message in enumerate(messages):
            event = json.loads(message.body)
            if event["phase"] == "end" and not self._cut(event):
                return place
        return len(messages)

    def _cut(self, event: dict[str, Any]) -> bool:
        """Whether it is done, or cannot be."""
        spool = self._spool_of(event["stream"])
        start = event["start_seconds"] - self._before
        stop = min(event["stop_seconds"] + self._after, start + self._longest)
        try:
            section, packets = packets_between(
                spool, round(start * TICKS_PER_SECOND), round(stop * TICKS_PER_SECOND)
            )
            # The packet that reaches the end may be of another stretch: an idle spool has no more.
            is_whole = packets[-1].ticks >= (stop - 1) * TICKS_PER_SECOND
            if not is_whole and seconds_since_written(spool) < IDLE_SECONDS:
                return False
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / _file_name(event)
            write_clip(section, packets, path)
            best = round(event["best_seconds"] * TICKS_PER_SECOND)
            write_thumbnail(section, [p for p in packets if p.ticks <= best] or packets, best, path)
            self._clean()
        except SourceError as exc:
            logger.warning("no clip of event %s: %s", event["event"], exc)
        except OSError as exc:
            raise DeliveryError(f"cannot write to {self._folder}: {exc.strerror or exc}") from exc
        return True

    def _clean(self) -> None:
        files = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
        held = sum(path.stat().st_size for path in files)
        for path in files[:-2]:
            if held <= self._keep_bytes:
                return
            held -= path.stat().st_size
            path.unlink()

    def close(self) -> None:
        """Nothing is held back."""


def _file_name(event: dict[str, Any]) -> str:
    when = re.sub(r"[^0-9T]+", "-", format_time(event["start_seconds"]).replace(" ", "T"))
    label = re.sub(r"[^\w]+", "_", event["label"])[:40]
    return f"{event['stream']}_{when}_{label}_{event['event'][:8]}.mp4"
