"""Through a real server: what an answer cost is told, what it used is counted, what asks too much is stopped."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from typing import Any

import anyio
import pytest

from tests.gateway.test_metrics import parsed
from tests.gateway.world import World, chat_body

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def serve(world: World) -> None:
    await world.engine("m-1")
    await world.route(world.model("m", "m-1"))


async def call(world: World, data: bytes, path: str = CHAT, **headers: str) -> tuple[int, Any, bytes]:
    async with world.client() as session:
        sent = world.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        async with session.post(path, data=data, headers=sent) as answer:
            return answer.status, answer.headers, await answer.read()


async def figures(world: World) -> dict[tuple[str, tuple[str, ...]], float]:
    async with world.client() as session, session.get("/metrics") as answer:
        return parsed(await answer.read())


async def test_every_answer_says_where_its_time_went(world: World) -> None:
    await serve(world)
    for fields in ({}, {"stream": True}):
        status, headers, _ = await call(world, json.dumps(chat_body("m", **fields)).encode())
        assert status == 200
        times = {name: float(ms) for name, ms in re.findall(r"([a-z-]+);dur=([0-9.]+)", headers["server-timing"])}
        assert list(times) == ["auth", "queue", "wake", "connect", "engine-ttfb"]
        assert times["engine-ttfb"] > 0
        assert times["wake"] == 0
    found = await figures(world)
    assert found["roundhouse_request_stage_seconds_count", ("m", "engine-ttfb")] == 2
    assert found["roundhouse_request_stage_seconds_count", ("m", "auth")] == 2


async def test_what_an_engine_computes_before_its_first_event_is_the_engines_time(world: World) -> None:
    """It sends the head of a stream at once, and nothing that a caller could read."""
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    body = json.dumps(chat_body("m", stream=True, fake={"do": "answer", "pause_after": 0})).encode()
    held_s = 0.05

    async def let_go() -> None:
        while not engine.open:
            await anyio.sleep(0.001)
        await anyio.sleep(held_s)
        engine.go_on.set()

    async with anyio.create_task_group() as group:
        group.start_soon(let_go)
        status, headers, _ = await call(world, body)
    assert status == 200
    (engine_ms,) = re.findall(r"engine-ttfb;dur=([0-9.]+)", headers["server-timing"])
    assert float(engine_ms) >= held_s * 1e3 * 0.9


@pytest.mark.parametrize(
    ("path", "endpoint", "fields", "completion"),
    [
        (CHAT, "chat.completions", {}, 3),
        ("/v1/completions", "completions", {"prompt": "hi"}, 3),
        ("/v1/messages", "messages", {}, 3),
        ("/v1/messages", "messages", {"stream": True}, 3),
        ("/v1/embeddings", "embeddings", {"input": "hi"}, None),
    ],
)
async def test_tokens_are_counted(
    world: World, path: str, endpoint: str, fields: dict[str, Any], completion: int | None
) -> None:
    await serve(world)
    status, _, _ = await call(world, json.dumps(chat_body("m", **fields)).encode(), path)
    assert status == 200
    found = await figures(world)
    assert found["roundhouse_prompt_tokens_total", (endpoint, "m")] == 2
    assert found.get(("roundhouse_completion_tokens_total", (endpoint, "m"))) == completion


async def test_a_callers_trace_goes_on_to_the_engine(world: World) -> None:
    await serve(world)
    body = json.dumps(chat_body("m")).encode()
    for given, passed in ((TRACE, TRACE), ("nonsense", None)):
        status, _, _ = await call(world, body, traceparent=given)
        assert status == 200
        assert world.engines["m-1"].seen[-1].header("traceparent") == passed


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_bodies_reach_the_engine_unpacked(world: World, encoding: str, pack: Any) -> None:
    await serve(world)
    body = json.dumps(chat_body("m")).encode()
    status, _, _ = await call(world, pack(body), content_encoding=encoding)
    assert status == 200
    seen = world.engines["m-1"].seen[-1]
    assert seen.body == body
    assert seen.header("content-encoding") is None
    status, _, answer = await call(world, body, content_encoding=encoding)
    assert (status, json.loads(answer)["error"]["code"]) == (400, "invalid_encoding")
    status, _, answer = await call(world, pack(b" " * (9 << 20)), content_encoding=encoding)
    assert (status, json.loads(answer)["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 10_000}, "n"),
        ({"top_logprobs": 10_000, "logprobs": True}, "top_logprobs"),
        ({"logit_bias": {str(token): 1 for token in range(5000)}}, "logit_bias"),
        ({"stop": [str(number) for number in range(5000)]}, "stop"),
        ({"max_tokens": 10**12}, "max_tokens"),
        ({"response_format": {"type": "json_schema", "schema": json.loads('{"a":' * 300 + "1" + "}" * 300)}},
         "response_format"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/"}}]}]},
         "messages[0].content[0].image_url.url"),
    ],
)  # fmt: skip
async def test_what_asks_too_much_does_not_reach_the_engine(world: World, fields: dict[str, Any], param: str) -> None:
    await serve(world)
    status, _, answer = await call(world, json.dumps(chat_body("m", **fields)).encode())
    error = json.loads(answer)["error"]
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert world.engines["m-1"].seen == []
