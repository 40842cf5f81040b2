"""Requests to an engine of another node: over TCP, behind the cluster's key, which no caller can show or see."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect

from models import secret
from models.runtimes.host.door import Door
from models.runtimes.host.gate import Gate
from models.runtimes.host.http_server import HttpServer
from models.runtimes.protocol import KEY_HEADER
from models.runtimes.sockets import bind_private
from models.store.records import ModelRoute, ReplicaRoute
from tests.gateway.world import World, until
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio
SECRET = "s" * 64
KEY = secret.key(SECRET, "engines")


@dataclass
class Engine:
    """What every engine runs before its application, with an application that answers chats."""

    world: World
    name: str = "far"
    heard: list[dict[str, str]] = field(default_factory=list)
    address: str = ""

    @asynccontextmanager
    async def serving(self, key: str = KEY) -> AsyncIterator[Engine]:
        folder = self.world.sockets
        (folder / "key").write_text(key)
        wanted = msgspec.structs.replace(order(folder), tcp_host="127.0.0.1", tcp_key_path=str(folder / "key"))
        door = Door.of(wanted)
        assert door is not None
        server = HttpServer(bind_private(str(folder / f"{self.name}.sock")), door)
        await server.start(Gate(self._answer))
        self.address = f"http://127.0.0.1:{door.port}"
        try:
            yield self
        finally:
            server.close()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        self.heard.append({name.decode(): value.decode() for name, value in scope["headers"]})
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": (await receive())["text"]})
            await send({"type": "websocket.close", "code": 1000})
            return
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        if json.loads(body + message["body"]).get("stream"):
            events = b'data: {"choices": []}\n\ndata: [DONE]\n\n'
            await self._say(send, events, b"text/event-stream")
        else:
            await self._say(send, b'{"choices": [], "from": "far"}', b"application/json")

    @staticmethod
    async def _say(send: Any, body: bytes, media: bytes) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", media)]})
        await send({"type": "http.response.body", "body": body})

    @property
    def route(self) -> ReplicaRoute:
        nobody = f"unix:{self.world.sockets}/not-on-this-machine.sock"
        return ReplicaRoute(replica_id="r1", endpoint=nobody, state="ready", node="there", address=self.address)


@pytest.fixture
async def far(bare_world: World) -> AsyncIterator[Engine]:
    bare_world.home.root.mkdir()
    bare_world.home.cluster_secret.write_text(SECRET)
    await bare_world.start()
    async with Engine(bare_world).serving() as engine:
        await bare_world.route(ModelRoute(model_id="m", tier="gpu", replicas=(engine.route,)))
        yield engine


async def test_chats_and_streams_get_through_on_one_connection(far: Engine) -> None:
    async with far.world.client() as session:
        for _ in range(3):
            status, _, answer = await far.world.chat(session, "m")
            assert (status, answer["from"]) == (200, "far")
        headers = far.world.headers
        body = {"model": "m", "messages": [], "stream": True}
        async with session.post("/v1/chat/completions", json=body, headers=headers) as answer:
            assert (await answer.text()).endswith("data: [DONE]\n\n")
    assert all(KEY_HEADER not in heard for heard in far.heard), "the application does not get to see it"
    assert {heard["host"] for heard in far.heard} == {far.address.removeprefix("http://")}


async def test_a_caller_can_neither_show_a_key_of_its_own_nor_spoil_the_gateways(far: Engine) -> None:
    async with far.world.client() as session:
        for shown in (KEY, "wrong", ""):
            status, headers, _ = await far.world.chat(session, "m", headers={KEY_HEADER: shown})
            assert status == 200
            assert KEY_HEADER not in headers


async def test_a_websocket_gets_through(far: Engine) -> None:
    url = f"{far.world.url.replace('http', 'ws')}/v1/realtime?model=m"
    async with connect(url, additional_headers={"authorization": f"Bearer {far.world.key}"}) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"


async def test_an_engine_with_another_clusters_key_gives_a_plain_error(bare_world: World) -> None:
    bare_world.home.root.mkdir()
    bare_world.home.cluster_secret.write_text(SECRET)
    await bare_world.start()
    async with Engine(bare_world).serving(key="k" * 64) as engine, bare_world.client() as session:
        await bare_world.route(ModelRoute(model_id="m", tier="gpu", replicas=(engine.route,)))
        status, _, answer = await bare_world.chat(session, "m")
        assert status >= 500
        assert KEY_HEADER not in json.dumps(answer)
        assert engine.heard == []


async def test_a_gateway_without_the_secret_says_so_in_its_status_and_serves_its_own_node(bare_world: World) -> None:
    await bare_world.start()
    near = await bare_world.engine("near")
    async with Engine(bare_world).serving() as engine, bare_world.client() as session:
        own = ReplicaRoute(replica_id="r0", endpoint=near.endpoint, state="ready")
        await bare_world.route(ModelRoute(model_id="m", tier="gpu", replicas=(own, engine.route)))
        for _ in range(4):
            assert (await bare_world.chat(session, "m"))[0] == 200
        assert (len(near.seen), len(engine.heard)) == (4, 0)

        async def status() -> Any:
            async with session.get("/admin/v1/status", headers=bare_world.admin_headers) as answer:
                return await answer.json()

        said = await status()
        assert str(bare_world.home.cluster_secret) in said["gateway"]["problem"]
        assert "copy it from the head" in said["gateway"]["problem"]
        await bare_world.route(ModelRoute(model_id="m", tier="gpu", replicas=(own,)))
        assert (await status())["gateway"]["problem"] == ""


async def test_a_far_engine_that_is_gone_is_replaced_by_another_before_its_first_byte(far: Engine) -> None:
    world = far.world
    gone = msgspec.structs.replace(far.route, replica_id="r2", address="http://127.0.0.1:9")
    await world.route(ModelRoute(model_id="m", tier="gpu", replicas=(gone, far.route)))
    async with world.client() as session:
        for _ in range(4):
            assert (await world.chat(session, "m"))[0] == 200
    await until(lambda: len(far.heard) >= 4)
