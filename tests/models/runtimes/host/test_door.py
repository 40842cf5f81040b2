"""An engine reached over TCP: by those who show the cluster's key, and by nobody else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from models.runtimes.host import doorkeeper
from models.runtimes.host.door import Door
from models.runtimes.host.gate import Gate
from models.runtimes.host.http_server import HttpServer
from models.runtimes.protocol import KEY_HEADER, EngineError, EngineOrder
from models.runtimes.sockets import bind_private
from tests.models.runtimes.launchers import short_folder
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio
KEY = "0123456789abcdef" * 4
WITH_KEY = {KEY_HEADER: KEY}


def to_reach(folder: Path, host: str = "127.0.0.1") -> EngineOrder:
    return msgspec.structs.replace(order(folder), tcp_host=host, tcp_key_path=str(folder / "key"))


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the names of the headers it was given; a WebSocket says what it hears."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        message = await receive()
        await send({"type": "websocket.send", "text": message["text"]})
        await send({"type": "websocket.close", "code": 1000})
        return
    names = b" ".join(name for name, _ in scope["headers"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": names})


@asynccontextmanager
async def served() -> AsyncIterator[tuple[str, str]]:
    """(The base URL of its TCP port, the path of its unix socket.)"""
    with short_folder() as folder:
        (folder / "key").write_text(KEY + "\n")
        door = Door.of(to_reach(folder))
        assert door is not None
        server = HttpServer(bind_private(str(folder / "h")), door)
        await server.start(Gate(echo))
        try:
            yield f"http://127.0.0.1:{door.port}", str(folder / "h")
        finally:
            server.close()


async def test_with_the_key_it_answers_and_does_not_see_the_key() -> None:
    async with served() as (base, _), aiohttp.ClientSession() as session:
        answer = await session.post(f"{base}/v1/completions", data=b"{}", headers=WITH_KEY)
        assert answer.status == 200
        names = (await answer.text()).split()
        assert "content-length" in names
        assert KEY_HEADER not in names


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {KEY_HEADER: ""},
        {KEY_HEADER: KEY[:-1]},
        {KEY_HEADER: KEY + "0"},
        {KEY_HEADER: KEY.upper()},
        {"authorization": f"Bearer {KEY}"},
        [(KEY_HEADER, KEY), (KEY_HEADER, KEY)],
        [(KEY_HEADER, "wrong"), (KEY_HEADER, KEY)],
    ],
)
@pytest.mark.parametrize("path", ["/health", "/metrics", "/v1/models"])
async def test_without_it_nothing_is_answered_but_403(headers: Any, path: str) -> None:
    async with served() as (base, _), aiohttp.ClientSession() as session:
        answer = await session.get(f"{base}{path}", headers=headers)
        assert answer.status == 403
        assert (await answer.json())["error"]["code"] == "wrong_cluster_key"
        assert answer.headers["connection"] == "close"


async def test_a_body_of_megabytes_does_not_get_in_without_the_key() -> None:
    async with served() as (base, _), aiohttp.ClientSession() as session:
        try:
            answer = await session.post(f"{base}/v1/completions", data=b"x" * (8 << 20))
        except aiohttp.ClientConnectionError:  # it hung up before all of it was sent
            return
        assert answer.status == 403


async def test_the_unix_socket_asks_for_no_key() -> None:
    async with served() as (_, path), aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
        assert (await session.get("http://engine/health")).status == 200


async def test_a_websocket_needs_the_key_as_well() -> None:
    async with served() as (base, _), aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{base}/v1/realtime", headers=WITH_KEY) as talk:
            await talk.send_str("hello")
            assert (await talk.receive_str()) == "hello"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{base}/v1/realtime", headers={KEY_HEADER: "wrong"})
        assert refused.value.status == 403


async def test_nobody_can_connect_before_it_serves_nor_after_it_has_ended() -> None:
    with short_folder() as folder:
        (folder / "key").write_text(KEY)
        door = Door.of(to_reach(folder))
        assert door is not None
        server = HttpServer(bind_private(str(folder / "h")), door)
        port = door.port
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 1)
        await server.start(Gate(echo))
        socket.create_connection(("127.0.0.1", port), 1).close()
        server.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 1)


def test_an_order_for_this_node_alone_has_no_door(tmp_path: Path) -> None:
    assert Door.of(order(tmp_path)) is None


@pytest.mark.parametrize(
    ("host", "key", "said"),
    [
        ("127.0.0.1", None, "key for other nodes cannot be read"),
        ("127.0.0.1", "\n", "key for other nodes is empty"),
        ("192.0.2.1", KEY, "no port of 192.0.2.1 can be had"),
        ("no such host", KEY, "is no address of this node"),
    ],
)
def test_what_keeps_a_door_shut_is_one_sentence(tmp_path: Path, host: str, key: str | None, said: str) -> None:
    if key is not None:
        (tmp_path / "key").write_text(key)
    with pytest.raises(EngineError, match=said):
        Door.of(to_reach(tmp_path, host))


async def hung_up_on(base: str, *pieces: bytes) -> bool:
    """Whether the engine ends the connection of somebody who sends these, one by one, and then nothing."""
    host, port = base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(3):
            return await reader.read() == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    finally:
        writer.close()


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\n" + f"{KEY_HEADER}: {KEY}\r\n".encode()]
)
async def test_a_caller_that_does_not_finish_its_head_is_hung_up_on(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(doorkeeper, "HEAD_S", 0.05)
    async with served() as (base, _):
        assert await hung_up_on(base, sent)


@pytest.mark.parametrize("line", [b"x: y\r\n" * 512, b"x" * 4096])
async def test_a_head_without_end_is_hung_up_on(line: bytes) -> None:
    """Whoever has not shown the key fills no memory of an engine."""
    async with served() as (base, _):
        assert await hung_up_on(base, b"GET / HTTP/1.1\r\n", *[b"a: " * (line[:2] != b"x:") + line] * 200)


async def test_a_gateway_may_keep_a_connection_for_longer_than_a_head_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doorkeeper, "HEAD_S", 0.2)
    async with served() as (base, _):
        only_one = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=only_one) as session:
            for body in (b"{}", b"x" * 300_000):
                answer = await session.post(f"{base}/v1/completions", data=body, headers=WITH_KEY)
                assert answer.status == 200
                await answer.read()
                await asyncio.sleep(0.3)
            assert len(only_one._conns) == 1
