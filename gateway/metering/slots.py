"""The table of open requests as others read it, while its worker writes to it or after that has died."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from gateway.metering.layout import FRAME, RECORD_BYTES, SLOT_BYTES, SLOT_WORDS
from gateway.metering.table import TOKEN_BITS, OpenRecord
from models.store.usage import OpenRequest, Run, UsageEvent

CODE = "worker_died"
STATUS = 500  # where no answer had begun
TRIES = 5

log = structlog.get_logger(__name__)


class Open(NamedTuple):
    """What a slot says."""

    record: OpenRecord
    prompt: int
    completion: int

    @property
    def runs(self) -> tuple[Run, ...]:
        """Those that are over."""
        return tuple(Run(replica=replica, from_us=from_us, us=us) for replica, from_us, us in self.record.runs)

    def request(self) -> OpenRequest:
        record = self.record
        return OpenRequest(
            id=record.id,
            key_id=record.key_id,
            project=record.project,
            tenant=record.tenant,
            model=record.model,
            replica=record.replica,
            from_us=record.from_us,
            wake_us=record.wake_us,
            runs=self.runs,
        )

    def event(self, died_us: int, worker: str) -> UsageEvent:
        """``died_us``: when its worker was last seen; that is when the request ended."""
        record, runs = self.record, self.runs
        if record.replica:
            runs += (Run(replica=record.replica, from_us=record.from_us, us=max(0, died_us - record.from_us)),)
        return UsageEvent(
            id=record.id,
            started_us=record.started_us,
            ended_us=max([died_us, record.started_us, *(run.from_us + run.us for run in runs)]),
            key_id=record.key_id,
            project=record.project,
            tenant=record.tenant,
            model=record.model,
            endpoint=record.endpoint,
            status=record.status or STATUS,
            code=CODE,
            stream=record.stream,
            prompt_tokens=self.prompt,
            completion_tokens=self.completion,
            estimated=True,
            cut=True,
            queue_us=record.queue_us,
            wake_us=record.wake_us,
            runs=runs,
            price_list=record.price_list,
            worker=worker,
        )


def open_in(folder: Path) -> list[Open]:
    """All that are open in the table of this spool. Raises OSError."""
    return [one for path in sorted(folder.glob("*.open")) for one in _in_file(path)]


def _in_file(path: Path) -> Iterator[Open]:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return  # it is being made, or its worker was killed at that
        data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    with memoryview(data) as raw, raw.cast("Q") as words:
        for number in range(len(data) // SLOT_BYTES):
            found = _stable(data, words, number)
            if found is not None:
                yield found


def _stable(data: mmap.mmap, words: memoryview, number: int) -> Open | None:
    """A slot while nobody wrote to it."""
    at = number * SLOT_BYTES // 8
    for _ in range(TRIES):
        good, tokens = words[at], words[at + 1]
        if good not in (1, 2):
            return None
        content = _record(data, number * SLOT_BYTES + SLOT_WORDS * 8 + (good - 1) * RECORD_BYTES)
        if content is not None and words[at] == good:
            record = msgspec.msgpack.decode(content, type=OpenRecord)
            return Open(record, tokens >> TOKEN_BITS, tokens & (1 << TOKEN_BITS) - 1)
    log.error("an open request cannot be read", slot=number)
    return None


def _record(data: mmap.mmap, begin: int) -> bytes | None:
    size, check = FRAME.unpack_from(data, begin)
    if size > RECORD_BYTES - FRAME.size:
        return None
    content = data[begin + FRAME.size : begin + FRAME.size + size]
    return content if zlib.crc32(content) == check else None
