"""What is swept: files that expired, and what a process that died left behind. What is in use stays."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.clock import Clock
from gateway.errors import NotFound
from gateway.files.cabinet import ORPHANED_AFTER_S, Cabinet, FileLimits, StorageQuotaExceeded
from gateway.files.disk import Disk, DiskFull, Incoming
from gateway.files.records import FileRecord, new_file_id
from models.store.client import connect_async
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys

pytestmark = pytest.mark.anyio


@dataclass
class Store:
    redis: Redis
    cabinet: Cabinet
    now_s: float

    async def add(self, content: bytes, expires_at: int | None = None, owner: str = "ann") -> FileRecord:
        async with self.cabinet.disk.incoming() as incoming:
            await incoming.write(content)
            written = await incoming.finish()
            record = FileRecord(
                id=new_file_id(), bytes=written.size_bytes, created_at=int(self.now_s), filename="f", purpose="batch",
                sha256=written.sha256, expires_at=expires_at,
            )  # fmt: skip
            await self.cabinet.add(owner, written, record)
        self.now_s += 0.001
        return record

    def files(self) -> list[Path]:
        return sorted(path for path in self.cabinet.disk.root.rglob("*") if path.is_file())


@pytest.fixture
async def store(redis_server: EmbeddedRedis, keys: Keys, tmp_path: Path) -> AsyncIterator[Store]:
    redis = connect_async(redis_server.url)
    world = Store(redis, None, 2_000_000_000.0)  # type: ignore[arg-type]
    clock = Clock(unix=lambda: world.now_s)
    world.cabinet = Cabinet(redis, keys, Disk(tmp_path / "files"), clock, FileLimits(owner_bytes=100, owner_files=5))
    yield world
    await redis.aclose()


async def test_expired_files_are_not_found_and_then_gone(store: Store) -> None:
    short = await store.add(b"short", expires_at=int(store.now_s) + 10)
    long = await store.add(b"long", expires_at=int(store.now_s) + 100)
    for_ever = await store.add(b"for ever")
    store.now_s += 11
    with pytest.raises(NotFound):
        await store.cabinet.find("ann", short.id)
    page = await store.cabinet.page("ann", after=None, limit=10, newest_first=False)
    assert [record.id for record in page.records] == [long.id, for_ever.id]
    assert await store.cabinet.sweep() == 1
    assert {path.name for path in store.files()} == {long.id, for_ever.id}
    assert await store.cabinet.sweep() == 0


async def test_what_nobody_has_a_record_of_is_swept_once_it_is_old(store: Store) -> None:
    kept = await store.add(b"kept")
    orphan = store.cabinet.disk.path("ann", new_file_id())
    orphan.write_bytes(b"its process died before the record was written")
    half = store.cabinet.disk.root / "incoming" / "half"
    half.write_bytes(b"its process died while it was written")
    new = store.cabinet.disk.root / "incoming" / "new"
    new.write_bytes(b"is being written")
    old_s = store.now_s - ORPHANED_AFTER_S - 1
    for path in (orphan, half, store.cabinet.disk.path("ann", kept.id)):
        os.utime(path, (old_s, old_s))
    os.utime(new, (store.now_s, store.now_s))
    assert await store.cabinet.sweep() == 2
    assert {path.name for path in store.files()} == {kept.id, "new"}


async def test_a_file_that_finds_no_room_leaves_nothing(store: Store) -> None:
    await store.add(b"x" * 60)
    with pytest.raises(StorageQuotaExceeded, match="delete some first"):
        await store.add(b"x" * 41)
    assert len(store.files()) == 1
    await store.add(b"x" * 100, owner="bob")


async def test_adding_the_same_id_again_changes_nothing(store: Store) -> None:
    record = await store.add(b"output")
    for _ in range(2):
        async with store.cabinet.disk.incoming() as incoming:
            await incoming.write(b"output")
            await store.cabinet.add("ann", await incoming.finish(), record, force=True)
    page = await store.cabinet.page("ann", after=None, limit=10, newest_first=True)
    assert page.records == (record,)
    assert store.cabinet.content("ann", record).read_bytes() == b"output"


async def test_content_that_the_disk_lost_is_said_to_be_lost(store: Store) -> None:
    record = await store.add(b"x")
    store.cabinet.disk.path("ann", record.id).unlink()
    with pytest.raises(NotFound, match="Upload it again"):
        store.cabinet.content("ann", record)


async def test_a_full_disk_is_refused_before_anything_is_read(store: Store) -> None:
    with pytest.raises(DiskFull):
        store.cabinet.disk.incoming(expected_bytes=1 << 60)


async def test_an_upload_that_fails_leaves_nothing(store: Store) -> None:
    async def fail(incoming: Incoming) -> None:
        async with incoming:
            await incoming.write(b"x" * (1 << 21))
            raise OSError("the disk is on fire")

    with pytest.raises(OSError, match="fire"):
        await fail(store.cabinet.disk.incoming())
    assert store.files() == []


@pytest.mark.parametrize("owner", ["..", ".", "", "a/b", "incoming", "x" * 65, "a\x00"])
async def test_no_owner_leads_out_of_the_folder(store: Store, owner: str) -> None:
    with pytest.raises(ValueError, match="not an owner"):
        store.cabinet.disk.path(owner, new_file_id())
