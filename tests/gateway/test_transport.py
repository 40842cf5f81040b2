"""The transport alone, against a real engine on a unix socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.aiohttp_transport import AiohttpTransport
from gateway.headers import Headers
from gateway.transport import UpstreamLost, UpstreamResponse
from tests.gateway.fake_engine import FakeEngine
from tests.gateway.world import chat_body, until

pytestmark = pytest.mark.anyio
HEADERS: Headers = [(b"content-type", b"application/json"), (b"x-one", b"1")]


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    made = AiohttpTransport(connect_timeout_s=2.0)
    yield made
    await made.close()


@pytest.fixture
async def engine(sockets: Path) -> AsyncIterator[FakeEngine]:
    made = await FakeEngine(sockets / "e.sock").start()
    yield made
    made.go_on.set()
    await made.stop()


async def send(transport: AiohttpTransport, endpoint: str, **fields: Any) -> UpstreamResponse:
    body = json.dumps(chat_body("m", **fields)).encode()
    return await transport.open(endpoint, "POST", "/v1/chat/completions", HEADERS, body)


async def whole(response: UpstreamResponse) -> bytes:
    try:
        return b"".join([chunk async for chunk in response.chunks()])
    finally:
        await response.close()


async def test_a_request_arrives_as_it_was_given(transport: AiohttpTransport, engine: FakeEngine) -> None:
    response = await send(transport, engine.endpoint)
    assert response.status == 200
    assert json.loads(await whole(response))["model"] == "m"
    (seen,) = engine.seen
    assert seen.header("x-one") == "1"
    assert {name.lower() for name, _ in seen.headers} == {"host", "content-type", "x-one", "content-length"}


async def test_a_body_of_megabytes(transport: AiohttpTransport, engine: FakeEngine) -> None:
    await whole(await send(transport, engine.endpoint, pad="x" * (5 << 20)))
    assert len(engine.seen[0].body) > 5 << 20


async def test_over_tcp_as_well(transport: AiohttpTransport, engine: FakeEngine) -> None:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def bridge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_unix_connection(str(engine.socket))
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer), return_exceptions=True)

    server = await asyncio.start_server(bridge, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert json.loads(await whole(await send(transport, f"http://127.0.0.1:{port}")))["model"] == "m"
    server.close()
    await transport.close()


async def test_nobody_there(transport: AiohttpTransport, sockets: Path) -> None:
    with pytest.raises(UpstreamLost) as lost:
        await send(transport, f"unix:{sockets}/nobody.sock")
    assert not lost.value.connected
    assert str(sockets) not in str(lost.value)


async def test_lost_before_the_head_and_in_the_body(transport: AiohttpTransport, engine: FakeEngine) -> None:
    with pytest.raises(UpstreamLost) as lost:
        await send(transport, engine.endpoint, fake={"do": "die_before_head"})
    assert lost.value.connected
    response = await send(transport, engine.endpoint, stream=True, fake={"do": "die_in_the_middle"})
    with pytest.raises(UpstreamLost):
        await whole(response)


async def test_closing_in_the_middle_tells_the_engine(transport: AiohttpTransport, engine: FakeEngine) -> None:
    response = await send(transport, engine.endpoint, stream=True, fake={"do": "stream", "pause_after": 1})
    async for _ in response.chunks():
        break
    await response.close()
    await until(lambda: engine.abandoned == 1)


async def test_cancelling_before_the_head_tells_the_engine(transport: AiohttpTransport, engine: FakeEngine) -> None:
    opening = asyncio.ensure_future(send(transport, engine.endpoint, fake={"do": "hang"}))
    await until(lambda: engine.open == 1)
    opening.cancel()
    await until(lambda: engine.abandoned == 1)


async def test_an_answer_under_way_outlives_its_endpoints_retirement(
    transport: AiohttpTransport, engine: FakeEngine
) -> None:
    response = await send(transport, engine.endpoint, stream=True, fake={"do": "stream", "pause_after": 1})
    await transport.retain([])
    engine.go_on.set()
    assert (await whole(response)).endswith(b"data: [DONE]\n\n")
    assert transport._pools == {}
    assert json.loads(await whole(await send(transport, engine.endpoint)))["model"] == "m", "and it can come back"
