"""Limits as callers meet them: over HTTP, with an engine behind."""

from __future__ import annotations

import asyncio
import re

import pytest

from models.store.api_keys import build_key
from models.store.codec import encode
from models.store.tenancy import LimitRule
from tests.gateway.limits.stage import rule
from tests.gateway.world import World, chat_body, until_async

pytestmark = pytest.mark.anyio

SIX = [f"x-ratelimit-{fact}-{kind}" for kind in ("requests", "tokens") for fact in ("limit", "remaining", "reset")]


@pytest.fixture
async def served(world: World) -> World:
    await world.engine("m-1")
    await world.route(world.model("m", "m-1"))
    return world


async def key(world: World, *limits: LimitRule) -> dict[str, str]:
    created = build_key("limited", ("inference",), 0.0, limits=limits)
    await world.redis.hset(world.keys.api_keys, created.digest, encode(created.record))
    return {"authorization": f"Bearer {created.text}"}


async def test_six_headers_on_success_and_on_refusal(served: World) -> None:
    caller = await key(served, rule("requests", 2), rule("tokens", 1000))
    async with served.client() as session:
        seen = [await served.chat(session, "m", headers=caller, max_tokens=5) for _ in range(3)]
    assert [status for status, _, _ in seen] == [200, 200, 429]
    assert [headers["x-ratelimit-remaining-requests"] for _, headers, _ in seen] == ["1", "0", "0"]
    for _, headers, _ in seen:
        assert [name for name in SIX if name not in headers] == []
        assert re.fullmatch(r"(\d+h)?(\d+m)?\d+s|\d+ms", headers["x-ratelimit-reset-requests"])
    _, headers, body = seen[-1]
    assert int(headers["retry-after"]) in range(58, 63)
    assert body["error"]["type"] == "rate_limit_error"
    assert body["error"]["code"] == "rate_limit_exceeded"


async def test_what_was_not_used_is_put_back(served: World) -> None:
    """Each reserves 8000 tokens of 10,000 and uses 5."""
    caller = await key(served, rule("tokens", 10_000, "day"))
    async with served.client() as session:
        for done in range(4):
            status, headers, body = await served.chat(session, "m", headers=caller, max_tokens=8000)
            assert status == 200, body
            assert int(headers["x-ratelimit-remaining-tokens"]) in (10_000 - 5 * (done + 1), *range(1000, 2000))
            await asyncio.sleep(0.12)


async def test_requests_at_once_and_a_caller_that_goes_away(served: World) -> None:
    caller = await key(served, rule("concurrent", 1))
    body = chat_body("m", stream=True, fake={"do": "stream", "pause_after": 1})
    async with served.client() as session:
        async with session.post("/v1/chat/completions", json=body, headers=caller) as stream:
            await stream.content.readany()
            status, headers, answer = await served.chat(session, "m", headers=caller)
            assert (status, answer["error"]["code"]) == (429, "concurrency_limit")
            assert headers["retry-after"] == "1"
            stream.close()

        async def passes() -> bool:
            return bool((await served.chat(session, "m", headers=caller))[0] == 200)

        await until_async(passes)
        assert [(await served.chat(session, "m", headers=caller))[0] for _ in range(5)] == [200] * 5


async def test_a_budget_that_is_used_up(served: World) -> None:
    caller = await key(served, rule("requests", 1, "month"))
    async with served.client() as session:
        assert (await served.chat(session, "m", headers=caller))[0] == 200
        status, headers, body = await served.chat(session, "m", headers=caller)
    assert (status, body["error"]["type"], body["error"]["code"]) == (429, "insufficient_quota", "budget_exceeded")
    assert headers["x-should-retry"] == "false"


async def test_errors_of_ours_cost_nothing(served: World) -> None:
    caller = await key(served, rule("requests", 3, "day"))
    async with served.client() as session:
        for _ in range(5):
            assert (await served.chat(session, "nothing", headers=caller))[0] == 404
        assert [(await served.chat(session, "m", headers=caller))[0] for _ in range(4)] == [200, 200, 200, 429]
