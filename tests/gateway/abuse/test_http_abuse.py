"""Blocks, cool-downs and caps, as callers of a whole gateway meet them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from gateway.plane import inprocess
from models.store.alerts import FIELD, Alert, Kind
from models.store.codec import decode, encode
from models.store.records import KeyRecord
from models.store.tenancy import Block, Caps, CoolDown, HouseRecord, TenantRecord
from tests.gateway.world import World, chat_body, until, until_async

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
COOL = CoolDown(failures=10, within_s=10.0, for_s=300.0)


@pytest.fixture
async def served(bare_world: World) -> World:
    """A gateway with a model ``m``."""
    await bare_world.start()
    await bare_world.engine("a")
    await bare_world.route(bare_world.model("m", "a"))
    return bare_world


async def house(world: World, **rules: Any) -> None:
    """An operator changes the house's rules, and this worker has heard of it."""
    await world.redis.set(world.keys.house, encode(HouseRecord(**{"cool_down": world.cool_down} | rules)))
    await _announce(world)


async def tenant(world: World, **facts: Any) -> None:
    await world.redis.hset(world.keys.tenants, "default", encode(TenantRecord(tenant_id="default", **facts)))
    await _announce(world)


async def _announce(world: World) -> None:
    version = await world.redis.incr(world.keys.tenancy_version)
    await world.redis.publish(world.keys.tenancy_channel, version)
    assert world.gateway is not None
    app = world.gateway.app
    await until(lambda: app.accounts.book.version >= version and app.guard._house is app.accounts.book.house)


