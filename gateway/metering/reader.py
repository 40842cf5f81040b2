"""What gateway workers have metered, as the meter reads it: their logs and the requests that they have under way.

Each worker, living or dead, has a spool: a folder of its own with a log of ``UsageEvent`` in segments and a table of
open requests. An offset is a place in the log; it only grows, begins at 0, is below 2**53, and stays good when old
segments are dropped. To ship all of it, once:

1. ``alive = spool.is_alive``, then ``look = spool.look()``.
2. ``read`` from the last offset until ``look.end`` is reached.
3. With those events their new offset, then ``look.watermark``. A request that is in ``watermark.open`` and in an event
   of step 2 has ended meanwhile: the event counts. Every other one that was on a replica at ``until_us`` is in
   ``open``, and every one that ended before is in an event up to ``look.end``.
4. Where it was not alive: ``finish()`` (what was under way becomes events with ``cut``), look and read once more; then
   ``look.finished`` is true, and the spool holds nothing back any more. ``remove`` it when it is shipped.

``until_us`` never gets ahead of what is written: it stops while a worker is stopped, and for good when it is dead.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.metering.finishing import write_last
from gateway.metering.layout import (
    END_WORD,
    FIRST,
    LOCK,
    STATE,
    STATE_NAME,
    UNTIL_WORD,
    Segment,
    offset_of,
    place_of,
    segments_of,
)
from gateway.metering.recorder import BEING_MADE
from gateway.metering.segment import SegmentReader, SpoolError, check_format
from gateway.metering.slots import open_in
from models.home import Home
from models.store.usage import UsageEvent, Watermark, identity_of

__all__ = ["Batch", "Look", "Spool", "SpoolError", "clear_away", "spools"]

KEPT_S = 600.0
KEPT_BYTES = 256 << 20
MAKING_S = 60.0


@dataclass(frozen=True, slots=True)
class Batch:
    """``offset``: where to go on. ``lost_bytes``: of the log that could not be read and were passed over (a disk or a
    machine that failed; never after a kill): to be told loudly."""

    events: list[UsageEvent]
    offset: int
    lost_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """``end``: of the log, after ``watermark`` was read. ``finished``: nothing will ever be added to the spool."""

    watermark: Watermark
    end: int
    finished: bool = False


class Spool:
    """Of one worker. ``look`` and ``read`` may be used by several processes at once, the rest by one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worker = folder.name
        self._reader: SegmentReader | None = None

    @property
    def is_alive(self) -> bool:
        """Whether its worker has it open. Raises OSError."""
        try:
            lock = os.open(self.folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def look(self) -> Look:
        """Raises SpoolError when it is of another format, OSError."""
        until_us, hint = self._state()
        finished = any(segment.last for segment in segments_of(self.folder))
        opens = [] if finished else open_in(self.folder)
        watermark = Watermark(worker=self.worker, until_us=until_us, open=tuple(one.request() for one in opens))
        return Look(watermark, self._end(hint), finished)

    def read(self, offset: int, most: int = 10_000) -> Batch:
        """Up to ``most`` events; none: there are no more at present. Raises SpoolError, OSError."""
        events: list[UsageEvent] = []
        lost = 0
        while (reader := self._reader_at(offset)) is not None:
            number, place = place_of(offset)
            place = max(place, FIRST) if reader.number == number else FIRST
            is_over = self._is_over(reader.number)  # first: then all that was ever written to it is there
            place = reader.read(place, events, most)
            offset = offset_of(reader.number, place)
            if len(events) >= most or not is_over:
                break
            lost += reader.unreadable(place)
            offset = offset_of(reader.number + 1, FIRST)
        return Batch(events, offset, lost)

    def beyond(self, offset: int) -> Iterator[tuple[UsageEvent, int]]:
        """All events after it, and where each of them ends. Raises SpoolError, OSError."""
        number, place = place_of(offset)
        for segment in segments_of(self.folder):
            if segment.number >= number:
                events: list[UsageEvent] = []
                places: list[int] = []
                first = max(place, FIRST) if segment.number == number else FIRST
                self._open(segment).read(first, events, 1 << 40, places)
                yield from zip(events, (offset_of(segment.number, end) for end in places), strict=True)

    def finish(self) -> bool:
        """Of a dead worker: what it had under way becomes events of its log. False while it lives.

        May be called again, also after it was killed half-way: each request gets one event. Raises SpoolError, OSError.
        """
        if self.is_alive:
            return False
        segments = segments_of(self.folder)
        if any(segment.last for segment in segments):
            return True
        until_us, hint = self._state()
        number, _ = place_of(self._end(hint))
        # It may have been killed after it wrote an event, and before it cleared the request's slot.
        written = self._last_event(segments)
        opens = [one for one in open_in(self.folder) if identity_of(one.request()) != written]
        write_last(self.folder, number + 1, [one.event(until_us, self.worker) for one in opens])
        return True

    def drop(self, before: int, now_unix_s: float, kept_s: float = KEPT_S, kept_bytes: int = KEPT_BYTES) -> int:
        """Bytes freed: of segments that lie before this offset, those that were last written so long ago, and the
        oldest of all that are more than so many bytes. Raises OSError."""
        first, _ = place_of(before)
        freed = kept = 0
        for segment in reversed([one for one in segments_of(self.folder) if one.number < first]):
            status = segment.path.stat()
            kept += status.st_size
            if kept > kept_bytes or status.st_mtime < now_unix_s - kept_s:
                segment.path.unlink()
                freed += status.st_size
        return freed

    def remove(self) -> bool:
        """All of it. False while its worker lives or ``finish`` was not called. Raises OSError."""
        if self.is_alive or not any(segment.last for segment in segments_of(self.folder)):
            return False
        gone = self.folder.with_name(f"{BEING_MADE}{self.worker}")
        self.folder.rename(gone)  # half of a spool must not look like one
        shutil.rmtree(gone)
        return True

    # -- the log -----------------------------------------------------------------------------------------------------

    def _state(self) -> tuple[int, int]:
        """Until when the table and the log are complete, and a good offset near the log's end."""
        path = self.folder / STATE_NAME
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        check_format(data, STATE, path)
        with memoryview(data) as raw, raw.cast("Q") as words:
            return words[UNTIL_WORD], words[END_WORD]

    def _end(self, hint: int) -> int:
        number, place = place_of(hint)
        end = hint
        for segment in segments_of(self.folder):
            if segment.number >= number:
                reader = self._open(segment)
                end = offset_of(segment.number, reader.end(place if segment.number == number else FIRST))
        return end

    def _last_event(self, segments: list[Segment]) -> str | None:
        """Which one is the last in the log."""
        for segment in reversed(segments):
            events: list[UsageEvent] = []
            self._open(segment).read(FIRST, events, 1 << 40)
            if events:
                return identity_of(events[-1])
        return None

    def _is_over(self, number: int) -> bool:
        return any(segment.number > number for segment in segments_of(self.folder))

    def _reader_at(self, offset: int) -> SegmentReader | None:
        """Of its segment, or of the first after it that is still there."""
        number, _ = place_of(offset)
        if self._reader is not None and self._reader.number == number:
            return self._reader
        for segment in segments_of(self.folder):
            if segment.number >= number:
                self._reader = self._open(segment)
                return self._reader
        return None

    def _open(self, segment: Segment) -> SegmentReader:
        return SegmentReader(segment, self.worker)


def clear_away(home: Home, now_unix_s: float) -> None:
    """Folders that were half made or half removed when somebody was killed. Raises OSError."""
    for path in home.spool.glob(f"{BEING_MADE}*"):
        if path.stat().st_mtime < now_unix_s - MAKING_S and not Spool(path).is_alive:
            shutil.rmtree(path)


def spools(home: Home) -> list[Spool]:
    """Of all workers of this machine, by name. Raises OSError."""
    if not home.spool.is_dir():
        return []
    return [
        Spool(path)
        for path in sorted(home.spool.iterdir())
        if path.is_dir() and not path.name.startswith(BEING_MADE) and (path / STATE_NAME).exists()
    ]
