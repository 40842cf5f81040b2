"""WebSockets through a whole gateway: real clients, real servers on unix sockets as engines."""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from gateway.plane.server import make_server
from gateway.settings import Limits
from models.store.records import ModelRoute, ReplicaRoute
from tests.gateway.certificates import ONE, ONE_KEY
from tests.gateway.world import World, until

pytestmark = pytest.mark.anyio

MIB = 1 << 20


class Socket:
    """An engine that says back what it hears, and does what some words ask of it."""

    def __init__(self) -> None:
        self.requests: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.closed: list[int | None] = []
        self.heard_bytes = 0
        self.slow = asyncio.Event()
        self.slow.set()

    async def serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.requests.append({name.lower(): value for name, value in socket.request.headers.raw_items()})
        self.paths.append(socket.request.path)
        await socket.send('{"type": "session.created"}')
        try:
            async for message in socket:
                await self.slow.wait()
                self.heard_bytes += len(message)
                if message == "hang up":
                    await socket.close(4001, "enough")
                elif message == "break":
                    socket.transport.abort()
                elif message == "flood":
                    for _ in range(64):
                        await socket.send(bytes(MIB))
                else:
                    await socket.send(message)
        finally:
            with suppress(ConnectionClosed):
                await socket.wait_closed()
            self.closed.append(socket.close_code)


@pytest.fixture
async def engine(world: World) -> AsyncIterator[Socket]:
    async with AsyncExitStack() as stack:
        yield await engine_in(world, stack, "r1", "m")


async def engine_in(world: World, stack: AsyncExitStack, replica: str, *models: str) -> Socket:
    engine, path = Socket(), str(world.sockets / f"{replica}.ws")
    await stack.enter_async_context(unix_serve(engine.serve, path, max_size=None, close_timeout=1))
    await world.route(*(route(name, (replica, f"unix:{path}")) for name in models))
    return engine


def route(name: str, *replicas: tuple[str, str], **fields: object) -> ModelRoute:
    there = tuple(ReplicaRoute(replica_id=each, endpoint=endpoint, state="ready") for each, endpoint in replicas)
    return ModelRoute(model_id=name, replicas=there, **fields)  # type: ignore[arg-type]


def dial(world: World, model: str = "m", **options: object) -> connect:
    settings = {
        "additional_headers": {"authorization": f"Bearer {world.key}"},
        "max_size": None,
        "compression": None,
    } | options
    return connect(f"{world.url.replace('http', 'ws')}/v1/realtime?model={model}", **settings)  # type: ignore[arg-type]


async def greeted(socket: ClientConnection) -> ClientConnection:
    assert json.loads(await socket.recv()) == {"type": "session.created"}
    return socket


async def refusal(world: World, model: str = "m", **options: object) -> tuple[int, dict[str, object]]:
    with pytest.raises(InvalidStatus) as refused:
        async with dial(world, model, **options):
            pass
    return refused.value.response.status_code, json.loads(refused.value.response.body)["error"]


async def test_messages_go_both_ways_of_any_kind_and_size(world: World, engine: Socket) -> None:
    async with dial(world) as socket:
        await greeted(socket)
        for message in ("hello", "", b"\x00\xff", "ü" * 70_000, bytes(3 * MIB)):
            await socket.send(message)
            assert await socket.recv() == message
        await world.until_report(lambda report: "m" in report.models and report.models["m"].in_flight == 1)
    await world.until_idle("m")
    await until(lambda: engine.closed == [1000])
    assert "x-request-id" in engine.requests[0]
    assert "authorization" not in engine.requests[0]
    assert engine.paths == ["/v1/realtime?model=m"]


async def test_a_browser_sends_its_key_among_the_subprotocols_and_the_engine_never_sees_it(
    world: World, engine: Socket
) -> None:
    offered = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{world.key}")]
    async with dial(world, additional_headers={}, subprotocols=offered) as socket:
        await greeted(socket)
        assert socket.subprotocol == "realtime"
    assert world.key not in str(engine.requests)
    assert engine.requests[0]["sec-websocket-protocol"] == "realtime"


async def test_who_may_not_or_asks_for_what_is_not_there_gets_an_ordinary_error(world: World, engine: Socket) -> None:
    status, error = await refusal(world, additional_headers={})
    assert (status, error["code"]) == (401, "invalid_api_key")
    status, error = await refusal(world, additional_headers={"authorization": "Bearer nonsense"})
    assert (status, error["code"]) == (401, "invalid_api_key")
    status, error = await refusal(world, "nope")
    assert (status, error["code"]) == (404, "model_not_found")
    status, error = await refusal(world, "")
    assert (status, error["param"]) == (400, "model")
    await world.route(route("m", capabilities=("generate",)))
    status, error = await refusal(world)
    assert (status, error["code"]) == (400, "unsupported_endpoint")
    assert engine.requests == []


async def test_how_the_engine_hangs_up_is_what_the_caller_sees(world: World, engine: Socket) -> None:
    async with dial(world) as socket:
        await (await greeted(socket)).send("hang up")
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert (socket.close_code, socket.close_reason) == (4001, "enough")
    async with dial(world) as socket:
        await (await greeted(socket)).send("break")
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1006, "cut off, without a word"
    await world.until_idle("m")


async def test_a_caller_that_vanishes_frees_its_place(world: World, engine: Socket) -> None:
    async with dial(world, close_timeout=0.1) as socket:
        await greeted(socket)
        socket.transport.abort()
    await until(lambda: engine.closed == [1006])
    await world.until_idle("m")


