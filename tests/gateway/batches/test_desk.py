"""One worker at the desk: others wait, and go on when the lease is lost or its worker stands still."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.accounts import Accounts
from gateway.batches import desk as desk_module
from gateway.batches.desk import ABANDONED_S, Desk
from gateway.batches.keyring import KNOWN_FOR_S, Keyring
from gateway.batches.records import BatchRecord
from gateway.clock import Clock
from gateway.ending import end
from gateway.inquiry import Caller
from gateway.tenant_book import TenantBook
from models.store.api_keys import build_key
from models.store.client import connect_async
from models.store.codec import encode
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from models.store.lease import Lease
from models.store.tenancy import HouseRecord
from tests.gateway.batches.bench import OWNER, Bench, Fuse
from tests.gateway.world import until, until_async

pytestmark = pytest.mark.anyio


class Office:
    """Two desks of two workers, and a batch."""

    def __init__(self, redis: Redis, bench: Bench) -> None:
        self.redis, self.bench = redis, bench
        self.desks = [self.desk("one"), self.desk("other")]
        self.running: list[asyncio.Task[None]] = []

    def desk(self, name: str) -> Desk:
        tools = self.bench.tools(self.redis, Fuse())
        key = self.bench.keys.batch_lease(tools.store.place)
        return Desk(tools, lambda: Lease(self.redis, key, name, 60))

    def open(self) -> None:
        self.running = [asyncio.create_task(desk.run()) for desk in self.desks]

    async def close(self) -> None:
        await end(self.running)

    async def record(self) -> BatchRecord | None:
        assert self.bench.record is not None
        return await self.desks[0].tools.store.find(OWNER, self.bench.record.id)

    async def until_completed(self) -> None:
        async def look() -> bool:
            record = await self.record()
            return record is not None and record.status == "completed"

        await until_async(look)


@pytest.fixture
async def office(redis_server: EmbeddedRedis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    for name in ("TRY_S", "RENEW_S", "AGAIN_S"):
        monkeypatch.setattr(desk_module, name, 0.02)
    redis = connect_async(redis_server.url)
    bench = Bench(redis_server.url, keys, Path(tempfile.mkdtemp(prefix="rh-batch-")))
    office = Office(redis, bench)
    yield office
    await office.close()
    await redis.aclose()
    shutil.rmtree(bench.root)


async def test_one_of_two_does_it(office: Office) -> None:
    await office.bench.order(10)
    office.open()
    await office.until_completed()
    assert max(office.bench.asked.values()) == 1, "two would have asked twice"

    async def off_the_list() -> bool:
        return await office.desks[0].tools.store.open() == []

    await until_async(off_the_list)  # after its record says so, or a crash in between would hide it


async def test_who_loses_the_lease_stops_and_the_other_goes_on(office: Office) -> None:
    await office.bench.order(3)
    waiting = asyncio.Event()
    first_ask = office.desks[0].tools.ask

    async def stuck(path: str, body: bytes, caller: Caller, *, priority: int) -> object:
        await waiting.wait()
        return await first_ask(path, body, caller, priority=priority)

    object.__setattr__(office.desks[0].tools, "ask", stuck)
    one = asyncio.create_task(office.desks[0].run())
    await until(lambda: office.desks[0]._runs)
    office.running = [one, asyncio.create_task(office.desks[1].run())]
    lease = office.bench.keys.batch_lease(office.desks[0].tools.store.place)
    await office.redis.set(lease, "other")  # the first one stood still for too long
    await until(lambda: not office.desks[0]._runs)
    await office.until_completed()
    output, _ = office.bench.files()
    assert len(output) == 3


async def test_what_ends_the_desk_gives_the_lease_back(office: Office) -> None:
    one = asyncio.create_task(office.desks[0].run())
    lease = office.bench.keys.batch_lease(office.desks[0].tools.store.place)

    async def taken() -> bool:
        return await office.redis.get(lease) == b"one"

    await until_async(taken)
    await end([one])
    assert await office.redis.get(lease) is None


async def test_a_batch_that_fails_unexpectedly_is_begun_again(office: Office) -> None:
    await office.bench.order(2)
    tools = office.desks[0].tools
    failures = iter([OSError("the disk is full"), RuntimeError("a bug")])

    def write(fd: int, data: bytes) -> int:
        for failure in failures:
            raise failure
        return office.desks[1].tools.write(fd, data)

    object.__setattr__(tools, "write", write)
    office.running = [asyncio.create_task(office.desks[0].run())]
    await office.until_completed()
    assert len(office.bench.files()[0]) == 2


async def test_what_was_never_written_down_is_cleared_away(office: Office) -> None:
    """Its worker died between two steps of creating it."""
    store = office.desks[0].tools.store
    key = office.bench.keys.batches_open(store.place)
    old_s = office.bench.now_s - ABANDONED_S - 1
    await office.redis.zadd(key, {"ann/batch_gone": old_s, "ann/batch_new": office.bench.now_s})
    folder = store.folder("batch_without_record")
    folder.mkdir(parents=True)  # now, which is long before the time of this office
    office.running = [asyncio.create_task(office.desks[0].run())]

    async def cleared() -> bool:
        return [batch.id for batch in await store.open()] == ["batch_new"] and not folder.exists()

    await until_async(cleared)


async def test_a_keyring_knows_who_may_go_on(redis_server: EmbeddedRedis, keys: Keys) -> None:
    redis = connect_async(redis_server.url)
    now = [0.0]
    book = TenantBook()
    keyring = Keyring(redis, keys, Clock(monotonic=lambda: now[0]), Accounts(book))
    mine, admins = build_key("mine", ["inference"], 0), build_key("admins", ["admin"], 0)
    for key in (mine, admins):
        await redis.hset(keys.api_keys, key.digest, encode(key.record))
    caller = await keyring.caller_of(mine.record.key_id)
    assert caller is not None
    assert (caller.key_id, caller.tenant, caller.name) == (mine.record.key_id, "default", "mine")
    assert await keyring.caller_of(admins.record.key_id) is None, "it may not ask models"
    assert await keyring.caller_of("key_nobody") is None
    revoked = json.loads(encode(mine.record)) | {"revoked_unix_s": 1.0}
    await redis.hset(keys.api_keys, mine.digest, json.dumps(revoked))
    now[0] += KNOWN_FOR_S
    assert await keyring.caller_of(mine.record.key_id) is None
    await redis.hset(keys.api_keys, mine.digest, encode(mine.record))
    book.offer(1, HouseRecord(), {})
    assert await keyring.caller_of(mine.record.key_id) is not None, "what was changed is known with its version"
    await redis.aclose()
