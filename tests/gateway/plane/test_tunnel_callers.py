"""A WebSocket may be open for days: it ends when its caller may call no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from gateway.auth import KeyStoreDown
from models.store.api_keys import hash_key
from models.store.codec import decode, encode
from models.store.records import KeyRecord
from models.store.tenancy import TenantRecord
from tests.gateway.plane.test_tunnel import Socket, dial, engine_in, greeted
from tests.gateway.world import World

pytestmark = pytest.mark.anyio
WITHIN_S = 20.0  # a busy machine's; a second or so otherwise


@pytest.fixture
async def engine(world: World) -> AsyncIterator[Socket]:
    async with AsyncExitStack() as stack:
        yield await engine_in(world, stack, "r1", "m")


async def talk(socket: ClientConnection) -> None:
    while True:
        await socket.send("still here")
        await socket.recv()
        await asyncio.sleep(0.02)


async def ends_after(world: World, act: Callable[[], Awaitable[object]]) -> None:
    """Of one that talks on all the time."""
    async with dial(world) as socket:
        await greeted(socket)
        await act()
        await world.redis.incr(world.keys.tenancy_version)
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(talk(socket), WITHIN_S)


async def test_when_its_key_is_revoked(world: World, engine: Socket) -> None:
    digest = hash_key(world.key)

    async def revoke() -> None:
        raw = await world.redis.hget(world.keys.api_keys, digest)
        assert raw is not None
        ended = msgspec.structs.replace(decode(raw, KeyRecord, "key"), revoked_unix_s=1.0)
        await world.redis.hset(world.keys.api_keys, digest, encode(ended))

    await ends_after(world, revoke)


async def test_when_its_tenant_is_blocked(world: World, engine: Socket) -> None:
    tenant = TenantRecord(tenant_id="default", blocked="unpaid")
    await ends_after(world, lambda: world.redis.hset(world.keys.tenants, "default", encode(tenant)))


class Away:
    """A store of keys that does not answer."""

    def __init__(self) -> None:
        self.asked = 0

    async def find(self, key_hash: str) -> KeyRecord | None:
        self.asked += 1
        raise KeyStoreDown("away")


async def test_not_while_nobody_can_say_whether_its_key_is_good(world: World, engine: Socket) -> None:
    assert world.gateway is not None
    store = Away()
    async with dial(world) as socket, asyncio.timeout(WITHIN_S):
        await greeted(socket)
        world.gateway.app.authenticator._store = store  # type: ignore[attr-defined]
        await world.redis.incr(world.keys.tenancy_version)  # what was known is to be asked for again
        while store.asked < 2:
            await socket.send("hello")
            assert await socket.recv() == "hello"
            await asyncio.sleep(0.02)
