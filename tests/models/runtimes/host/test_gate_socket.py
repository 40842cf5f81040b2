"""WebSockets at an engine's gate: waited for, ended when the engine must rest, refused while it does."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.client import unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from models.runtimes.host.gate import Gate
from models.runtimes.host.http_server import HttpServer
from models.runtimes.sockets import bind_private
from tests.models.runtimes.launchers import short_folder

pytestmark = pytest.mark.anyio


class Echo:
    """Says back what it hears; ``heard`` is its client's leaving at last."""

    def __init__(self):
        self.heard = {}
        self.deaf = False

    async def __call__(self, scope, receive, send):
        assert scope["type"] in ("websocket", "lifespan")
        if scope["type"] == "lifespan":
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            if message.get("text") == "fail":
                raise RuntimeError("a defect")
            await send({"type": "websocket.send", "text": message["text"]})
        self.heard = message
        if self.deaf:
            await asyncio.Event().wait()


@pytest.fixture
async def served():
    with short_folder() as folder:
        path, app = str(folder / "h"), Echo()
        gate = Gate(app)
        server = HttpServer(bind_private(path))
        await server.start(gate)
        yield path, gate, app
        server.close()


def dial(path):
    return unix_connect(path, "ws://engine/v1/realtime")


async def echoed(socket, text="hello"):
    await socket.send(text)
    assert await socket.recv() == text


async def test_an_open_one_is_waited_for_but_is_no_sign_of_a_hang(served):
    path, gate, app = served
    async with dial(path) as socket:
        await echoed(socket)
        assert gate.in_flight == 0
        draining = asyncio.create_task(gate.drained())
        await asyncio.sleep(0.01)
        assert not draining.done()
    await draining
    assert app.heard["code"] == 1000


@pytest.mark.parametrize("deaf", [False, True])
async def test_one_that_is_cut_is_told_why_and_to_come_again(served, monkeypatch, deaf):
    monkeypatch.setattr("models.runtimes.host.gate.LEAVE_S", 0.05)
    path, gate, app = served
    app.deaf = deaf
    async with dial(path) as socket:
        await echoed(socket)
        assert await gate.cut("engine_asleep", "The engine goes to sleep. " + "x" * 200) == 1
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1012
        assert socket.close_reason.startswith("engine_asleep: The engine goes to sleep.")
    assert app.heard["code"] == 1012
    await gate.drained()


async def test_while_the_engine_rests_none_is_opened(served):
    path, gate, _ = served
    gate.shut("engine_asleep", "The engine is asleep.")
    with pytest.raises(InvalidStatus) as refused:
        async with dial(path):
            pass
    assert refused.value.response.status_code == 503
    assert json.loads(refused.value.response.body)["error"]["code"] == "engine_asleep"
    gate.open()
    async with dial(path) as socket:
        await echoed(socket)


async def test_an_application_that_fails_leaves_nothing_open(served):
    path, gate, _ = served
    async with dial(path) as socket:
        await socket.send("fail")
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    await gate.drained()
