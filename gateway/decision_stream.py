"""The stream of decisions in Redis, read both ways: what was decided last, and what is decided from now on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.asyncio import Redis

from gateway.decision_views import outcomes, still_open
from gateway.state import asking_redis
from models.store.codec import decode
from models.store.errors import StoreDataError
from models.store.keys import Keys
from models.store.records import DecisionRecord

log = logging.getLogger("gateway.decisions")
PAGE = 500
OUTCOMES_LOOKED_AT = 2000  # later records among which the outcomes of older ones are looked for
LOOK_EVERY_S = 1.0  # a blocking read is asked again after this long: the worker may be told to end meanwhile


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which decisions. ``model``: also those that were made for its sake."""

    model: str | None = None
    replica: str | None = None
    gpu: str | None = None

    def __contains__(self, record: DecisionRecord) -> bool:
        return (
            self.model in (None, record.model_id, record.evicted_for)
            and self.replica in (None, record.replica_id)
            and self.gpu in (None, record.gpu)
        )


@dataclass(frozen=True, slots=True)
class DecisionStream:
    redis: Redis
    keys: Keys
    monotonic: Callable[[], float] = time.monotonic

    async def last(self, limit: int, wanted: Wanted, before: str | None = None) -> tuple[DecisionRecord, ...]:
        """The newest first; older than the stream id ``before`` when it is given. Raises StoreUnavailable."""
        found: list[DecisionRecord] = []
        end = f"({before}" if before else "+"
        async with asking_redis():
            while len(found) < limit:
                entries: Any = await self.redis.xrevrange(self.keys.decisions, max=end, count=PAGE)
                found += [record for record in _records(entries) if record in wanted]
                if len(entries) < PAGE:
                    break
                end = f"({entries[-1][0].decode()}"
        return tuple(found[:limit])

    async def came_of(self, records: tuple[DecisionRecord, ...]) -> dict[str, DecisionRecord]:
        """What is known of those ``records`` (newest first) that were under way. Raises StoreUnavailable."""
        known = outcomes(records)
        missing = still_open(records, known)
        oldest = next((record for record in reversed(records) if record.key in missing), None)
        # Not only after the newest of them: an outcome need not be one of those that were wanted.
        start = f"({oldest.id}" if oldest is not None else "+"
        looked_at = 0
        async with asking_redis():
            while missing and looked_at < OUTCOMES_LOOKED_AT:
                entries: Any = await self.redis.xrange(self.keys.decisions, min=start, count=PAGE)
                later = outcomes(_records(entries))
                known |= {key: record for key, record in later.items() if key in missing}
                missing -= later.keys()
                looked_at += len(entries)
                if len(entries) < PAGE:
                    break
                start = f"({entries[-1][0].decode()}"
        return known

    async def after(self, after: str, limit: int, wanted: Wanted) -> tuple[tuple[DecisionRecord, ...], str]:
        """The oldest first, later than the stream id ``after``; and up to where that was read. Raises
        StoreUnavailable."""
        found: list[DecisionRecord] = []
        async with asking_redis():
            while len(found) < limit:
                entries: Any = await self.redis.xrange(self.keys.decisions, min=f"({after}", count=PAGE)
                for record in _records(entries):
                    if record in wanted:
                        found.append(record)
                    after = record.id
                    if len(found) == limit:
                        return tuple(found), after
                after = entries[-1][0].decode() if entries else after
                if len(entries) < PAGE:
                    break
        return tuple(found), after

    async def wait(
        self, after: str, limit: int, wanted: Wanted, wait_s: float, leaving: Callable[[], bool]
    ) -> tuple[tuple[DecisionRecord, ...], str]:
        """``after``, as soon as there is something; nothing when that takes longer than ``wait_s``, or the worker is
        ``leaving``. Raises StoreUnavailable."""
        until_s = self.monotonic() + wait_s
        while True:
            found, after = await self.after(after, limit, wanted)
            left_s = until_s - self.monotonic()
            if found or left_s <= 0 or leaving():
                return found, after
            block_s = min(left_s, LOOK_EVERY_S)
            async with asking_redis(block_s + 2):
                await self.redis.xread({self.keys.decisions: after}, count=1, block=max(1, round(block_s * 1000)))


def _records(entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> Iterator[DecisionRecord]:
    """What is no decision is left out: it does not keep anybody from seeing the others."""
    for entry_id, fields in entries:
        stream_id = entry_id.decode()
        try:
            record = decode(fields.get(b"d", b""), DecisionRecord, f"decision {stream_id}")
        except StoreDataError as problem:
            log.warning("%s", problem)
        else:
            yield msgspec.structs.replace(record, id=stream_id)
