"""One segment of a log as others read it."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from gateway.metering.frames import Reading, walk
from gateway.metering.layout import FIRST, FORMAT, FRAME, HEADER, MAGIC, Segment
from models.store.usage import UsageEvent

LONGEST_WRITE_BYTES = 64 << 10  # that its worker does at once: so much may be unfinished when it is killed


class SpoolError(Exception):
    """A spool that this version cannot read; says which file and why."""


class SegmentReader:
    """Raises SpoolError for one of another format, OSError."""

    def __init__(self, segment: Segment, worker: str) -> None:
        self.number = segment.number
        self._path = segment.path
        self._worker = worker
        with segment.path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        check_format(self._data, HEADER, segment.path)
        self._reading = Reading(worker)
        self._known_to = FIRST  # texts before it were read

    def read(self, place: int, events: list[UsageEvent], most: int, places: list[int] | None = None) -> int:
        """Adds to ``events`` until they are ``most``; where to go on. ``places``: where each of them ends.

        Raises SpoolError.
        """
        self._go_to(place)
        try:
            for after, content in walk(self._data, place):
                event = self._reading.take(content)
                place = self._known_to = after
                if event is not None:
                    events.append(event)
                    if places is not None:
                        places.append(after)
                    if len(events) >= most:
                        break
        except (ValueError, KeyError, struct.error) as wrong:
            raise SpoolError(f"{self._path} at {place}: {wrong!r}") from wrong
        return place

    def end(self, place: int) -> int:
        """After the last good frame, from a good place on."""
        for after, _ in walk(self._data, max(place, FIRST)):
            place = after
        return max(place, FIRST)

    def unreadable(self, place: int) -> int:
        """Bytes after the last good frame that are more than what a killed worker did not finish."""
        rest = self._data[place:].rstrip(b"\0")
        if not rest:
            return 0
        size = FRAME.unpack_from(self._data, place)[0] if place + FRAME.size <= len(self._data) else 0
        unfinished = FRAME.size + size if size else LONGEST_WRITE_BYTES
        return 0 if len(rest) <= unfinished <= LONGEST_WRITE_BYTES else len(rest)

    def _go_to(self, place: int) -> None:
        if place < self._known_to:
            self._reading, self._known_to = Reading(self._worker), FIRST
        for after, content in walk(self._data, self._known_to):
            if after > place:
                break
            self._reading.texts_only(content)
            self._known_to = after


def check_format(data: mmap.mmap, shape: struct.Struct, path: Path) -> None:
    """Raises SpoolError."""
    if len(data) < shape.size:
        raise SpoolError(f"{path} has {len(data)} bytes only")
    magic, version, _ = shape.unpack_from(data)
    if magic != MAGIC:
        raise SpoolError(f"{path} is no part of a spool")
    if version != FORMAT:
        raise SpoolError(f"{path} is of format {version}, and this version knows format {FORMAT} only")
