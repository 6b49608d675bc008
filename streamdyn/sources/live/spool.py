"""Packets of one live stream on disk: written as they come, read when there is time for them.

What a camera sent before a crash is still there after it, a recognizer that is late costs disk and
no memory, and a stretch of video can be cut out later without encoding it again.

```
SPOOL/00000041.spool   section, packet, packet, ...        begins with a keyframe
SPOOL/00000042.spool   section, packet, ...                being written
```

Files are made anew every `file_bytes` at the next keyframe; the oldest are deleted once all is
larger than `max_bytes`. A record that a crash cut short does not count. Nothing is synced: what is
written outlives the process, not a power cut.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from streamdyn.claims import claim
from streamdyn.errors import StoreError
from streamdyn.sources.live.packets import TICKS_PER_SECOND, LivePacket, Section
from streamdyn.sources.live.spool_records import (
    Record,
    packed_packet,
    packed_section,
    read_record,
)

MAX_FILES = 256
"""Besides those that are not done."""
CLAIM_SECONDS = 60.0
"""For a process that had the folder, and is about to end, to give it back."""
LONGEST_STEP = TICKS_PER_SECOND
"""Of media time between two packets; more is a gap, in which nothing came."""


@dataclass(slots=True)
class MediaMeter:
    """Adds up how much media packets hold, gaps left out."""

    ticks: int = 0
    _last: int | None = None
    _section: int = -1

    def begin(self, section: Section) -> None:
        """The packets that follow are of this section; what lies before another one is a gap."""
        if section.number != self._section:
            self._section, self._last = section.number, None

    def add(self, packet: LivePacket) -> int:
        """The sum after another packet."""
        now = packet.ticks if packet.dts is None else packet.dts
        if self._last is not None:
            self.ticks += min(max(0, now - self._last), LONGEST_STEP)
        self._last = now
        return self.ticks


@dataclass(slots=True)
class SpoolFile:
    """One file of a spool."""

    number: int
    path: Path
    num_bytes: int = 0
    """Published: a reader may read so far."""
    num_packets: int = 0
    last_ticks: int = -1
    """Greatest pts in it."""
    meter: MediaMeter = field(default_factory=MediaMeter)
    """As it stood before its first packet."""


class Spool:
    """Written by one thread, read by others.

    Args:
        folder: Made when missing; one stream's alone.
        max_bytes: Of all files.
        file_bytes: Of one, about.
        may_wait: A writer waits for room where deleting would lose what was not read.

    Raises:
        StoreError: The folder cannot be made or read, or another process has it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int = 256 << 20,
        file_bytes: int = 4 << 20,
        may_wait: bool = False,
    ) -> None:
        self.folder, self._max_bytes, self._file_bytes = folder, max_bytes, file_bytes
        self._may_wait = may_wait
        self.changed = threading.Condition()
        self._writing = threading.Lock()
        self.files: deque[SpoolFile] = deque()
        self.has_ended = False
        """Nothing more will come."""
        self.is_closed = False
        self.done_ticks: int | None = None
        """What is not later will not be asked for again."""
        self.section: Section | None = None
        """The last one written."""
        self.last_dts: int | None = None
        self.last_ticks: int | None = None
        """Greatest pts that was stored."""
        self.num_told = 0
        """Of packets that were lost or refused: so many are in receipts."""
        self.num_bytes = 0
        """Of all files."""
        self.num_lost = 0
        """Packets that were deleted before they were done."""
        self.meter = MediaMeter()
        """Of all that was stored."""
        self._marks: deque[tuple[int, int]] = deque()  # (pts, meter) of what is not done.
        self._done_media = 0
        self._file: BinaryIO | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._claim = claim(folder, wait_seconds=CLAIM_SECONDS)
            try:
                self._take_stock()
            except BaseException:
                self._claim.close()
                raise
        except OSError as exc:
            raise StoreError(
                f"cannot keep packets in {folder}: {exc.strerror or exc}; name another folder"
            ) from exc

    def _take_stock(self) -> None:
        for path in sorted(self.folder.glob("*.spool")):
            file = SpoolFile(int(path.stem), path, meter=replace(self.meter))
            with path.open("rb") as stored:
                while (record := read_record(stored)) is not None:
                    file.num_bytes = stored.tell()
                    self._note(file, record)
            if file.num_packets:
                os.truncate(path, file.num_bytes)
                self.files.append(file)
                self.num_bytes += file.num_bytes
            else:
                path.unlink()

    def _note(self, file: SpoolFile, record: Record) -> None:
        if isinstance(record, Section):
            self.section = record
            self.meter.begin(record)
            return
        file.num_packets += 1
        file.last_ticks = max(file.last_ticks, record.ticks)
        self.last_ticks = max(self.last_ticks or record.ticks, record.ticks)
        self.last_dts = record.dts if record.dts is not None else record.ticks
        self._marks.append((record.ticks, self.meter.add(record)))

    def begin(self, section: Section) -> None:
        """The packets that follow are of a new section; its first one is a keyframe."""
        self.section = section
        self.meter.begin(section)
        self._close_file()

    def append(self, packet: LivePacket) -> bool:
        """Store a packet; false where the disk has no room for it."""
        if packet.keyframe and self.files and self.files[-1].num_bytes >= self._file_bytes:
            self._close_file()
        record = packed_packet(packet)
        if not self._make_room(len(record)):
            return False
        with self._writing:
            if self.is_closed:
                return False
            while not self._write(record):
                if not self._give_up_done_file():
                    return False
        with self.changed:
            file = self.files[-1]
            file.num_bytes += len(record)
            self.num_bytes += len(record)
            self._note(file, packet)
            self.changed.notify_all()
        return True

    def _write(self, record: bytes) -> bool:
        try:
            if self._file is None:
                self._open_file()
            assert self._file is not None
            self._file.write(record)
            self._file.flush()
        except OSError:
            self._undo_write()
            return False
        return True

    def _undo_write(self) -> None:
        """The disk is full: what was written of the record is taken back, and the file ends."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()
            with suppress(OSError), self.changed:
                if self.files[-1].num_packets:
                    os.truncate(self.files[-1].path, self.files[-1].num_bytes)
                else:
                    empty = self.files.pop()
                    self.num_bytes -= empty.num_bytes
                    empty.path.unlink()

    def _give_up_done_file(self) -> bool:
        """Make room on a full disk by packets that nobody needs any more."""
        with self.changed:
            if len(self.files) < 2 or not self._is_done(self.files[0]):
                return False
            self._forget_oldest()
        return True

    def _open_file(self) -> None:
        assert self.section is not None
        number = self.files[-1].number + 1 if self.files else 1
        path = self.folder / f"{number:08d}.spool"
        record = packed_section(self.section)
        self._file = path.open("wb")
        with self.changed:
            self.files.append(SpoolFile(number, path, meter=replace(self.meter)))
        self._file.write(record)
        self._file.flush()
        with self.changed:
            self.files[-1].num_bytes = len(record)
            self.num_bytes += len(record)

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _make_room(self, num_bytes: int) -> bool:
        with self.changed:
            while len(self.files) > 1:
                oldest = self.files[0]
                # A source that hangs up again and again makes many small files.
                is_one_too_many = len(self.files) > MAX_FILES and self._is_done(oldest)
                if self.num_bytes + num_bytes <= self._max_bytes and not is_one_too_many:
                    break
                if self._may_wait and not self._is_done(oldest):
                    if self.is_closed:
                        return False
                    self.changed.wait(0.5)
                    continue
                if not self._is_done(oldest):
                    self.num_lost += oldest.num_packets
                self._forget_oldest()
        return True

    def _forget_oldest(self) -> None:
        oldest = self.files.popleft()
        self.num_bytes -= oldest.num_bytes
        oldest.path.unlink(missing_ok=True)

    def _is_done(self, file: SpoolFile) -> bool:
        return self.done_ticks is not None and file.last_ticks <= self.done_ticks

    def done(self, ticks: int) -> None:
        """All up to this pts is committed."""
        with self.changed:
            self.done_ticks = ticks
            while self._marks and self._marks[0][0] <= ticks:
                self._done_media = self._marks.popleft()[1]
            self.changed.notify_all()

    @property
    def waiting_seconds(self) -> float:
        """Of media that is stored and not done."""
        return (self.meter.ticks - self._done_media) / TICKS_PER_SECOND if self._marks else 0.0

    def end(self) -> None:
        """Nothing more will come."""
        with self.changed:
            self.has_ended = True
            self.changed.notify_all()

    def close(self) -> None:
        """Wake whoever waits; may be called twice."""
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()
        with self._writing:
            self._close_file()
            self._claim.close()


class SpoolReader:
    """Reads a spool from the last keyframe before a time on, and waits for what comes.

    Args:
        spool: To read.
        after_ticks: Everything up to there was seen; `None`: from the oldest packet on.
    """

    def __init__(self, spool: Spool, after_ticks: int | None = None) -> None:
        self._spool = spool
        self._number = 0
        self._offset = 0
        self._had_gap = False
        self._meter = MediaMeter()
        self._stored: BinaryIO | None = None
        if after_ticks is not None:
            with spool.changed:
                done = [f.number for f in spool.files if f.last_ticks <= after_ticks]
                # Pictures that lead a GOP are decoded from the one before, which may be in there.
                self._number = done[-1] if done else 0

    def next(self, seconds: float, is_over: Callable[[], bool]) -> Record | None:
        """The next record; `None` where none came within some seconds, or never will.

        Args:
            seconds: To wait.
            is_over: Asked while it waits.
        """
        with self._spool.changed:
            while not (file := self._current()):
                if self.has_ended or is_over() or not self._spool.changed.wait(seconds):
                    return None
        if self._stored is None:
            try:
                self._stored = file.path.open("rb")
            except FileNotFoundError:  # Deleted since: counted when its place is taken.
                return self.next(seconds, is_over)
            self._offset = 0
            self._meter = replace(file.meter)
        record = read_record(self._stored)
        if record is None:
            raise StoreError(
                f"cannot read {file.path} at byte {self._offset}: it was changed from outside; "
                "delete the folder to go on with what the stream sends from now on"
            )
        self._offset = self._stored.tell()
        if isinstance(record, LivePacket):
            self._meter.add(record)
        else:
            self._meter.begin(record)
        return record

    @property
    def has_ended(self) -> bool:
        """The stream has, or the spool was closed."""
        return self._spool.has_ended or self._spool.is_closed

    def _current(self) -> SpoolFile | None:
        """The file with the next record, if it is there."""
        files = self._spool.files
        for place, file in enumerate(files):
            if file.number < self._number:
                continue
            if file.number > self._number:
                # Deleted under us; the first one of all is none that we were in.
                self._had_gap |= self._number > 0
                self._enter(file.number)
            if self._offset < file.num_bytes:
                return file
            if place + 1 < len(files):
                self._enter(file.number + 1)
        return None

    def _enter(self, number: int) -> None:
        self._number = number
        self._offset = 0
        if self._stored is not None:
            self._stored.close()
            self._stored = None

    @property
    def waiting_seconds(self) -> float:
        """Of media that is stored and was not read."""
        return (self._spool.meter.ticks - self._meter.ticks) / TICKS_PER_SECOND

    def take_gap(self) -> bool:
        """Whether packets before the last record were deleted unread; asked once."""
        had_gap, self._had_gap = self._had_gap, False
        return had_gap

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._enter(self._number)