async def ask(world: World, path: str = CHAT, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    given = world.headers | {name.replace("_", "-"): value for name, value in headers.items()}
    async with world.client() as session:
        sent = json.dumps(chat_body("m") if body is None else body)
        async with session.post(path, data=sent, headers=given) as answer:
            return answer.status, answer.headers, await answer.json()


async def get(world: World, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    async with world.client() as session, session.get(path, headers=headers) as answer:
        return answer.status, await answer.json() if "json" in answer.headers["content-type"] else None


# -- blocks ----------------------------------------------------------------------------------------------------------


async def test_a_blocked_address_is_heard_nowhere_until_the_block_is_taken_back(served: World) -> None:
    assert (await ask(served))[0] == 200
    await house(served, blocks=(Block(what="127.0.0.0/8", reason="mining", since_unix_s=0),))
    status, _, document = await ask(served)
    assert (status, document["error"]["code"]) == (403, "address_blocked")
    for path in ("/v1/models", "/health", "/admin/v1/fleet", "/v1/files"):
        assert (await get(served, path, served.admin_headers))[0] == 403, path
    assert len(served.engines["a"].seen) == 1
    await house(served)
    assert (await ask(served))[0] == 200


async def test_a_connection_that_was_let_through_is_looked_at_again(served: World) -> None:
    async with aiohttp.ClientSession(served.url) as session:
        for blocks, expected in (((), 200), ((Block(what="127.0.0.1", reason="", since_unix_s=0),), 403), ((), 200)):
            await house(served, blocks=blocks)
            async with session.post(CHAT, json=chat_body("m"), headers=served.headers) as answer:
                assert answer.status == expected
                await answer.read()


async def test_a_blocked_key_is_refused_everywhere_and_other_keys_are_not(served: World) -> None:
    other = await served.make_key("other", "inference")
    key_id = await id_of(served, "tester")
    await house(served, blocks=(Block(what=key_id, reason="leaked", since_unix_s=0),))
    status, _, document = await ask(served)
    assert (status, document["error"]["code"]) == (403, "key_blocked")
    for path in ("/v1/models", "/v1/files", "/v1/responses/resp_1"):
        assert (await get(served, path, {"authorization": f"Bearer {served.key}"}))[0] == 403, path
    assert (await ask(served, authorization=f"Bearer {other}"))[0] == 200


async def test_a_blocked_keys_websocket_is_refused(served: World) -> None:
    await house(served, blocks=(Block(what=await id_of(served, "tester"), reason="leaked", since_unix_s=0),))
    headers = {"authorization": f"Bearer {served.key}"}
    async with aiohttp.ClientSession(served.url) as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/v1/realtime?model=m", headers=headers)
    assert refused.value.status == 403


async def id_of(world: World, name: str) -> str:
    raw = await world.redis.hvals(world.keys.api_keys)
    return next(record.key_id for each in raw if (record := decode(each, KeyRecord, "k")).name == name)


async def test_behind_a_trusted_proxy_callers_are_told_apart(served: World) -> None:
    blocks = (Block(what="198.51.100.0/24", reason="mining", since_unix_s=0),)
    await house(served, blocks=blocks)
    assert (await ask(served, x_forwarded_for="198.51.100.7"))[0] == 200, "a stranger's word is not taken"
    await house(served, blocks=blocks, trusted_proxies=("127.0.0.1",))
    async with aiohttp.ClientSession(served.url) as session:
        for caller, expected in (("198.51.100.7", 403), ("203.0.113.9", 200), ("203.0.113.9, 198.51.100.7", 403)):
            headers = served.headers | {"x-forwarded-for": caller}
            async with session.post(CHAT, json=chat_body("m"), headers=headers) as answer:
                assert answer.status == expected, caller
                await answer.read()


# -- who fails and fails ---------------------------------------------------------------------------------------------


async def test_who_tries_keys_is_refused_without_anybody_being_asked(served: World) -> None:
    await house(served, cool_down=COOL)
    assert (await ask(served))[0] == 200  # a known key
    statuses = [(await ask(served, authorization=f"Bearer rh-{number}"))[0] for number in range(4)]
    assert statuses == [401, 401, 429, 429]
    status, headers, document = await ask(served, "/v1/messages", x_api_key="rh-x", authorization="")
    assert (status, document["error"]["code"], document["type"]) == (429, "cooling_down", "error")
    assert 290 <= int(headers["retry-after"]) <= 300
    asked = await asked_for_keys(served)
    assert (await get(served, "/v1/models", {"authorization": "Bearer rh-y"}))[0] == 429
    assert (await get(served, "/v1/models"))[0] == 429
    assert await asked_for_keys(served) == asked


async def test_beside_one_who_tries_keys_known_keys_go_on(served: World) -> None:
    await house(served, cool_down=COOL)
    assert (await ask(served))[0] == 200
    for number in range(4):
        await ask(served, authorization=f"Bearer rh-{number}")
    assert (await ask(served))[0] == 200
    assert (await get(served, "/v1/models", {"authorization": f"Bearer {served.key}"}))[0] == 200
    assert (await get(served, "/health"))[0] == 200
    # ... also when it has to be asked about again.
    assert served.gateway is not None
    served.gateway.loop.call_soon_threadsafe(served.gateway.app.authenticator.invalidate)  # type: ignore[attr-defined]
    assert (await ask(served))[0] == 200


async def asked_for_keys(world: World) -> int:
    stats: dict[str, Any] = await world.redis.info("commandstats")
    return int(stats.get("cmdstat_hget", {"calls": 0})["calls"])


async def test_a_key_that_only_fails_cools_down_and_webhooks_hear_of_it_once(served: World) -> None:
    await house(served, cool_down=COOL)
    statuses = [(await ask(served, body={"model": "nope", "messages": []}))[0] for _ in range(12)]
    assert statuses == [404] * 10 + [429] * 2
    assert (await ask(served))[0] == 429
    assert (await get(served, "/v1/models", {"authorization": f"Bearer {served.key}"}))[0] == 429

    async def told() -> list[Alert]:
        found: Any = await served.redis.xrange(served.keys.alerts)
        return [decode(fields[FIELD.encode()], Alert, "a") for _, fields in found]

    alerts = await until_async(told)
    assert [(alert.kind, alert.place, alert.tenant) for alert in alerts] == [
        (Kind.KEY_BLOCKED, f"key:{await id_of(served, 'tester')}", "default")
    ]


async def test_good_requests_beside_the_bad_ones_keep_it_going(served: World) -> None:
    await house(served, cool_down=COOL)
    for _ in range(15):
        assert (await ask(served, body={"model": "nope", "messages": []}))[0] == 404
        for _ in range(2):
            assert (await ask(served))[0] == 200


async def test_what_is_turned_away_is_counted(served: World) -> None:
    await house(served, blocks=(Block(what=await id_of(served, "tester"), reason="", since_unix_s=0),))
    for _ in range(3):
        await ask(served)
    async with served.client() as session, session.get("/metrics") as answer:
        text = await answer.text()
    assert 'roundhouse_turned_away_total{why="key_blocked"} 3.0' in text
    assert 'roundhouse_turned_away_total{why="address_blocked"} 0.0' in text


# -- caps ------------------------------------------------------------------------------------------------------------


async def test_a_tenants_cap_on_bodies_counts_before_they_are_read(served: World) -> None:
    assert (await ask(served))[0] == 200
    await tenant(served, caps=Caps(max_body_bytes=1000))
    assert (await ask(served))[0] == 200
    long = chat_body("m", pad="x" * 2000)
    status, _, document = await ask(served, body=long)
    assert (status, document["error"]["code"]) == (413, "request_too_large")
    assert "1000 bytes" in document["error"]["message"]

    async def chunks() -> Any:
        yield json.dumps(long).encode()

    async with served.client() as session, session.post(CHAT, data=chunks(), headers=served.headers) as answer:
        assert answer.status == 413
    assert len(served.engines["a"].seen) == 2


async def test_it_counts_for_a_key_that_has_to_be_asked_about_first(served: World) -> None:
    await tenant(served, caps=Caps(max_body_bytes=1000))
    fresh = await served.make_key("fresh", "inference")
    status, _, _ = await ask(served, body=chat_body("m", pad="x" * 2000), authorization=f"Bearer {fresh}")
    assert status == 413


async def test_prompts_and_answers_have_caps_of_their_own(served: World) -> None:
    await tenant(served, caps=Caps(max_prompt_tokens=100, max_answer_tokens=50))
    status, _, document = await ask(served, body=chat_body("m", pad="word " * 200))
    assert (status, document["error"]["code"]) == (400, "prompt_above_limit")
    status, _, document = await ask(served, body=chat_body("m", max_tokens=51))
    assert (status, document["error"]["param"]) == (400, "max_tokens")
    assert (await ask(served, body=chat_body("m", max_tokens=50)))[0] == 200
    assert (await ask(served, body=chat_body("m")))[0] == 200
    assert [seen.json["max_tokens"] for seen in served.engines["a"].seen] == [50, 50]


async def test_who_has_no_caps_has_none(served: World) -> None:
    await tenant(served)
    assert (await ask(served, body=chat_body("m", pad="word " * 2000)))[0] == 200
    assert "max_tokens" not in served.engines["a"].seen[0].json


# -- what this process asks of itself --------------------------------------------------------------------------------


async def asked_inside(world: World, name: str, **fields: Any) -> int:
    """As a batch's lines are."""
    assert world.gateway is not None
    app, raw = world.gateway.app, await world.redis.hvals(world.keys.api_keys)
    record = next(one for each in raw if (one := decode(each, KeyRecord, "k")).name == name)

    async def answer() -> int:
        caller = app.accounts.of(record).caller
        return (await inprocess.ask(app, CHAT, json.dumps(chat_body("m", **fields)).encode(), caller)).status

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answer(), world.gateway.loop))


async def test_caps_and_blocks_hold_for_batches_and_their_failures_cool_nothing_down(served: World) -> None:
    await house(served, cool_down=COOL)
    await tenant(served, caps=Caps(max_answer_tokens=50))
    assert [await asked_inside(served, "tester", max_tokens=51) for _ in range(15)] == [400] * 15
    assert (await ask(served))[0] == 200
    assert await asked_inside(served, "tester") == 200
    assert [seen.json["max_tokens"] for seen in served.engines["a"].seen] == [50, 50]
    await house(served, blocks=(Block(what=await id_of(served, "tester"), reason="leaked", since_unix_s=0),))
    assert await asked_inside(served, "tester") == 403
