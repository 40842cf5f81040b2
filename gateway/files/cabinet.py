"""The files of all callers: content on the disk, a record of each in Redis.

A file exists when it has a record. Content is put in place before its record is written, and removed after it, so a
process that dies in between leaves content without a record, which ``sweep`` removes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from redis.asyncio import Redis

from gateway.clock import Clock
from gateway.errors import BodyTooLarge, GatewayError, NotFound
from gateway.files.disk import Disk, Written
from gateway.files.records import FileRecord, is_file_id
from gateway.state import asking_redis
from models.store.keys import Keys
from models.store.shelf import Page, Quota, Shelf, ShelfFull

KIND = "files"
ORPHANED_AFTER_S = 3600.0
SWEEP_AT_ONCE = 100

log = structlog.get_logger(__name__)


class StorageQuotaExceeded(GatewayError):
    """The caller's own files fill what one API key may keep."""

    status = 413
    type = "invalid_request_error"
    code = "storage_quota_exceeded"


@dataclass(frozen=True, slots=True)
class FileLimits:
    """``upload_bytes``: of one file; ``owner_bytes`` and ``owner_files``: of all files of one API key;
    ``uploads_at_once``, ``owner_uploads_at_once``: in one worker."""

    upload_bytes: int = 512 << 20
    owner_bytes: int = 4 << 30
    owner_files: int = 10_000
    uploads_at_once: int = 32
    owner_uploads_at_once: int = 8


class Cabinet:
    def __init__(self, redis: Redis, keys: Keys, disk: Disk, clock: Clock, limits: FileLimits) -> None:
        self.disk, self.limits, self.clock = disk, limits, clock
        self._redis, self._keys = redis, keys
        self._shelf = Shelf(redis, keys, KIND, FileRecord, Quota(limits.owner_files, limits.owner_bytes), clock.unix)

    async def check_room(self, owner: str, wanted_bytes: int) -> None:
        """Before anything is read. Raises BodyTooLarge, StorageQuotaExceeded, StoreUnavailable."""
        if wanted_bytes > self.limits.upload_bytes:
            raise BodyTooLarge(self.limits.upload_bytes)
        async with asking_redis():
            _, held_bytes = await self._shelf.held(owner)
        if held_bytes + wanted_bytes > self.limits.owner_bytes:
            raise self._no_room()

    async def add(self, owner: str, written: Written, record: FileRecord, *, force: bool = False) -> None:
        """``force``: whatever the quota says. Doing it again with the same id changes nothing.

        Raises StorageQuotaExceeded, StoreUnavailable, OSError.
        """
        path = await asyncio.to_thread(self.disk.place, written, owner, record.id)
        try:
            async with asking_redis():
                await self._shelf.put(
                    owner, record.id, record, order=self.clock.unix(), size_bytes=record.bytes, force=force
                )
                if record.expires_at is not None:
                    await self._redis.zadd(self._keys.files_due, {f"{owner}/{record.id}": record.expires_at})
        except ShelfFull as full:
            path.unlink(missing_ok=True)
            raise self._no_room() from full

    async def find(self, owner: str, file_id: str) -> FileRecord:
        """Raises NotFound, StoreUnavailable."""
        record = None
        if is_file_id(file_id):
            async with asking_redis():
                record = await self._shelf.get(owner, file_id)
        if record is None or self._expired(record):
            raise NotFound(f"No such File object: {file_id[:100]}", param="id", code="file_not_found")
        return record

    def content(self, owner: str, record: FileRecord) -> Path:
        """Raises NotFound when the disk has lost it."""
        path = self.disk.path(owner, record.id)
        if not path.is_file():
            log.error("a file's content is missing", file=record.id)
            message = f"The content of {record.id} is not on this machine. Upload it again."
            raise NotFound(message, param="id", code="file_content_missing")
        return path

    async def delete(self, owner: str, file_id: str) -> None:
        """Raises NotFound, StoreUnavailable."""
        record = await self.find(owner, file_id)
        await self._remove(owner, record.id)

    async def page(
        self,
        owner: str,
        *,
        after: str | None,
        limit: int,
        newest_first: bool,
        wanted: Callable[[FileRecord], bool] = lambda _: True,
    ) -> Page[FileRecord]:
        """Raises StoreUnavailable."""
        async with asking_redis():
            return await self._shelf.page(
                owner,
                after=after,
                limit=limit,
                newest_first=newest_first,
                wanted=lambda record: wanted(record) and not self._expired(record),
            )

    async def sweep(self) -> int:
        """Remove what has expired and what an ended process left behind. How many. Raises StoreUnavailable, OSError."""
        now_s = self.clock.unix()
        async with asking_redis():
            due: Any = await self._redis.zrange(
                self._keys.files_due, "-inf", now_s, byscore=True, offset=0, num=SWEEP_AT_ONCE
            )
        removed = len(due)
        for name in due:
            owner, _, file_id = name.decode().partition("/")
            await self._remove(owner, file_id)
        found = await asyncio.to_thread(lambda: list(self.disk.contents(now_s - ORPHANED_AFTER_S)))
        for owner, file_id, path in found:
            async with asking_redis():
                known = owner and await self._shelf.get(owner, file_id) is not None
            if not known:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    async def _remove(self, owner: str, file_id: str) -> None:
        async with asking_redis():
            await self._shelf.remove(owner, file_id)
            await self._redis.zrem(self._keys.files_due, f"{owner}/{file_id}")
        self.disk.path(owner, file_id).unlink(missing_ok=True)

    def _expired(self, record: FileRecord) -> bool:
        return record.expires_at is not None and record.expires_at <= self.clock.unix()

    def _no_room(self) -> StorageQuotaExceeded:
        return StorageQuotaExceeded(
            f"The files of this API key would be more than {self.limits.owner_bytes} bytes or "
            f"{self.limits.owner_files} files; delete some first (DELETE /v1/files/{{id}}).",
            param="file",
        )
