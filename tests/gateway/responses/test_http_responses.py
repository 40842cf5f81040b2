"""Responses with the official client: kept, found again, continued on another engine, deleted, seen by their owner."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from gateway.asking import Answer
from gateway.kept import KeptLimits
from gateway.responses.shelf import ResponseLimits
from models.store.codec import encode
from models.store.tenancy import Caps, TenantRecord
from tests.gateway.kept_world import FAST, KeptWorld, TalkingEngine
from tests.gateway.world import until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine(kept_world: KeptWorld) -> TalkingEngine:
    """Of the model ``m``, behind one worker."""
    engine = await kept_world.talking()
    await kept_world.begin()
    await kept_world.route(kept_world.model("m", "m-1"))
    return engine


async def test_a_response_is_found_again_as_it_was(kept_world: KeptWorld, engine: TalkingEngine) -> None:
    async with kept_world.api() as api:
        made = await api.responses.create(model="m", input="hello", metadata={"a": "b"})
        found = await api.responses.retrieve(made.id)
    assert made.output_text == found.output_text == "1: hello"
    assert (found.id, found.status, found.metadata, found.previous_response_id) == (
        made.id, "completed", {"a": "b"}, None
    )  # fmt: skip
    assert found.usage == made.usage


async def test_a_tenants_cap_on_prompts_holds_for_all_of_a_conversation(kept_world: KeptWorld) -> None:
    """What was said before is part of the prompt, although nobody sends it again."""
    tenant = TenantRecord(tenant_id="default", caps=Caps(max_prompt_tokens=100))
    await kept_world.redis.hset(kept_world.keys.tenants, "default", encode(tenant))
    await kept_world.redis.incr(kept_world.keys.tenancy_version)
    await kept_world.talking()
    await kept_world.begin()
    await kept_world.route(kept_world.model("m", "m-1"))
    async with kept_world.api() as api:
        first = await api.responses.create(model="m", input="word " * 40)
        for background in (False, True):
            with pytest.raises(openai.BadRequestError) as refused:
                await api.responses.create(
                    model="m", input="word " * 40, previous_response_id=first.id, background=background
                )
            assert refused.value.code == "prompt_above_limit"
        await api.responses.create(model="m", input="word " * 40)


async def test_a_stream_is_kept_as_well(kept_world: KeptWorld, engine: TalkingEngine) -> None:
    async with kept_world.api() as api:
        stream = await api.responses.create(model="m", input="to be streamed", stream=True)
        events = [event async for event in stream]
        assert events[-1].type == "response.completed"
        found = await api.responses.retrieve(events[-1].response.id)
    assert found.output_text == "1: to be streamed"


async def test_a_conversation_goes_on_at_another_engine_and_another_worker(
    kept_world: KeptWorld, engine: TalkingEngine
) -> None:
    other = await kept_world.begin()
    async with kept_world.api() as api:
        first = await api.responses.create(model="m", input="one", instructions="be brief")
    await engine.stop()
    replacement = await kept_world.talking("m-2")
    await kept_world.route(kept_world.model("m", "m-2"))
    async with kept_world.api(worker=other) as api:
        second = await api.responses.create(model="m", input="two", previous_response_id=first.id)
        stream = await api.responses.create(
            model="m", input=[{"role": "user", "content": "three"}], previous_response_id=second.id, stream=True
        )
        third = [event async for event in stream][-1].response  # type: ignore[union-attr]
        found = await api.responses.retrieve(third.id)
    assert second.output_text == "3: one | 1: one | two"
    assert third.output_text == "5: one | 1: one | two | 3: one | 1: one | two | three"
    assert found.previous_response_id == second.id
    given = [seen.json for seen in replacement.seen]
    assert not any("previous_response_id" in body or "instructions" in body or body["store"] for body in given)


async def test_tool_calls_are_part_of_the_conversation(kept_world: KeptWorld, engine: TalkingEngine) -> None:
    call: Any = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}", "content": "call"}
    result: Any = {"type": "function_call_output", "call_id": "c1", "output": "3"}
    async with kept_world.api() as api:
        first = await api.responses.create(model="m", input=[{"role": "user", "content": "1+2"}, call])
        await api.responses.create(model="m", input=[result], previous_response_id=first.id)
    given = engine.seen[-1].json["input"]
    assert [item.get("type", "message") for item in given] == [
        "message", "function_call", "message", "function_call_output"
    ]  # fmt: skip
    assert given[1] == call
    assert given[3] == result


async def test_input_items_are_the_whole_conversation(kept_world: KeptWorld, engine: TalkingEngine) -> None:
    async with kept_world.api() as api:
        first = await api.responses.create(model="m", input="one")
        second = await api.responses.create(model="m", input="two", previous_response_id=first.id)
        newest_first = [item async for item in api.responses.input_items.list(second.id, limit=2)]
        oldest_first: list[Any] = [item async for item in api.responses.input_items.list(second.id, order="asc")]
    shown = [(item.type, item.role, item.content[0].text) for item in oldest_first]
    assert shown == [("message", "user", "one"), ("message", "assistant", "1: one"), ("message", "user", "two")]
    assert [item.id for item in newest_first] == [item.id for item in reversed(oldest_first)]
    assert len({item.id for item in oldest_first}) == 3


async def test_what_is_not_to_be_stored_is_not(kept_world: KeptWorld, engine: TalkingEngine) -> None:
    async with kept_world.api() as api:
        made = await api.responses.create(model="m", input="secret", store=False)
        with pytest.raises(openai.NotFoundError) as missing:
            await api.responses.retrieve(made.id)
        assert missing.value.code == "response_not_found"
        with pytest.raises(openai.BadRequestError) as refused:
            await api.responses.create(model="m", input="more", previous_response_id=made.id)
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")
    held = await kept_world.redis.keys(f"{kept_world.keys.prefix}:kept*")
    assert held == []


async def test_what_is_not_stored_may_continue_what_is(kept_world: KeptWorld, engine: TalkingEngine) -> None:
    async with kept_world.api() as api:
        first = await api.responses.create(model="m", input="one")
        second = await api.responses.create(model="m", input="two", previous_response_id=first.id, store=False)
        assert second.output_text == "3: one | 1: one | two"
        with pytest.raises(openai.NotFoundError):
            await api.responses.retrieve(second.id)


async def test_a_key_sees_its_own_only(kept_world: KeptWorld, engine: TalkingEngine) -> None:
    other = await kept_world.make_key("other", "inference")
    async with kept_world.api() as api, kept_world.api(other) as theirs:
        made = await api.responses.create(model="m", input="mine")
        for call in (
            theirs.responses.retrieve(made.id),
            theirs.responses.delete(made.id),
            theirs.responses.cancel(made.id),
            theirs.responses.input_items.list(made.id),
        ):
            with pytest.raises(openai.NotFoundError):
                await call
        with pytest.raises(openai.BadRequestError) as refused:
            await theirs.responses.create(model="m", input="yours?", previous_response_id=made.id)
        assert refused.value.code == "previous_response_not_found"
        assert (await api.responses.retrieve(made.id)).output_text == "1: mine"
    assert len(engine.seen) == 1, "nothing of it reached an engine"


async def test_deleting(kept_world: KeptWorld, engine: TalkingEngine) -> None:
    async with kept_world.api() as api:
        first = await api.responses.create(model="m", input="one")
        second = await api.responses.create(model="m", input="two", previous_response_id=first.id)
        await api.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await api.responses.retrieve(first.id)
        with pytest.raises(openai.NotFoundError):
            await api.responses.delete(first.id)
        assert (await api.responses.retrieve(second.id)).id == second.id
        with pytest.raises(openai.BadRequestError, match=first.id):
            await api.responses.create(model="m", input="three", previous_response_id=second.id)


async def test_answers_that_fail_or_break_off_are_not_kept(kept_world: KeptWorld, engine: TalkingEngine) -> None:
    async with kept_world.api() as api:
        for fake in ({"do": "die_in_the_middle"}, {"do": "fail", "status": 400, "body": "{}"}):
            with pytest.raises(openai.APIError):
                await api.responses.create(model="m", input="x", extra_body={"fake": fake})
    assert await kept_world.redis.keys(f"{kept_world.keys.prefix}:kept*") == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"conversation": "conv_1"}, "conversation"),
        ({"previous_response_id": 7}, "previous_response_id"),
        ({"store": "yes"}, "store"),
        ({"background": "yes"}, "background"),
        ({"background": True, "store": False}, "store"),
        ({"background": True, "stream": True}, "stream"),
        ({"background": True, "input": 7}, "input"),
    ],
)
async def test_what_is_asked_for_wrongly_is_refused_by_name(
    kept_world: KeptWorld, engine: TalkingEngine, fields: dict[str, Any], param: str
) -> None:
    async with kept_world.client() as session:
        body = {"model": "m", "input": "x"} | fields
        async with session.post("/v1/responses", json=body, headers=kept_world.headers) as answer:
            error = (await answer.json())["error"]
    assert (answer.status, error["param"]) == (400, param)
    assert engine.seen == []


async def test_a_strange_id_is_not_found(kept_world: KeptWorld, engine: TalkingEngine) -> None:
    async with kept_world.client() as session:
        for response_id in ("resp_nobody", "%2E%2E", "a%20b", "x" * 200, "%00"):
            async with session.get(f"/v1/responses/{response_id}", headers=kept_world.headers) as answer:
                assert answer.status == 404, response_id
        async with session.get("/v1/responses/resp_1") as answer:
            assert answer.status == 401


async def test_old_ones_make_room_and_a_huge_one_is_not_kept(kept_world: KeptWorld) -> None:
    await kept_world.talking()
    await kept_world.begin(KeptLimits(responses=ResponseLimits(owner_responses=2, one_bytes=4000), pace=FAST))
    await kept_world.route(kept_world.model("m", "m-1"))
    async with kept_world.api() as api:
        made = [await api.responses.create(model="m", input=str(number)) for number in range(3)]
        assert (await api.responses.retrieve(made[-1].id)).output_text == "1: 2"
        with pytest.raises(openai.NotFoundError):
            await api.responses.retrieve(made[0].id)
        huge = await api.responses.create(model="m", input="x" * 5000)
        assert huge.output_text.endswith("x" * 5000)
        with pytest.raises(openai.NotFoundError):
            await api.responses.retrieve(huge.id)
        assert (await api.responses.retrieve(made[-1].id)).output_text == "1: 2"


async def test_a_conversation_may_be_as_large_as_a_request_and_no_longer(kept_world: KeptWorld) -> None:
    await kept_world.talking()
    await kept_world.begin(KeptLimits(responses=ResponseLimits(input_bytes=6000, turns=2), pace=FAST))
    await kept_world.route(kept_world.model("m", "m-1"))
    async with kept_world.api() as api:
        first = await api.responses.create(model="m", input="x" * 4000)
        with pytest.raises(openai.BadRequestError) as refused:
            await api.responses.create(model="m", input="more", previous_response_id=first.id)
        assert refused.value.code == "conversation_too_long"
        last = await api.responses.create(model="m", input="1")
        for number in (2, 3):
            last = await api.responses.create(model="m", input=str(number), previous_response_id=last.id)
        with pytest.raises(openai.BadRequestError, match="turns"):
            await api.responses.create(model="m", input="4", previous_response_id=last.id)


async def test_the_background(kept_world: KeptWorld, engine: TalkingEngine) -> None:
    async with kept_world.api() as api:
        first = await api.responses.create(model="m", input="one")
        made = await api.responses.create(
            model="m", input="two", previous_response_id=first.id, background=True, extra_body={"fake": {"do": "wait"}}
        )
        assert (made.status, made.background, made.output) == ("queued", True, [])
        assert await status_of(api, made.id, "in_progress")
        with pytest.raises(openai.ConflictError) as early:
            await api.responses.create(model="m", input="three", previous_response_id=made.id)
        assert early.value.code == "previous_response_not_ready"
        engine.go_on.set()
        assert await status_of(api, made.id, "completed")
        done = await api.responses.retrieve(made.id)
        assert (done.id, done.output_text) == (made.id, "3: one | 1: one | two")
        assert (done.previous_response_id, done.background, done.created_at) == (first.id, True, made.created_at)
        third = await api.responses.create(model="m", input="three", previous_response_id=made.id)
        assert third.output_text.startswith("5: ")
        assert (await api.responses.cancel(made.id)).status == "completed", "it has ended; it stays as it is"
    assert await kept_world.redis.zcard(kept_world.keys.response_jobs) == 0


async def test_the_background_tells_what_went_wrong(kept_world: KeptWorld, engine: TalkingEngine) -> None:
    body = {"error": {"message": "temperature must be at most 2.", "type": "x", "param": "temperature", "code": 400}}
    async with kept_world.api() as api:
        made = await api.responses.create(
            model="m", input="x", background=True, extra_body={"fake": {"do": "fail", "status": 400, "body": body}}
        )
        assert await status_of(api, made.id, "failed")
        failed = await api.responses.retrieve(made.id)
    assert failed.error is not None
    assert failed.error.code == "invalid_prompt"
    assert "temperature" in failed.error.message


async def test_cancelling_frees_the_engine_through_any_worker(kept_world: KeptWorld, engine: TalkingEngine) -> None:
    other = await kept_world.begin()
    async with kept_world.api() as api, kept_world.api(worker=other) as elsewhere:
        for canceller in (api, elsewhere):
            made = await api.responses.create(
                model="m", input="x", background=True, extra_body={"fake": {"do": "hang"}}
            )
            await until_async(lambda: _is(engine.open == 1))
            cancelled = await canceller.responses.cancel(made.id)
            assert cancelled.status == "cancelled"
            await until_async(lambda: _is(engine.open == 0))
            assert (await api.responses.retrieve(made.id)).status == "cancelled"
            assert (await api.responses.cancel(made.id)).status == "cancelled"
        plain = await api.responses.create(model="m", input="x")
        with pytest.raises(openai.BadRequestError):
            await api.responses.cancel(plain.id)
    assert engine.abandoned == 2


async def test_deleting_one_that_is_being_made(kept_world: KeptWorld, engine: TalkingEngine) -> None:
    async with kept_world.api() as api:
        made = await api.responses.create(model="m", input="x", background=True, extra_body={"fake": {"do": "hang"}})
        await until_async(lambda: _is(engine.open == 1))
        await api.responses.delete(made.id)
        await until_async(lambda: _is(engine.open == 0))
        with pytest.raises(openai.NotFoundError):
            await api.responses.retrieve(made.id)


async def test_another_worker_goes_on_when_one_ends(kept_world: KeptWorld, engine: TalkingEngine) -> None:
    other = await kept_world.begin()
    async with kept_world.api() as api:
        made = await api.responses.create(model="m", input="x", background=True, extra_body={"fake": {"do": "wait"}})
        await until_async(lambda: _is(engine.open == 1))
    ending = asyncio.create_task(kept_world.end(kept_world.workers[0]))
    await until_async(lambda: _is(len(engine.seen) == 2))
    engine.go_on.set()
    await ending
    async with kept_world.api(worker=other) as api:
        assert await status_of(api, made.id, "completed")
        assert (await api.responses.retrieve(made.id)).output_text == "1: x"


async def test_a_tenant_has_so_many_in_the_background_and_no_more(kept_world: KeptWorld) -> None:
    engine = await kept_world.talking()
    await kept_world.begin(KeptLimits(responses=ResponseLimits(background=2), pace=FAST))
    await kept_world.route(kept_world.model("m", "m-1"))
    extra: Any = {"extra_body": {"fake": {"do": "wait"}}}
    other = await kept_world.make_key("other", "inference")
    async with kept_world.api() as api, kept_world.api(other) as theirs:
        for _ in range(2):
            await api.responses.create(model="m", input="x", background=True, **extra)
        with pytest.raises(openai.RateLimitError) as refused:
            await api.responses.create(model="m", input="x", background=True, **extra)
        assert refused.value.code == "too_many_background_responses"
        made = await theirs.responses.create(model="m", input="x", background=True, **extra)
        engine.go_on.set()
        assert await status_of(theirs, made.id, "completed")


async def status_of(api: openai.AsyncOpenAI, response_id: str, wanted: str) -> bool:
    async def look() -> bool:
        return (await api.responses.retrieve(response_id)).status == wanted

    return bool(await until_async(look))


async def _is(holds: bool) -> bool:
    return holds


def test_the_protocol_of_an_answer_is_the_planes_own() -> None:
    from gateway.plane import inprocess

    answer: Answer = inprocess.Answer(200, b"a: b\r\n", b"", "req_1")
    assert answer.status == 200
