"""Requests of this process itself, on the way that all others take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from gateway.errors import NotFound
from gateway.inquiry import Caller
from gateway.plane.inprocess import Answer, CutOff, ask, ask_streamed
from models.store.records import KeyRecord
from tests.gateway.world import World, chat_body, until

pytestmark = pytest.mark.anyio
KEY = KeyRecord(key_id="key_1", name="somebody", scopes=("inference",), prefix="", created_unix_s=0.0)
CHAT = "/v1/chat/completions"
T = TypeVar("T")


async def on_loop(world: World, coroutine: Coroutine[Any, Any, T]) -> T:
    """In the gateway's own event loop, where alone it may be asked."""
    assert world.gateway is not None
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, world.gateway.loop))


def body(model: str = "m", **fields: Any) -> bytes:
    return json.dumps(chat_body(model, **fields)).encode()


def caller(world: World) -> Caller:
    """Of a key that this worker has looked up."""
    assert world.gateway is not None
    return world.gateway.app.accounts.of(KEY).caller


async def asked(world: World, sent: bytes, path: str = CHAT) -> Answer:
    assert world.gateway is not None
    return await on_loop(world, ask(world.gateway.app, path, sent, caller(world), priority=-10))


async def test_an_answer_as_a_caller_gets_it(world: World) -> None:
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    answer = await asked(world, body())
    assert (answer.status, dict(answer.headers)[b"content-type"]) == (200, b"application/json; charset=utf-8")
    assert json.loads(answer.body)["object"] == "chat.completion"
    assert engine.seen[0].header("x-request-id") == answer.request_id
    await world.until_idle("m")


@pytest.mark.parametrize(("sent", "status"), [(b"{", 400), (body("unknown"), 404)])
async def test_an_error_is_an_answer(world: World, sent: bytes, status: int) -> None:
    await world.route(world.model("m"))
    answer = await asked(world, sent)
    assert answer.status == status
    assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"


async def test_a_path_that_is_no_endpoint(world: World) -> None:
    with pytest.raises(NotFound):
        await asked(world, body(), "/v1/files")


async def test_a_stream_comes_as_it_is_made(world: World) -> None:
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1"))

    async def read() -> bytes:
        assert world.gateway is not None
        pieces = []
        sent = body(stream=True, fake={"do": "answer", "pause_after": 1})
        async for piece in ask_streamed(world.gateway.app, CHAT, sent, caller(world)):
            pieces.append(piece)
            engine.go_on.set()
        return b"".join(pieces)

    assert (await on_loop(world, read())).endswith(b"data: [DONE]\n\n")


async def test_who_stops_asking_frees_the_engine(world: World) -> None:
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    assert world.gateway is not None
    asking = asyncio.run_coroutine_threadsafe(
        ask(world.gateway.app, CHAT, body(fake={"do": "hang"}), caller(world)), world.gateway.loop
    )
    await until(lambda: engine.open == 1)
    asking.cancel()
    await until(lambda: engine.abandoned == 1)
    await world.until_idle("m")


async def test_an_answer_that_broke_off_is_none(world: World) -> None:
    await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    with pytest.raises(CutOff):
        await asked(world, body(fake={"do": "die_in_the_middle", "after_bytes": 3 << 20}))
