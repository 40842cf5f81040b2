"""The table of open requests: those that run for long, or whose answer is under way. If the worker dies, its events
are made from it.

A slot has two records; its first word tells which of them is good, 0: none. A record is written beside the good one
and then made it, in one store of 64 bits; so are tokens. Whatever moment a worker is killed at, the slot is whole.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec
import structlog

from gateway.metering import mapped
from gateway.metering.layout import FRAME, RECORD_BYTES, SLOT_BYTES, SLOT_WORDS, SLOTS, table_name

TOKEN_BITS = 32

log = structlog.get_logger(__name__)


class OpenRecord(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a request while it runs. ``replica``: "" while it is on none. Times as in an event."""

    id: str
    key_id: str
    project: str
    tenant: str
    model: str
    endpoint: str
    price_list: str
    started_us: int
    queue_us: int
    wake_us: int
    replica: str
    from_us: int
    runs: tuple[tuple[str, int, int], ...]
    status: int
    stream: bool


class Slot:
    """One open request's. ``words``: of its file, 64 bits each; ``at``: of this slot's first."""

    __slots__ = ("_at_byte", "_bytes", "at", "words")

    def __init__(self, words: memoryview, number: int) -> None:
        self.words = words
        self.at = number * SLOT_BYTES // 8
        self._bytes = words.cast("B")
        self._at_byte = number * SLOT_BYTES

    def put(self, record: OpenRecord) -> None:
        """Raises ValueError where it is too long for the slot."""
        content = msgspec.msgpack.encode(record)
        if len(content) + FRAME.size > RECORD_BYTES:
            raise ValueError(f"what is known of request {record.id} takes {len(content)} bytes")
        beside = 2 if self.words[self.at] == 1 else 1
        begin = self._at_byte + SLOT_WORDS * 8 + (beside - 1) * RECORD_BYTES
        frame = FRAME.pack(len(content), zlib.crc32(content)) + content
        self._bytes[begin : begin + len(frame)] = frame
        self.words[self.at] = beside

    def count(self, prompt: int, completion: int) -> None:
        """Tokens that were passed on so far. 0.1 us."""
        self.words[self.at + 1] = prompt << TOKEN_BITS | completion

    def clear(self) -> None:
        self.words[self.at] = 0
        self.words[self.at + 1] = 0


class Table:
    """Grows by a file of SLOTS when it is full."""

    def __init__(self, folder: Path, room_bytes: int) -> None:
        self._folder = folder
        self._room_bytes = room_bytes
        self._free: list[Slot] = []
        self._files = 0
        self._complained = False

    def take(self, record: OpenRecord) -> Slot | None:
        """None: there is no room on the disk; then a request that is cut off with its worker leaves no trace."""
        try:
            if not self._free:
                self._grow()
            slot = self._free[-1]
            slot.put(record)
        except (OSError, ValueError) as wrong:
            if not self._complained:
                self._complained = True
                log.error("an open request cannot be noted on disk", reason=str(wrong), folder=str(self._folder))
            return None
        self._free.pop()
        return slot

    def put_back(self, slot: Slot) -> None:
        slot.clear()
        self._free.append(slot)

    def _grow(self) -> None:
        path = self._folder / table_name(self._files)
        words = memoryview(mapped.create(path, SLOTS * SLOT_BYTES, self._room_bytes)).cast("Q")
        self._files += 1
        self._free += [Slot(words, number) for number in reversed(range(SLOTS))]
