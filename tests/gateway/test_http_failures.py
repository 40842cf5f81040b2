"""Engines that refuse, hang and die, and callers who leave; over real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.gateway.world import World, chat_body, until

pytestmark = pytest.mark.anyio


async def stream(session: aiohttp.ClientSession, world: World, model: str = "m", **fields: Any) -> tuple[int, bytes]:
    body = chat_body(model, stream=True, **fields)
    async with session.post("/v1/chat/completions", json=body, headers=world.headers) as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize("death", ["die_before_head", "die_after_head", "fail"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_replica_lost_before_the_first_byte_is_not_noticed_by_the_caller(
    world: World, death: str, streamed: bool
) -> None:
    dying = await world.engine("m-1", always={"do": death, "status": 503, "body": "{}"})
    await world.engine("m-2")
    await world.route(world.model("m", "m-1", "m-2"))
    async with world.client() as session:
        for number in range(16):  # another prompt each: the same one would stay where its prefix is cached
            messages = [{"role": "user", "content": f"question {number}"}]
            if streamed:
                status, body = await stream(session, world, messages=messages)
            else:
                status, body = (await world.chat(session, "m", messages=messages))[0], b""
            assert status == 200
            assert b"error" not in body
    assert len(dying.seen) == 1, "after the first loss it is left alone"


async def test_a_replica_whose_process_is_gone(world: World) -> None:
    gone = await world.engine("m-1")
    await world.engine("m-2")
    await world.route(world.model("m", "m-1", "m-2"))
    async with world.client() as session:
        for _ in range(4):
            await world.chat(session, "m")
        await gone.stop()
        assert [(await world.chat(session, "m"))[0] for _ in range(6)] == [200] * 6


async def test_when_the_only_replica_dies_the_request_waits_for_a_new_one(world: World) -> None:
    await world.engine("m-1", always={"do": "die_before_head"})
    new = await world.engine("m-2")
    await world.route(world.model("m", "m-1"))
    async with world.client() as session:
        asking = asyncio.ensure_future(world.chat(session, "m"))
        await world.until_held("m", 1)
        await world.announce(world.model("m", "m-2"))
        assert (await asking)[0] == 200
    assert len(new.seen) == 1


async def test_a_stream_that_breaks_ends_with_an_error_event(world: World) -> None:
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    async with world.client() as session:
        status, body = await stream(session, world, fake={"do": "die_in_the_middle"})
    assert status == 200
    first, last, rest = body.decode().split("\n\n")
    assert json.loads(first.removeprefix("data: "))["choices"]
    assert last.startswith("event: error\ndata: ")
    assert json.loads(last.removeprefix("event: error\ndata: "))["error"]["code"] == "engine_unavailable"
    assert rest == ""
    assert len(engine.seen) == 1


async def test_half_an_unstreamed_answer_is_never_taken_for_a_whole_one(world: World) -> None:
    await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    async with world.client() as session:
        with pytest.raises(aiohttp.ClientPayloadError):
            await world.chat(session, "m", fake={"do": "die_in_the_middle", "after_bytes": 3 << 20})


@pytest.mark.parametrize("how", ["hang", "hang after head", "paused stream"])
async def test_a_caller_who_leaves_ends_it_in_the_engine(world: World, how: str) -> None:
    fakes = {
        "hang": {"do": "hang"},
        "hang after head": {"do": "hang", "after_head": True},
        "paused stream": {"do": "stream", "pause_after": 2},
    }
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    async with world.client() as session:
        asking = asyncio.ensure_future(stream(session, world, fake=fakes[how]))
        await until(lambda: engine.open == 1)
        asking.cancel()
        await until(lambda: engine.abandoned == 1)
        assert engine.open == 0
        await world.until_idle("m")
        assert (await world.chat(session, "m"))[0] == 200


async def test_a_caller_of_an_unstreamed_answer_who_leaves_ends_it_too(world: World) -> None:
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    async with world.client() as session:
        asking = asyncio.ensure_future(world.chat(session, "m", fake={"do": "hang"}))
        await until(lambda: engine.open == 1)
        asking.cancel()
        await until(lambda: engine.abandoned == 1)


async def test_events_arrive_one_by_one(world: World) -> None:
    """The engine pauses after its second event: both must be here by then."""
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    body = chat_body("m", stream=True, fake={"do": "stream", "pause_after": 2})
    async with (
        world.client() as session,
        session.post("/v1/chat/completions", json=body, headers=world.headers) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        got = b""
        while got.count(b"\n\n") < 2:
            got += await asyncio.wait_for(answer.content.readany(), 10)
        assert got.count(b"\n\n") == 2
        engine.go_on.set()
        assert (got + await answer.read()).endswith(b"data: [DONE]\n\n")


async def test_an_engines_refusal_and_failure_are_told_in_our_words(world: World) -> None:
    await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    too_long = {
        "error": {"message": "This model's maximum context length is 8 tokens.", "type": "x", "param": "y", "code": 400}
    }
    leaking = {"error": {"message": 'File "/opt/secret.py" crashed', "type": "x", "param": None, "code": 500}}
    async with world.client() as session:
        status, _, body = await world.chat(session, "m", fake={"do": "fail", "status": 400, "body": too_long})
        assert (status, body["error"]["code"], body["error"]["param"]) == (400, "context_length_exceeded", "messages")
        status, headers, body = await world.chat(session, "m", fake={"do": "fail", "status": 500, "body": leaking})
        assert status == 500
        assert "secret" not in json.dumps(body)
        assert headers["x-request-id"] in body["error"]["message"]


async def test_an_error_before_the_stream_is_an_http_status(world: World) -> None:
    await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    refusal = {"error": {"message": "No.", "type": "x", "param": None, "code": 400}}
    async with world.client() as session:
        status, body = await stream(session, world, fake={"do": "fail", "status": 400, "body": refusal})
    assert status == 400
    assert json.loads(body)["error"]["message"] == "No."


async def test_a_caller_who_reads_slowly_stops_the_engine_not_our_memory(world: World) -> None:
    """64 MiB from the engine, a caller who does not read: what is in between stays small."""
    engine = await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    size = 64 << 20
    body = json.dumps(chat_body("m", fake={"do": "big", "bytes": size})).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {world.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    host, port = world.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(head.encode() + body)
    await until(lambda: engine.open == 1)
    await asyncio.sleep(0.3)
    assert engine.open == 1, "the engine could not get rid of it: it waits for the caller"
    received = 0
    while chunk := await reader.read(1 << 20):
        received += len(chunk)
    assert received > size
    await until(lambda: engine.open == 0)
    assert engine.abandoned == 0
    writer.close()


async def test_many_callers_at_once_all_get_their_own_answers(world: World) -> None:
    await world.engine("m-1")
    await world.engine("m-2")
    await world.route(world.model("m", "m-1", "m-2"), world.model("n", "m-2"))
    async with world.client() as session:
        names = ["m", "n"] * 60
        answers = await asyncio.gather(*(world.chat(session, name) for name in names))
    assert [status for status, _, _ in answers] == [200] * 120, [body for s, _, body in answers if s != 200]
    assert [body["model"] for _, _, body in answers] == names
    assert len({headers["x-request-id"] for _, headers, _ in answers}) == 120
    counts = [len(engine.seen) for engine in world.engines.values()]
    assert sum(counts) == 120
    assert min(counts) >= 10


@pytest.mark.parametrize("size", [10, 40_000, 200_000], ids=["short", "in pieces", "longer than is read"])
async def test_a_busy_engine_may_say_so_at_length(world: World, size: int) -> None:
    busy = await world.engine("m-1", always={"do": "fail", "status": 503, "body": "x" * size})
    await world.route(world.model("m", "m-1"))
    async with world.client() as session:
        asking = asyncio.create_task(world.chat(session, "m"))
        await until(lambda: busy.seen)
        await world.engine("m-2")
        await world.route(world.model("m", "m-1", "m-2"))
        status, _, _ = await asking
    assert status == 200
    await world.until_idle("m")
