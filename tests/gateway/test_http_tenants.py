"""Tenants, keys, prices and house rules over the admin API, and what callers notice of them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from models.store.api_keys import hash_key
from models.store.codec import decode, encode
from models.store.records import KeyRecord
from tests.gateway.test_http_admin import controller, fleet
from tests.gateway.world import World, until_async

pytestmark = pytest.mark.anyio


async def ask(world: World, path: str, method: str = "GET", key: str | None = None, **kwargs: Any) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {key or world.admin_key}"}
    url = f"/admin/v1/{path}"
    async with world.client() as session, session.request(method, url, headers=headers, **kwargs) as answer:
        return answer.status, await answer.json()


async def models(world: World, key: str) -> Any:
    headers = {"authorization": f"Bearer {key}"}
    async with world.client() as session, session.get("/v1/models", headers=headers) as answer:
        body = await answer.json()
        return [one["id"] for one in body["data"]] if answer.status == 200 else body["error"]["code"]


async def acts(world: World, **query: Any) -> list[str]:
    _, found = await ask(world, "audit", params=query)
    return [f"{one['act']} {one['what']}" for one in found["data"]]


async def made_key(world: World, **fields: Any) -> dict[str, Any]:
    status, made = await ask(world, "keys", "POST", json={"name": "app", **fields})
    assert status == 201, made
    return dict(made)


class TestTenants:
    async def test_made_changed_shown_and_deleted(self, world: World) -> None:
        order = {"tenant_id": "acme", "limits": ["requests=100/1m"], "caps": {"max_body_bytes": "1MiB"}}
        status, made = await ask(world, "tenants", "POST", json=order)
        assert (status, made["caps"]["max_body_bytes"]) == (201, 1 << 20)
        change = {"weight": 2.5, "caps": {"max_answer_tokens": 100}}
        status, changed = await ask(world, "tenants/acme", "PATCH", json=change)
        assert (status, changed["weight"], changed["limits"]) == (200, 2.5, made["limits"])
        assert changed["caps"] == {"max_body_bytes": 1 << 20, "max_prompt_tokens": None, "max_answer_tokens": 100}
        key = await made_key(world, tenant="acme")
        _, shown = await ask(world, "tenants/acme")
        assert (shown["limits_text"], shown["keys"]) == (["requests=100/1m"], [key["key_id"]])
        _, listed = await ask(world, "tenants")
        assert [one["tenant_id"] for one in listed["data"]] == ["acme", "default"]
        status, refused = await ask(world, "tenants/acme", "DELETE")
        assert (status, refused["error"]["code"]) == (409, "keys_in_use")
        await ask(world, f"keys/{key['key_id']}", "DELETE")
        assert (await ask(world, "tenants/acme", "DELETE"))[0] == 200
        assert (await ask(world, "tenants/acme"))[0] == 404

    async def test_limits_that_are_shown_can_be_sent_back(self, world: World) -> None:
        await ask(world, "tenants", "POST", json={"tenant_id": "acme", "limits": ["tokens=1M/day:soft@80%"]})
        _, shown = await ask(world, "tenants/acme")
        status, again = await ask(world, "tenants/acme", "PATCH", json={"limits": shown["limits"]})
        assert (status, again["limits"]) == (200, shown["limits"])

    async def test_who_was_overtaken_is_told(self, world: World) -> None:
        await ask(world, "tenants", "POST", json={"tenant_id": "acme"})
        _, shown = await ask(world, "tenants/acme")
        await ask(world, "tenants/acme", "PATCH", json={"weight": 2})
        path = f"tenants/acme?version={shown['version']}"
        status, refused = await ask(world, path, "PATCH", json={"weight": 3})
        assert (status, refused["error"]["code"]) == (409, "changed_meanwhile")
        status, _ = await ask(world, f"{path}&dry_run=true", "PATCH", json={"weight": 3})
        assert status == 409

    @pytest.mark.parametrize(
        ("order", "param"),
        [
            ({"tenant_id": "a b"}, "tenant_id"),
            ({"tenant_id": "acme", "limits": ["requests=1"]}, "limits.0"),
            ({"tenant_id": "acme", "limits": [{"what": "requests", "amount": -1}]}, "limits.0"),
            ({"tenant_id": "acme", "weight": 0}, "weight"),
            ({"tenant_id": "acme", "wieght": 1}, "wieght"),
            ({"tenant_id": "acme", "price_list": "gold"}, "price_list"),
        ],
    )
    async def test_what_is_wrong_is_named(self, world: World, order: dict[str, Any], param: str) -> None:
        status, refused = await ask(world, "tenants", "POST", json=order)
        assert (status, refused["error"]["param"]) == (400, param)

    async def test_a_dry_run_changes_nothing(self, world: World) -> None:
        status, made = await ask(world, "tenants?dry_run=true", "POST", json={"tenant_id": "acme"})
        assert (status, made["tenant_id"]) == (201, "acme")
        assert (await ask(world, "tenants/acme"))[0] == 404
        assert await acts(world) == []

    async def test_projects(self, world: World) -> None:
        await ask(world, "tenants", "POST", json={"tenant_id": "acme"})
        order = {"project": "web", "limits": ["concurrent=3"]}
        status, made = await ask(world, "tenants/acme/projects", "POST", json=order)
        assert (status, list(made["projects"])) == (201, ["web"])
        key = await made_key(world, tenant="acme", project="web")
        await ask(world, "tenants/acme/projects/web", "PATCH", json={"blocked": "a loop"})
        await until_refused(world, key["key"], "project_blocked")
        assert (await ask(world, "tenants/acme/projects/web", "DELETE"))[0] == 409
        await ask(world, f"keys/{key['key_id']}", "DELETE")
        assert (await ask(world, "tenants/acme/projects/web", "DELETE"))[0] == 200

    async def test_a_blocked_one_is_refused_and_let_in_again(self, world: World) -> None:
        await world.route(world.model("m"))
        await ask(world, "tenants", "POST", json={"tenant_id": "acme"})
        key = await made_key(world, tenant="acme")
        assert await models(world, key["key"]) == ["m"]
        await ask(world, "tenants/acme", "PATCH", json={"blocked": "not paid"})
        await until_refused(world, key["key"], "tenant_blocked")
        async with world.client() as session:
            headers = {"authorization": f"Bearer {key['key']}"}
            status, _, body = await world.chat(session, "m", headers=headers)
        assert (status, body["error"]["code"]) == (403, "tenant_blocked")
        await ask(world, "tenants/acme", "PATCH", json={"blocked": ""})

        async def let_in() -> bool:
            return bool(await models(world, key["key"]) == ["m"])

        await until_async(let_in)

    async def test_a_whole_document(self, world: World) -> None:
        document = {
            "prices": {"gold": [{"model": "*", "input_token": "2.50/1M"}]},
            "house": {"default_price_list": "gold", "webhooks": [{"url": "https://example.com/hook"}]},
            "tenants": {"acme": {"weight": 2, "projects": {"web": {"limits": ["concurrent=3"]}}}},
        }
        status, tried = await ask(world, "tenants/apply?dry_run=true", "POST", json=document)
        assert (status, tried["dry_run"]) == (200, True)
        status, done = await ask(world, "tenants/apply", "POST", json=document)
        assert [one["path"] for one in done["differences"]] == [one["path"] for one in tried["differences"]]
        assert list(done["new_secrets"]) == ["https://example.com/hook"]
        _, house = await ask(world, "house")
        assert house["house"]["webhooks"][0]["secret"] == "(secret)"
        status, again = await ask(world, "tenants/apply", "POST", json=document)
        assert (again["differences"], again["new_secrets"]) == ([], {})
        _, pruned = await ask(world, "tenants/apply?prune=true", "POST", json={"tenants": {}})
        assert {one["after"] for one in pruned["differences"]} == {None}
        assert await acts(world, act="tenant.*") == ["tenant.delete acme", "tenant.create acme"]


async def until_refused(world: World, key: str, code: str) -> None:
    async def look() -> bool:
        return bool(await models(world, key) == code)

    await until_async(look)


class TestKeys:
    async def test_what_it_may_call_is_all_that_it_sees(self, world: World) -> None:
        await world.engine("a-1")
        await world.route(world.model("org/a", "a-1", aliases=("fast",)), world.model("b"))
        key = await made_key(world, models=["org/*"], endpoints=["chat.*"])
        assert await models(world, key["key"]) == ["org/a"]
        headers = {"authorization": f"Bearer {key['key']}"}
        async with world.client() as session:
            assert (await world.chat(session, "fast", headers=headers))[0] == 200
            status, _, body = await world.chat(session, "b", headers=headers)
            assert (status, body["error"]["code"]) == (403, "model_not_allowed")
            async with session.post("/v1/embeddings", json={"model": "fast", "input": "x"}, headers=headers) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (403, "endpoint_not_allowed")
            async with session.get("/v1/models/b", headers=headers) as answer:
                assert answer.status == 404
            async with session.get("/v1/models/fast", headers=headers) as answer:
                assert answer.status == 200

    async def test_a_socket_is_no_way_around_that(self, world: World) -> None:
        await world.route(world.model("a"), world.model("b"))
        for fields in ("models", "endpoints"):
            key, code = await made_key(world, **{fields: ["a"]}), f"{fields[:-1]}_not_allowed"
            headers = {"authorization": f"Bearer {key['key']}", "connection": "upgrade", "upgrade": "websocket"}
            headers |= {"sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
            async with world.client() as session, session.get("/v1/realtime?model=b", headers=headers) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (403, code)

    async def test_rotated_both_texts_work_and_revoked_none(self, world: World) -> None:
        await world.route(world.model("m"))
        first = await made_key(world)
        status, second = await ask(world, f"keys/{first['key_id']}/rotate?overlap_s=3600", "POST")
        assert (status, second["key_id"]) == (201, first["key_id"])
        assert [await models(world, text) for text in (first["key"], second["key"])] == [["m"], ["m"]]
        await ask(world, f"keys/{first['key_id']}", "DELETE")
        for text in (first["key"], second["key"]):
            await until_refused(world, text, "invalid_api_key")

    async def test_without_overlap_the_old_text_ends_at_once(self, world: World) -> None:
        await world.route(world.model("m"))
        first = await made_key(world)
        assert await models(world, first["key"]) == ["m"]
        await ask(world, f"keys/{first['key_id']}/rotate?overlap_s=0", "POST")
        await until_refused(world, first["key"], "expired_api_key")

    async def test_an_end_in_the_past_is_an_end(self, world: World) -> None:
        key = await made_key(world, expires_unix_s=time.time() - 1)
        assert await models(world, key["key"]) == "expired_api_key"

    async def test_a_key_is_changed_while_it_is_used(self, world: World) -> None:
        await world.route(world.model("m"), world.model("n"))
        key = await made_key(world)
        assert await models(world, key["key"]) == ["m", "n"]
        status, _ = await ask(world, f"keys/{key['key_id']}", "PATCH", json={"models": ["n"]})
        assert status == 200

        async def seen() -> bool:
            return bool(await models(world, key["key"]) == ["n"])

        await until_async(seen)

    async def test_revoked_it_is_refused_although_nobody_was_told(self, world: World) -> None:
        """The word on the channel is lost: the version is looked at, twice a second."""
        await world.route(world.model("m"))
        assert await models(world, world.key) == ["m"]
        digest = hash_key(world.key)
        raw = await world.redis.hget(world.keys.api_keys, digest)
        assert raw is not None
        record = decode(raw, KeyRecord, "key")
        ended = KeyRecord(
            **{name: getattr(record, name) for name in record.__struct_fields__} | {"revoked_unix_s": 1.0}
        )
        await world.redis.hset(world.keys.api_keys, digest, encode(ended))
        await world.redis.incr(world.keys.tenancy_version)
        await until_refused(world, world.key, "invalid_api_key")


class TestScopes:
    async def test_reading_and_writing_are_apart(self, world: World) -> None:
        reader, writer = await world.make_key("reader", "admin:read"), await world.make_key("writer", "admin:write")
        caller = world.key
        assert (await ask(world, "tenants", key=caller))[0] == 403
        assert (await ask(world, "tenants", key=reader))[0] == 200
        assert (await ask(world, "tenants", "POST", key=reader, json={"tenant_id": "a"}))[0] == 403
        assert (await ask(world, "tenants?dry_run=true", "POST", key=reader, json={"tenant_id": "a"}))[0] == 201
        assert (await ask(world, "tenants?dry_run=false", "POST", key=reader, json={"tenant_id": "a"}))[0] == 403
        assert (await ask(world, "tenants", key=writer))[0] == 200
        assert (await ask(world, "tenants", "POST", key=writer, json={"tenant_id": "a"}))[0] == 201

    async def test_a_dry_run_is_none_where_the_path_knows_of_none(self, world: World) -> None:
        reader = await world.make_key("reader", "admin:read")
        for path in ("reload?dry_run=true", "recording?dry_run=true", "gpus/n/0/drain?dry_run=true"):
            status, refused = await ask(world, path, "POST", key=reader)
            assert (status, refused["error"]["code"]) == (403, "insufficient_permissions"), path
        assert await world.redis.llen(world.keys.commands) == 0


class TestHouse:
    async def test_rules_prices_and_blocks(self, world: World) -> None:
        status, changed = await ask(world, "house", "PATCH", json={"cool_down": {"failures": 5, "within_s": "1m"}})
        assert (status, changed["cool_down"]) == (200, {"failures": 5, "within_s": 60.0, "for_s": 30.0})
        lines = {"lines": [{"model": "org/*", "input_token": 0.0000025, "gpu_second": "3.60/1h"}]}
        status, prices = await ask(world, "prices/gold", "PUT", json=lines)
        assert (status, prices["default"], prices["version"]) == (200, "gold", 1)
        assert prices["data"][0]["lines"][0]["input_token"] == "0.0000025"
        assert (await ask(world, "prices/gold", "DELETE"))[1]["error"]["code"] == "price_list_in_use"
        order = {"what": "192.0.2.0/24", "reason": "miners"}
        status, blocks = await ask(world, "blocks", "POST", json=order)
        assert (status, [one["what"] for one in blocks["data"]]) == (201, ["192.0.2.0/24"])
        assert (await ask(world, "blocks/192.0.2.0/24", "DELETE"))[1]["data"] == []
        assert (await ask(world, "blocks/192.0.2.0/24", "DELETE"))[0] == 404
        assert await acts(world) == [
            "block.remove 192.0.2.0/24", "block.add 192.0.2.0/24", "prices.set gold", "house.set house",
        ]  # fmt: skip

    async def test_a_webhooks_secret_is_shown_once(self, world: World) -> None:
        order = {"url": "https://example.com/hook", "events": ["budget.*"]}
        status, made = await ask(world, "webhooks", "POST", json=order)
        secret = made["new_secrets"]["https://example.com/hook"]
        assert (status, secret.startswith("whsec_")) == (201, True)
        assert secret not in str(await ask(world, "house"))
        assert secret not in str(await ask(world, "audit"))
        _, again = await ask(world, "webhooks", "POST", json=order | {"events": ["*"]})
        assert (again["new_secrets"], again["house"]["webhooks"][0]["events"]) == ({}, ["*"])
        assert (await ask(world, "webhooks", "DELETE", params={"url": order["url"]}))[1]["webhooks"] == []

    @pytest.mark.parametrize(
        ("path", "order", "param"),
        [
            ("house", {"currency": "euro"}, "currency"),
            ("house", {"idle_charged_to": "caller"}, "idle_charged_to"),
            ("house", {"key_limits": ["requests=1/1m", "requests=2/1m"]}, "key_limits[1]"),
            ("house", {"trusted_proxies": ["me"]}, "trusted_proxies[0]"),
        ],
    )
    async def test_what_is_wrong_is_named(self, world: World, path: str, order: dict[str, Any], param: str) -> None:
        status, refused = await ask(world, path, "PATCH", json=order)
        assert (status, refused["error"]["param"]) == (400, param)


class TestAudit:
    async def test_every_act_says_who_and_from_where(self, world: World) -> None:
        await ask(world, "tenants", "POST", json={"tenant_id": "acme"})
        _, found = await ask(world, "audit")
        (act,) = found["data"]
        raw = await world.redis.hget(world.keys.api_keys, hash_key(world.admin_key))
        assert raw is not None
        assert act["by"] == decode(raw, KeyRecord, "key").key_id
        assert (act["address"], act["before"], act["after"]["tenant_id"]) == ("127.0.0.1", None, "acme")
        assert act["request_id"]

    async def test_orders_to_the_controller_are_acts_also_when_nobody_takes_them(self, world: World) -> None:
        asking = asyncio.ensure_future(ask(world, "models/m/wake?timeout_s=0.3", "POST"))
        assert (await asking)[0] == 504
        assert await acts(world) == ["model.wake.withdrawn m", "model.wake m"]
        await ask(world, "models/m/wake?timeout_s=0.1&dry_run=true", "POST")
        assert len(await acts(world)) == 2

    async def test_an_order_says_how_it_stood_and_what_was_asked(self, world: World) -> None:
        await world.redis.set(world.keys.fleet, encode(fleet()))
        async with controller(world, ok=True, message="done"):
            assert (await ask(world, "nodes/node/drain", "POST"))[0] == 200
        async with controller(world, ok=False, message="no such thing", code="model_not_found"):
            assert (await ask(world, "models/org/m/stop", "POST"))[0] == 404
        _, found = await ask(world, "audit")
        refused, stop, drain = found["data"]
        assert (drain["act"], drain["what"], drain["before"]["drained"]) == ("node.drain", "node", False)
        assert drain["after"] == {"verb": "drain", "node": "node"}
        assert (stop["act"], stop["before"]["replicas"]) == ("model.stop", {"m-1": "ready"})
        assert (refused["act"], refused["after"]) == ("model.stop.refused", "no such thing")

    async def test_it_is_read_by_who_what_and_when(self, world: World) -> None:
        for name in ("a", "b"):
            await ask(world, "tenants", "POST", json={"tenant_id": name})
        assert await acts(world, what="a") == ["tenant.create a"]
        assert await acts(world, since_unix_s=time.time() + 60) == []
        assert await acts(world, by="nobody") == []
        assert (await ask(world, "audit?limit=0"))[0] == 400
