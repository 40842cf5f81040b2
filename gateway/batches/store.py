"""Batches in Redis, and their folders on disk."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from gateway.batches.records import OPEN, BatchRecord
from gateway.clock import Clock
from gateway.state import asking_redis
from models.store.keys import Keys
from models.store.shelf import Page, Quota, Shelf

KIND = "batches"
KEPT_S = 30 * 86_400.0  # after the end
MOST_PER_OWNER = 10_000
INPUT = "input.jsonl"
_QUOTA = Quota(MOST_PER_OWNER, most_bytes=256 << 20)


@dataclass(frozen=True, slots=True)
class Named:
    """An open batch. ``since_unix_s``: when it was created."""

    owner: str
    id: str
    since_unix_s: float


class BatchStore:
    """Every method raises StoreUnavailable."""

    def __init__(self, redis: Redis, keys: Keys, root: Path, clock: Clock) -> None:
        self._redis, self._keys, self._root, self._clock = redis, keys, root, clock
        self._shelf = Shelf(redis, keys, KIND, BatchRecord, _QUOTA, clock.unix)

    @cached_property
    def place(self) -> str:
        """The name of this disk, the same for all workers that see it, on whichever machine. Raises OSError."""
        path = self._root / "place"
        with contextlib.suppress(FileNotFoundError):
            return path.read_text()
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = secrets.token_hex(8)
        draft = self._root / f"place-{name}"
        draft.write_text(name)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # the first one names it
        draft.unlink()
        return path.read_text()

    def folder(self, batch_id: str) -> Path:
        return self._root / batch_id

    def lay_out(self, batch_id: str, content: Path) -> None:
        """The input gets a name of its own here, so that the batch survives its file. Raises OSError."""
        folder = self.folder(batch_id)
        folder.mkdir(mode=0o700, parents=True)
        os.link(content, folder / INPUT)

    def folders(self, untouched_since_unix_s: float) -> Iterator[Path]:
        for folder in self._root.iterdir() if self._root.is_dir() else ():
            if folder.is_dir() and folder.stat().st_mtime < untouched_since_unix_s:
                yield folder

    async def add(self, record: BatchRecord) -> None:
        """Raises ShelfFull."""
        async with asking_redis():
            # First, so that no batch is there which nobody works on.
            await self._redis.zadd(
                self._keys.batches_open(self.place), {f"{record.owner}/{record.id}": record.created_at}
            )
            await self._shelf.put(record.owner, record.id, record, order=self._clock.unix())

    async def find(self, owner: str, batch_id: str) -> BatchRecord | None:
        async with asking_redis():
            return await self._shelf.get(owner, batch_id)

    async def page(self, owner: str, after: str | None, limit: int) -> Page[BatchRecord]:
        """Newest first."""
        async with asking_redis():
            return await self._shelf.page(owner, after=after, limit=limit, newest_first=True)

    async def change(
        self, owner: str, batch_id: str, change: Callable[[BatchRecord], BatchRecord | None]
    ) -> BatchRecord | None:
        """As ``Shelf.change``; one that has ended is kept for ``KEPT_S`` more."""
        async with asking_redis():
            changed = await self._shelf.change(owner, batch_id, change)
            if changed is not None and changed.status not in OPEN:
                await self._shelf.change(owner, batch_id, lambda record: record, ttl_s=KEPT_S)
                await self.close(owner, batch_id)
            return changed

    async def open(self) -> list[Named]:
        """Oldest first."""
        async with asking_redis():
            found: Any = await self._redis.zrange(self._keys.batches_open(self.place), 0, -1, withscores=True)
        named = []
        for name, since_unix_s in found:
            owner, _, batch_id = name.decode().partition("/")
            named.append(Named(owner, batch_id, float(since_unix_s)))
        return named

    async def close(self, owner: str, batch_id: str) -> None:
        async with asking_redis():
            await self._redis.zrem(self._keys.batches_open(self.place), f"{owner}/{batch_id}")
