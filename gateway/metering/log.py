"""The writer of a worker's log: one segment at work, the next one ready before it is needed."""

from __future__ import annotations

import mmap
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from zlib import crc32

import structlog

from gateway.metering import mapped
from gateway.metering.frames import Texts
from gateway.metering.layout import COMING, FIRST, FRAME, SEGMENT_BYTES, header, log_name, offset_of
from models.store.usage import UsageEvent

ROOM_BYTES = 64 << 20  # of the disk, left to others
MOST_WAITING = 100_000  # events in memory while the disk takes none: about 60 MB

pack_frame = FRAME.pack
log = structlog.get_logger(__name__)


class Log:
    """``waiting``: events in memory, because the disk takes no more. ``lost``: how many even that did not hold.

    ``texts``: of the segment at work.
    """

    def __init__(
        self,
        folder: Path,
        segment_bytes: int = SEGMENT_BYTES,
        room_bytes: int = ROOM_BYTES,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """Raises OSError: there is no place for its first segment."""
        self.waiting: list[UsageEvent] = []
        self.lost = self._told = 0
        self._folder = folder
        self._coming = folder / COMING
        self._segment_bytes = segment_bytes
        self._room_bytes = room_bytes
        self._most_waiting = most_waiting
        self._next: Future[mmap.mmap] | None = None
        self._maker = ThreadPoolExecutor(1, "usage-log")
        self._number = -1
        self._at = FIRST
        self._room = 0  # up to where it may be written to
        self.texts = Texts()
        self._memory: mmap.mmap
        self._use(self._make())

    @property
    def end(self) -> int:
        """The offset after all that is written."""
        return offset_of(self._number, self._at)

    @property
    def is_full(self) -> bool:
        """It has no room for another event, neither on the disk nor in memory."""
        return len(self.waiting) >= self._most_waiting

    def put(self, content: bytes) -> bool:
        """A frame's content as it is, made with ``texts``. False: not now; ``write`` the event. 0.4 us."""
        begin = self._at
        end = begin + FRAME.size + len(content)
        if end > self._room:
            return False
        self._memory[begin:end] = pack_frame(len(content), crc32(content)) + content
        self._at = end
        return True

    def write(self, event: UsageEvent) -> None:
        """Any event, at any time. Raises nothing for a disk that is full."""
        if self.waiting:
            self._wait(event)
        elif not self._wrote(event):
            log.error("the disk is full: usage events are kept in memory", folder=str(self._folder))
            self._wait(event)

    def tick(self) -> None:
        """To be called often: makes the next segment in time, and writes what waits for room."""
        if self.lost != self._told:
            self._told = self.lost
            log.error("usage events are lost: neither the disk nor memory has room for them", lost=self.lost)
        if self.waiting:
            self._write_waiting()
        elif self._next is None and self._at * 2 > self._segment_bytes:
            self._next = self._maker.submit(self._make)

    def close(self) -> None:
        if self.waiting:
            self._write_waiting()
        self._maker.shutdown()
        self._memory.flush()

    def _wrote(self, event: UsageEvent) -> bool:
        """Into this segment, or the next one; False where there is no room for one."""
        for fresh in (False, True):
            if fresh and not self._roll():
                return False
            if self.texts.full or not self._room:
                continue
            frames = self.texts.frames(event)
            end = self._at + len(frames)
            if end <= self._room:
                self._memory[self._at : end] = frames
                self._at = end
                return True
            self._room = 0  # some of its texts are not written
        raise ValueError("a usage event is longer than a segment")

    def _roll(self) -> bool:
        """On to the next segment; False where there is no room for one."""
        ready, self._next = self._next, None
        try:
            memory = self._make() if ready is None else ready.result()
        except OSError:
            return False
        self._use(memory)
        return True

    def _use(self, memory: mmap.mmap) -> None:
        """It has its name from now on: who reads takes the one before for complete."""
        self._coming.rename(self._folder / log_name(self._number + 1))
        self._number += 1
        self._memory = memory  # the one before is unmapped when nothing looks at it any more
        self._at = FIRST
        self.texts = Texts()
        self._room = self._segment_bytes

    def _make(self) -> mmap.mmap:
        self._coming.unlink(missing_ok=True)
        memory = mapped.create(self._coming, self._segment_bytes, self._room_bytes)
        memory[:FIRST] = header()
        return memory

    def _wait(self, event: UsageEvent) -> None:
        if self.is_full:
            self.lost += 1
        else:
            self.waiting.append(event)
        self._room = 0

    def _write_waiting(self) -> None:
        waiting, self.waiting = self.waiting, []
        for number, event in enumerate(waiting):
            if not self._wrote(event):
                self.waiting = waiting[number:]
                return
        log.warning("the disk takes usage events again", folder=str(self._folder), written=len(waiting), lost=self.lost)
