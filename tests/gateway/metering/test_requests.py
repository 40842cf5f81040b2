"""One event per request, however it ends, there before its caller has the end of the answer: a real gateway."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from gateway.metering.reader import spools
from gateway.plane.inprocess import ask
from gateway.settings import Limits
from models.store.records import ModelRoute, ReplicaRoute
from models.store.usage import UsageEvent
from tests.gateway.metering.desk import all_of
from tests.gateway.plane.protocol.raw_engine import (
    EVENTS,
    STREAM_HEAD,
    TOLD,
    Asked,
    Link,
    RawEngine,
    answers,
    streamed,
    whole,
)
from tests.gateway.world import World, chat_body, until

pytestmark = pytest.mark.anyio
PATH = "/v1/chat/completions"


class Books:
    """What was written down so far."""

    def __init__(self, world: World) -> None:
        self.world = world

    def all(self) -> list[UsageEvent]:
        (spool,) = spools(self.world.home)
        return all_of(spool)

    def only(self) -> UsageEvent:
        (event,) = self.all()
        return event

    async def until_only(self) -> UsageEvent:
        """Where nobody waits for the end."""
        await until(self.all)
        return self.only()

    @property
    def open(self) -> tuple[Any, ...]:
        (spool,) = spools(self.world.home)
        return spool.look().watermark.open


@pytest.fixture
def books(world: World) -> Books:
    return Books(world)


@pytest.fixture
async def client(world: World) -> AsyncIterator[aiohttp.ClientSession]:
    async with world.client() as session:
        yield session


@pytest.fixture
async def served(world: World) -> World:
    await world.engine("m-1")
    await world.engine("m-2")
    await world.route(world.model("m", "m-1"), world.model("two", "m-1", "m-2"), world.model("cold"))
    return world


async def test_signs_of_life_while_it_is_held_are_no_answer(bare_world: World) -> None:
    """Its caller was told 200 with the first of them; what came of it was nothing, and costs nothing."""
    await bare_world.start(Limits(hold_timeout_s=1.0, hold_comments_s=0.1))
    await bare_world.route(bare_world.model("cold"))
    headers = {"authorization": f"Bearer {bare_world.key}"}
    asked = {"json": chat_body("cold", stream=True), "headers": headers}
    async with bare_world.client() as session, session.post(PATH, **asked) as answer:  # type: ignore[arg-type]
        said = await answer.text()
    assert answer.status == 200
    assert said.startswith(": waiting")
    event = Books(bare_world).only()
    assert (event.status, event.runs) == (503, ())
    assert event.code in said


async def test_a_plain_answer(served: World, books: Books, client: aiohttp.ClientSession) -> None:
    status, headers, answer = await served.chat(client, "m")
    event = books.only()
    assert (status, event.status, event.id) == (200, 200, headers["x-request-id"])
    assert event.prompt_tokens == answer["usage"]["prompt_tokens"]
    assert event.completion_tokens == answer["usage"]["completion_tokens"]
    assert (event.model, event.endpoint, event.tenant) == ("m", "chat.completions", "default")
    assert event.key_id
    (run,) = event.runs
    assert run.replica == "m-1"
    assert event.started_us <= run.from_us <= run.from_us + run.us <= event.ended_us


@pytest.mark.parametrize(
    ("body", "status", "model"),
    [
        (b"{", 400, "unknown"),
        (json.dumps(chat_body("nobody")).encode(), 404, "unknown"),
        (json.dumps(chat_body("m", n=10_000)).encode(), 400, "unknown"),
    ],
)
async def test_an_error_before_any_engine(
    served: World, books: Books, client: aiohttp.ClientSession, body: bytes, status: int, model: str
) -> None:
    async with client.post(PATH, data=body, headers=served.headers) as answer:
        assert answer.status == status
        event = books.only()
    assert (event.status, event.model, event.runs, event.completion_tokens) == (status, model, (), 0)


async def test_an_engine_s_error(served: World, books: Books, client: aiohttp.ClientSession) -> None:
    fake = {"do": "fail", "status": 400, "body": {"error": {"message": "no", "code": 400}}}
    status, _, _ = await served.chat(client, "m", fake=fake)
    event = books.only()
    assert (event.status, len(event.runs)) == (status, 1) == (400, 1)


async def test_strangers_and_other_calls_are_not_metered(
    served: World, books: Books, client: aiohttp.ClientSession
) -> None:
    async with client.post(PATH, json=chat_body("m"), headers={"authorization": "Bearer rh-nobody"}) as answer:
        assert answer.status == 401
    async with client.get("/v1/models", headers=served.headers) as answer:
        assert answer.status == 200
    async with client.get("/v1/nothing", headers=served.headers) as answer:
        assert answer.status == 404
    async with client.options(PATH, headers=served.headers) as answer:
        assert answer.status == 204
    assert books.all() == []


async def test_a_body_that_is_too_large(served: World, books: Books, client: aiohttp.ClientSession) -> None:
    await served.chat(client, "m")
    async with client.post(PATH, data=b"x" * (9 << 20), headers=served.headers) as answer:
        assert answer.status == 413
    event = books.all()[-1]
    assert (event.status, event.code) == (413, "request_too_large")


async def test_a_stream_of_an_engine_that_tells_nothing(
    served: World, books: Books, client: aiohttp.ClientSession
) -> None:
    async with client.post(PATH, json=chat_body("m", stream=True), headers=served.headers) as answer:
        await answer.read()
    event = books.only()
    assert (event.completion_tokens, event.stream, event.estimated) == (4, True, True)  # the last of them is empty
    assert served.engines["m-1"].seen[0].json["stream_options"] == {
        "include_usage": True,
        "continuous_usage_stats": True,
    }


async def test_a_lost_engine_s_run_counts_too(served: World, books: Books, client: aiohttp.ClientSession) -> None:
    for name in ("m-1", "m-2"):
        served.engines[name].always = {"do": "die_before_head"}
    status, _, _ = await served.chat(client, "two")
    event = books.only()
    assert status == event.status == 503
    assert event.code == "engine_unavailable"
    assert {run.replica for run in event.runs} == {"m-1", "m-2"}


async def test_a_caller_who_leaves_while_it_waits(served: World, books: Books, client: aiohttp.ClientSession) -> None:
    asking = asyncio.create_task(served.chat(client, "cold"))
    await served.until_held("cold", 1)
    asking.cancel()
    event = await books.until_only()
    assert (event.status, event.code, event.runs, event.model) == (499, "client_gone", (), "cold")
    assert event.wake_us > 0
    assert event.queue_us == 0


async def test_a_caller_who_leaves_an_engine_that_is_silent(
    served: World, books: Books, client: aiohttp.ClientSession
) -> None:
    asking = asyncio.create_task(served.chat(client, "m", fake={"do": "hang"}))
    engine = served.engines["m-1"]
    await until(lambda: books.open)
    (open_one,) = books.open
    assert (open_one.replica, open_one.model) == ("m-1", "m")
    asking.cancel()
    event = await books.until_only()
    assert event.status == 499
    assert event.runs[0].from_us == open_one.from_us
    assert event.runs[0].us >= 100_000
    assert books.open == ()
    await until(lambda: engine.abandoned == 1)


# -- streams that are told of ------------------------------------------------------------------------------------------


@pytest.fixture
async def raw(world: World) -> AsyncIterator[RawEngine]:
    engine = RawEngine(world.sockets / "raw.sock", play=answers)
    await engine.start()
    replica = ReplicaRoute(replica_id="raw-1", endpoint=engine.endpoint, state="ready")
    await world.route(ModelRoute(model_id="m", replicas=(replica,), tier="gpu"))
    yield engine
    await engine.stop()


def first(count: int) -> bytes:
    """The beginning of a stream, with so many events."""
    return STREAM_HEAD + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in TOLD[:count])


async def test_a_stream_that_is_told_of(
    world: World, raw: RawEngine, books: Books, client: aiohttp.ClientSession
) -> None:
    async with client.post(PATH, json=chat_body("m", stream=True), headers=world.headers) as answer:
        assert await answer.read() == b"".join(EVENTS)
        event = books.only()
    assert (event.prompt_tokens, event.completion_tokens, event.estimated) == (2, 3, False)
    assert (event.status, event.stream) == (200, True)


@pytest.mark.parametrize("seen", [1, 2, 3])
async def test_an_engine_that_dies_in_the_middle(
    world: World, raw: RawEngine, books: Books, client: aiohttp.ClientSession, seen: int
) -> None:
    async def dies(link: Link, asked: Asked) -> None:
        await link.say(first(seen))
        await link.end()

    raw.play = dies
    async with client.post(PATH, json=chat_body("m", stream=True), headers=world.headers) as answer:
        body = await answer.read()
    assert body.startswith(b"".join(EVENTS[:seen]))
    assert b"event: error" in body
    event = books.only()
    assert (event.prompt_tokens, event.completion_tokens, event.estimated) == (2, seen, True)
    assert (event.status, event.code) == (200, "engine_unavailable")


@pytest.mark.parametrize("seen", [1, 2])
async def test_a_caller_who_leaves_in_the_middle(
    world: World, raw: RawEngine, books: Books, client: aiohttp.ClientSession, seen: int
) -> None:
    async def halts(link: Link, asked: Asked) -> None:
        await link.say(first(seen))
        await link.gone()

    raw.play = halts
    async with client.post(PATH, json=chat_body("m", stream=True), headers=world.headers) as answer:
        got = b""
        while got != b"".join(EVENTS[:seen]):
            got += await answer.content.readany()
        (open_one,) = books.open
        assert open_one.replica == "raw-1"
        assert books.all() == []
    event = await books.until_only()
    assert (event.prompt_tokens, event.completion_tokens, event.estimated) == (2, seen, True)
    assert event.status == 200, "as it was told"
    assert books.open == ()


async def test_of_a_try_that_nobody_saw_only_the_time_counts(
    world: World, raw: RawEngine, books: Books, client: aiohttp.ClientSession
) -> None:
    tries = itertools.count()

    async def second_time(link: Link, asked: Asked) -> None:
        if next(tries):
            await link.say(streamed())
        else:
            await link.say(first(1)[:-20])
            await link.end()

    raw.play = second_time
    other = ReplicaRoute(replica_id="raw-2", endpoint=raw.endpoint, state="ready")
    one = ReplicaRoute(replica_id="raw-1", endpoint=raw.endpoint, state="ready")
    await world.route(ModelRoute(model_id="m", replicas=(one, other), tier="gpu"))
    async with client.post(PATH, json=chat_body("m", stream=True), headers=world.headers) as answer:
        assert await answer.read() == b"".join(EVENTS)
    event = books.only()
    assert (event.prompt_tokens, event.completion_tokens) == (2, 3)
    assert sorted(run.replica for run in event.runs) == ["raw-1", "raw-2"]


async def test_an_answer_too_long_to_be_kept(
    world: World, raw: RawEngine, books: Books, client: aiohttp.ClientSession
) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    body = json.dumps({"choices": [{"text": "x" * 3_000_000}], "usage": usage}).encode()

    async def long(link: Link, asked: Asked) -> None:
        await link.say(whole(body))

    raw.play = long
    async with world.client() as client, client.post(PATH, json=chat_body("m"), headers=world.headers) as answer:
        assert await answer.read() == body
        event = books.only()
    assert (event.prompt_tokens, event.completion_tokens, event.estimated) == (9, 4, False)


async def test_what_this_process_asks_of_itself(
    world: World, raw: RawEngine, books: Books, client: aiohttp.ClientSession
) -> None:
    gateway = world.gateway
    assert gateway is not None
    await world.chat(client, "m")
    caller = next(iter(gateway.app.accounts._known.values())).caller
    asking = ask(gateway.app, PATH, json.dumps(chat_body("m")).encode(), caller, request_id="batch-1")
    answer = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asking, gateway.loop))
    assert answer.status == 200
    events = {event.id: event for event in books.all()}
    assert len(events) == 2
    assert events["batch-1"].completion_tokens == 3
    assert events["batch-1"].key_id == caller.key_id


async def test_while_nothing_can_be_written_down_nothing_is_served(
    served: World, books: Books, client: aiohttp.ClientSession
) -> None:
    assert served.gateway is not None
    recorder = served.gateway.app.recorder
    assert recorder is not None
    recorder._log._most_waiting = 0
    await until(lambda: recorder.full)
    status, headers, answer = await served.chat(client, "m")
    assert (status, headers["retry-after"]) == (503, "5")
    assert "the disk" in answer["error"]["message"].lower()
    assert served.engines["m-1"].seen == []
    recorder._log._most_waiting = 1000
    await until(lambda: not recorder.full)
    status, _, _ = await served.chat(client, "m")
    assert (status, books.only().status, recorder.lost) == (200, 200, 0)
