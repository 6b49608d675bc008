"""Messages in a file, one JSON object a line; a new file when it has grown."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from streamdyn.delivery.courier import DeliveryError
from streamdyn.index.live_book import Message


class JsonlFile:
    """A file that programs follow; full ones become `NAME.1`, `NAME.2`, the newest first.

    Each line is a message with its `number`; a number that is in the file is not written again.

    Args:
        path: The file.
        rotate_bytes: It is renamed when it is larger.
        keep_files: Renamed ones that are kept.
        topics: Messages to write.
    """

    def __init__(
        self, path: Path, *, rotate_bytes: int, keep_files: int, topics: frozenset[str]
    ) -> None:
        self.name, self.topics = f"jsonl {path}", topics
        self.key = self.name
        self._path, self._rotate_bytes, self._keep_files = path, rotate_bytes, keep_files
        self._file: BinaryIO | None = None
        self._last = 0

    def send(self, messages: Sequence[Message]) -> int:
        """Write messages; all of them.

        Raises:
            DeliveryError: The disk is full, or the file cannot be written.
        """
        try:
            file = self._open()
            lines = [_line(message) for message in messages if message.number > self._last]
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
            self._last = max(self._last, messages[-1].number)
            if file.tell() > self._rotate_bytes:
                self._rotate()
        except OSError as exc:
            # What was written of it is found, and taken back, when the file is opened again.
            self.close()
            raise DeliveryError(f"cannot write {self._path}: {exc.strerror or exc}") from exc
        return len(messages)

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab+")
            end = _end_of_last_line(self._file)
            self._file.truncate(end)
            self._last = max(self._last, self._last_number(end))
        return self._file

    def _last_number(self, end: int) -> int:
        """Of the last message that is in the files."""
        assert self._file is not None
        for path in (self._path, self._renamed(1)):
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - (1 << 20)))
                lines = file.read().splitlines()
            if lines:
                return int(json.loads(lines[-1])["number"])
        return 0

    def _renamed(self, place: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{place}")

    def _rotate(self) -> None:
        self.close()
        self._renamed(self._keep_files).unlink(missing_ok=True)
        for place in range(self._keep_files - 1, 0, -1):
            if self._renamed(place).exists():
                self._renamed(place).replace(self._renamed(place + 1))
        self._path.replace(self._renamed(1))

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()


def _line(message: Message) -> bytes:
    body = json.loads(message.body)
    return json.dumps({"number": message.number, "type": message.topic, **body}).encode() + b"\n"


def _end_of_last_line(file: BinaryIO) -> int:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - (1 << 20)))
    tail = file.read()
    return end - len(tail) + tail.rfind(b"\n") + 1