async def test_it_waits_for_a_model_that_is_starting(world: World) -> None:
    await world.route(route("m"))
    opening = asyncio.create_task(greeted_at(world))
    await world.until_held("m", 1)
    async with AsyncExitStack() as stack:
        engine = await engine_in(world, stack, "r1", "m")
        await opening
        await until(lambda: engine.closed)


async def greeted_at(world: World) -> None:
    async with dial(world) as socket:
        await greeted(socket)


async def test_a_caller_that_leaves_while_it_waits_is_forgotten(world: World) -> None:
    await world.route(route("m"))
    opening = asyncio.create_task(greeted_at(world))
    await world.until_held("m", 1)
    opening.cancel()
    await world.until_idle("m")


async def test_a_replica_that_cannot_be_reached_is_left_for_another(world: World) -> None:
    async with AsyncExitStack() as stack:
        engine = await engine_in(world, stack, "r1", "m")
        gone, there = f"unix:{world.sockets}/nobody.ws", f"unix:{world.sockets}/r1.ws"
        await world.route(route("m", ("r0", gone), ("r1", there)))
        for _ in range(4):
            async with dial(world) as socket:
                await greeted(socket)
        assert len(engine.requests) == 4


async def test_where_no_replica_can_be_reached_the_caller_is_told(bare_world: World) -> None:
    await bare_world.start(Limits(hold_timeout_s=2))
    await bare_world.route(route("m", ("r0", f"unix:{bare_world.sockets}/nobody.ws")))
    status, error = await refusal(bare_world)
    assert (status, error["type"]) == (503, "server_error")


async def test_an_engine_without_websockets_says_so_in_our_words(world: World) -> None:
    path = str(world.sockets / "plain.ws")
    async with unix_serve(lambda _: asyncio.sleep(0), path, process_request=lambda at, _: at.respond(404, "Not Found")):
        await world.route(route("m", ("r1", f"unix:{path}")))
        status, error = await refusal(world)
    assert (status, error["code"]) == (400, "unsupported_endpoint")


async def test_a_slow_reader_stops_the_engine_and_a_slow_engine_its_caller(world: World, engine: Socket) -> None:
    async with dial(world, max_queue=1) as socket:
        await (await greeted(socket)).send("flood")
        received = 0
        while received < 64 * MIB:
            received += len(await socket.recv())
    assert received == 64 * MIB
    engine.slow.clear()
    async with dial(world) as socket:
        await greeted(socket)
        before = engine.heard_bytes
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(overwhelm(socket), 1)
        assert engine.heard_bytes == before
        engine.slow.set()
        socket.transport.abort()
    await world.until_idle("m")


async def overwhelm(socket: ClientConnection) -> None:
    for _ in range(200):
        await socket.send(bytes(MIB))


async def test_one_that_says_nothing_is_let_go(bare_world: World) -> None:
    await bare_world.start(Limits(idle_timeout_s=0.3))
    async with AsyncExitStack() as stack:
        await engine_in(bare_world, stack, "r1", "m")
        async with dial(bare_world, ping_interval=None) as socket:
            await greeted(socket)
            with pytest.raises(ConnectionClosed):
                await socket.recv()
    await bare_world.until_idle("m")


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1000):
        pass
    writer.close()


async def test_an_engine_that_never_answers_is_given_up(bare_world: World) -> None:
    await bare_world.start(Limits(request_timeout_s=0.5, hold_timeout_s=2))
    hanging = await asyncio.start_unix_server(mute, str(bare_world.sockets / "mute.ws"))
    try:
        await bare_world.route(route("m", ("r1", f"unix:{bare_world.sockets}/mute.ws")))
        status, error = await refusal(bare_world)
        assert (status, error["type"]) == (503, "server_error")
    finally:
        hanging.close()


async def test_other_methods_and_plain_requests_are_told_what_it_is(world: World, engine: Socket) -> None:
    async with world.client() as session:
        opening = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
        opening |= {"sec-websocket-key": "MDEyMzQ1Njc4OWFiY2RlZg==", "authorization": f"Bearer {world.key}"}
        async with session.post("/v1/realtime?model=m", headers=opening) as answer:
            assert answer.status == 405


async def test_it_is_counted_and_measured_like_any_request(world: World, engine: Socket) -> None:
    async with dial(world) as socket:
        await greeted(socket)
    await world.until_idle("m")

    async def figures() -> str:
        async with aiohttp.ClientSession() as session, session.get(f"{world.url}/metrics") as answer:
            return await answer.text()

    text = await figures()
    assert 'endpoint="realtime",model="m"' in text


async def test_it_is_the_same_over_tls(bare_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cert.pem").write_text(ONE)
    (tmp_path / "key.pem").write_text(ONE_KEY)
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    monkeypatch.setattr("tests.gateway.world.make_server", functools.partial(make_server, ssl=shown))
    await bare_world.start()
    assert bare_world.gateway is not None
    address = f"wss://localhost:{bare_world.gateway.port}/v1/realtime?model=m"
    headers = {"authorization": f"Bearer {bare_world.key}"}
    trusting = ssl.create_default_context(cadata=ONE)
    async with AsyncExitStack() as stack:
        engine = await engine_in(bare_world, stack, "r1", "m")
        async with connect(address, ssl=trusting, additional_headers=headers, compression=None) as socket:
            await greeted(socket)
            for size in (1, MIB // 2):
                await socket.send(bytes(size))
                assert await socket.recv() == bytes(size)
        await until(lambda: engine.closed == [1000])
