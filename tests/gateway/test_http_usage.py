"""Usage over HTTP: who sees what, grouped and exact; GPUs' time; single requests; invoices."""

from __future__ import annotations

import csv
import io
import time
import zlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from gateway import usage_reading
from gateway.billing.anomalies import Anomaly
from gateway.billing.books import MARK_BYTES
from gateway.billing.sink import SinkStatus
from gateway.billing.sweep import State
from gateway.limits.windows import window_of
from models.store.codec import encode
from models.store.records import KeyRecord
from models.store.rollups import day_of, field, hour_of
from models.store.tenancy import NANO, HouseRecord, LimitRule, TenantRecord, What
from models.store.usage import SettledEvent
from tests.gateway.test_http_admin import ask
from tests.gateway.world import World, until_async

pytestmark = pytest.mark.anyio


async def book(world: World, at_s: float, tenant: str, project: str, key: str, model: str, **sums: int) -> None:
    """As the meter does: into the hour and the day."""
    for metric, value in sums.items():
        name = field(tenant, project, key, model, metric)
        await world.redis.hincrby(world.keys.usage_hour(hour_of(at_s)), name, value)
        await world.redis.hincrby(world.keys.usage_day(day_of(at_s)), name, value)


async def book_gpu(world: World, at_s: float, ns: int, gpu: str, use: str, model: str = "") -> None:
    name = field(gpu, use, "acme" if use == "busy" else "", "", "", model)
    await world.redis.hincrby(world.keys.gpu_hour(hour_of(at_s)), name, ns)
    await world.redis.hincrby(world.keys.gpu_day(day_of(at_s)), name, ns)


async def key_id(world: World, text: str) -> str:
    from models.store.api_keys import hash_key

    raw: Any = await world.redis.hget(world.keys.api_keys, hash_key(text))
    return msgspec.json.decode(raw, type=KeyRecord).key_id


@pytest.fixture
async def booked(world: World) -> World:
    now_s = time.time()
    await book(world, now_s, "acme", "web", "k1", "m", requests=3, prompt_tokens=30, cost=1_500_000_000)
    await book(world, now_s, "acme", "web", "k1", "n", requests=1, prompt_tokens=5, cost=1)
    await book(world, now_s, "globex", "default", "k2", "m", requests=2, errors=1, gpu_ns=7, cost=4_000_000_000)
    await book(world, now_s - 3 * 86_400, "acme", "web", "k1", "m", requests=10, cost=10)
    return world


async def test_sums_by_tenant_and_model(booked: World) -> None:
    status, found = await ask(booked, "usage?by=tenant,model&since=1h")
    assert status == 200
    assert [(row["tenant"], row["model"], row["requests"], row["cost"]) for row in found["data"]] == [
        ("acme", "m", 3, "1.50"), ("acme", "n", 1, "0.000000001"), ("globex", "m", 2, "4.00"),
    ]  # fmt: skip
    assert {row["key"] for row in found["data"]} == {None}
    assert (found["total"]["requests"], found["total"]["errors"], found["total"]["gpu_ns"]) == (6, 1, 7)
    assert found["total"]["cost"] == "5.500000001"
    assert found["currency"] == "USD"


async def test_the_total_alone_and_a_filter(booked: World) -> None:
    _, found = await ask(booked, "usage?by=&since=7d&tenant=acme")
    assert [row["requests"] for row in found["data"]] == [14]
    _, found = await ask(booked, "usage?by=key&since=7d&model=m&key=k1")
    assert [(row["key"], row["requests"]) for row in found["data"]] == [("k1", 13)]
    _, found = await ask(booked, "usage?by=key&since=7d&model=*")
    assert found["data"] == []


async def test_by_day_and_by_hour(booked: World) -> None:
    today = datetime.now(UTC)
    _, found = await ask(booked, "usage?by=tenant&bucket=day&since=7d&tenant=acme")
    assert [(row["at"], row["requests"]) for row in found["data"]] == [
        ((today - timedelta(days=3)).strftime("%Y-%m-%d"), 10), (today.strftime("%Y-%m-%d"), 4),
    ]  # fmt: skip
    _, found = await ask(booked, "usage?by=&bucket=hour&since=1h")
    assert [len(row["at"]) for row in found["data"]] == [13]
    assert found["until_unix_s"] - found["since_unix_s"] in (3600, 7200)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("by=user", "by"),
        ("since=soon", "since"),
        ("until=2020-01-01", "since"),
        ("bucket=hour&since=60d", "bucket"),
        ("bucket=week", "bucket"),
    ],
)
async def test_what_is_asked_wrongly_is_refused(world: World, query: str, param: str) -> None:
    status, found = await ask(world, f"usage?{query}")
    assert (status, found["error"]["param"]) == (400, param)


async def test_more_rows_than_anybody_reads_are_refused(booked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_reading, "MOST_ROWS", 2)
    status, found = await ask(booked, "usage?by=tenant,model&since=1h")
    assert (status, found["error"]["param"]) == (400, "by")
    assert "3 rows" in found["error"]["message"]


async def test_a_key_sees_its_own_usage_and_no_other(world: World) -> None:
    mine, now_s = await key_id(world, world.key), time.time()
    await book(world, now_s, "default", "default", mine, "m", requests=3, prompt_tokens=30, cost=1_500_000_000)
    await book(world, now_s - 86_400, "default", "default", mine, "n", requests=1, cost=1)
    await book(world, now_s, "default", "default", mine + "x", "m", requests=1000, cost=1000)
    async with world.client() as session:
        async with session.get("/v1/usage?since=7d", headers=world.headers) as answer:
            found = await answer.json()
        async with session.get("/admin/v1/usage", headers=world.headers) as refused:
            assert refused.status == 403
        async with session.get("/v1/usage") as unknown:
            assert unknown.status == 401
    assert (found["key"], found["tenant"], found["total"]["requests"]) == (mine, "default", 4)
    assert [(row["model"], row["requests"]) for row in found["by_model"]] == [("m", 3), ("n", 1)]
    assert [row["cost"] for row in found["by_day"]] == ["0.000000001", "1.50"]
    assert found["total"]["cost"] == "1.500000001"


async def test_who_asks_for_its_own_usage_all_the_time_is_told_the_same_for_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_reading, "SHORTEST_GOOD_S", 60.0)
    mine, now_s = await key_id(world, world.key), time.time()

    async def own(since: str) -> tuple[int, Any]:
        async with world.client() as session, session.get(f"/v1/usage?since={since}", headers=world.headers) as answer:
            return answer.status, await answer.json()

    await book(world, now_s - 9 * 86_400, "default", "default", mine, "m", requests=5)
    await book(world, now_s, "default", "default", mine, "m", requests=3)
    assert (await own("30d"))[1]["total"]["requests"] == 8
    await book(world, now_s, "default", "default", mine, "m", requests=100)
    assert (await own("7d"))[1]["total"]["requests"] == 3, "of what was read, the part that was asked for"
    status, refused = await own("90d")
    assert (status, refused["error"]["code"]) == (503, "unavailable")


async def test_a_key_is_told_what_its_limits_leave_but_not_what_others_used(world: World) -> None:
    mine = await key_id(world, world.key)
    budget = LimitRule(what=What.MONEY, amount=Decimal("25"), per="month")
    tenant = TenantRecord(tenant_id="default", limits=(budget,))
    await world.redis.hset(world.keys.tenants, "default", encode(tenant))
    await world.redis.incr(world.keys.tenancy_version)
    await world.redis.publish(world.keys.tenancy_channel, "1")
    month = str(window_of(budget).slot(int(time.time() * 1e6)))
    await world.redis.hset(world.keys.limit("tenant:default", budget.name), month, 10 * NANO)
    requests = HouseRecord().key_limits[0]
    now_slot = str(window_of(requests).slot(int(time.time() * 1e6)))
    await world.redis.hset(world.keys.limit(f"key:{mine}", requests.name), now_slot, 3)

    async def look() -> Any:
        async with world.client() as session, session.get("/v1/usage?since=1d", headers=world.headers) as answer:
            found = (await answer.json())["limits"]
            return found if len(found) > 2 else None

    limits = {(each["of"], each["what"]): each for each in await until_async(look)}
    assert limits["tenant", "money"] | {"resets_unix_s": None} == {
        "of": "tenant", "limit": "money=25/month", "what": "money", "per": "month", "models": "*", "hard": True,
        "amount": "25", "used": None, "remaining": "15", "resets_unix_s": None,
    }  # fmt: skip
    of_key = limits["key", "requests"]
    assert (of_key["used"], of_key["remaining"], of_key["amount"]) == ("3", "9999997", "10000000")


async def test_gpu_time_is_all_there_by_use(world: World) -> None:
    now_s = time.time()
    for use, ns in (("busy", 5), ("idle", 7), ("free", 11), ("starting", 13)):
        await book_gpu(world, now_s, ns, "vm/0", use, "m" if use != "free" else "")
    await book_gpu(world, now_s, 36, "vm/1", "free")
    _, found = await ask(world, "usage/gpus?by=gpu&since=1h")
    assert found["total_ns"] == {"busy": 5, "idle": 7, "free": 47, "starting": 13}
    assert [(row["gpu"], row["use"], row["ns"]) for row in found["data"]] == [
        ("vm/0", "busy", 5), ("vm/0", "free", 11), ("vm/0", "idle", 7), ("vm/0", "starting", 13), ("vm/1", "free", 36),
    ]  # fmt: skip
    _, found = await ask(world, "usage/gpus?by=tenant&since=1h&model=m")
    assert {(row["tenant"], row["use"]): row["ns"] for row in found["data"]} == {
        ("acme", "busy"): 5, ("", "idle"): 7, ("", "starting"): 13,
    }  # fmt: skip


def settled(number: int, **changes: Any) -> SettledEvent:
    given: dict[str, Any] = {
        "id": f"r{number}", "started_us": number, "ended_us": number + 1, "key_id": "k1", "project": "web",
        "tenant": "acme", "model": "m", "endpoint": "chat.completions", "status": 200, "cost": number,
        "currency": "EUR", "lines": {"request": number},
    }  # fmt: skip
    return SettledEvent(**{**given, **changes})


async def test_single_requests_newest_first_page_by_page(world: World) -> None:
    for number in range(7):
        event = settled(number, tenant="acme" if number % 2 else "globex")
        await world.redis.xadd(world.keys.usage_settled, {"e": encode(event)})
    await world.redis.xadd(world.keys.usage_settled, {"e": b"nonsense"})
    _, first = await ask(world, "usage/requests?limit=4")
    assert [each["id"] for each in first["data"]] == ["r6", "r5", "r4", "r3"]
    assert (first["data"][0]["amount"], first["data"][0]["lines"]) == ("0.000000006", {"request": 6})
    _, rest = await ask(world, f"usage/requests?limit=4&before={first['next_before']}")
    assert [each["id"] for each in rest["data"]] == ["r2", "r1", "r0"]
    assert rest["next_before"] is None
    _, odd = await ask(world, "usage/requests?tenant=acme")
    assert [each["id"] for each in odd["data"]] == ["r5", "r3", "r1"]
    _, one = await ask(world, "usage/requests?id=r2")
    assert [each["id"] for each in one["data"]] == ["r2"]


async def month_of_acme(world: World) -> None:
    at_s = datetime(2026, 10, 5, 12, tzinfo=UTC).timestamp()
    await book(world, at_s, "acme", "web", "k1", "m", requests=3, prompt_tokens=30, cost=1_499_999_999)
    await book(world, at_s + 86_400, "acme", "web", "k1", "m", requests=1, cost=5_000_001)
    await book(world, at_s + 40 * 86_400, "acme", "web", "k1", "m", requests=1, cost=10**12)
    await book(world, at_s, "globex", "web", "k1", "m", requests=1, cost=10**12)
    tenant = TenantRecord(tenant_id="acme", name="Acme Rail")
    await world.redis.hset(world.keys.tenants, "acme", encode(tenant))
    await world.redis.set(world.keys.house, encode(HouseRecord(currency="EUR")))


async def test_an_invoice_as_json_csv_and_page(world: World) -> None:
    await month_of_acme(world)
    status, found = await ask(world, "invoices/acme/2026-10")
    assert status == 200
    assert (found["total"], found["amount_due"], found["currency"]) == ("1.505", "1.50", "EUR")
    assert (found["name"], found["number"], found["final"]) == ("Acme Rail", "2026-10-acme", False)
    assert [(line["model"], line["requests"], line["amount"]) for line in found["lines"]] == [("m", 4, "1.505")]
    async with world.client() as session:
        path = "/admin/v1/invoices/acme/2026-10"
        async with session.get(path, params={"format": "csv"}, headers=world.admin_headers) as answer:
            rows = list(csv.DictReader(io.StringIO(await answer.text(), newline="")))
            assert answer.content_type == "text/csv"
        async with session.get(path, params={"format": "html"}, headers=world.admin_headers) as answer:
            page = await answer.text()
            assert answer.content_type == "text/html"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert sum(Decimal(row["amount"]) for row in rows) == Decimal("1.505")
    assert "1.50 EUR" in page


async def test_a_month_is_final_once_it_is_over_and_settled(world: World) -> None:
    await month_of_acme(world)
    end_us = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * 10**6
    for until_us, final in ((end_us, False), (end_us + 2 * 3600 * 10**6, True)):
        state = zlib.compress(msgspec.msgpack.encode(State(until_us=until_us)))
        await world.redis.set(world.keys.usage_settling, b"m" * MARK_BYTES + state)
        assert (await ask(world, "invoices/acme/2026-10"))[1]["final"] is final
        assert (await ask(world, "usage"))[1]["settled_until_unix_s"] == until_us / 1e6


async def test_no_invoice_for_nobody_or_no_month(world: World) -> None:
    status, found = await ask(world, "invoices/nobody/2026-10")
    assert (status, found["error"]["code"]) == (404, "tenant_not_found")
    status, found = await ask(world, "invoices/acme/october")
    assert (status, found["error"]["param"]) == (400, "month")
    status, found = await ask(world, "invoices/default/2026-10")
    assert (status, found["total"], found["lines"]) == (200, "0.00", [])


async def test_who_used_unusually_much_is_shown_for_a_day(booked: World) -> None:
    hour = int(time.time()) // 3600 * 3600
    for key, at in (("k1", hour), ("k2", hour - 30 * 3600)):
        seen = Anomaly(key_id=key, tenant="acme", project="web", metric="requests", hour=at, used=900, usual=30)
        await booked.redis.hset(booked.keys.usage_anomalies, key, encode(seen))
    _, found = await ask(booked, "usage")
    assert [(each["key"], each["times"]) for each in found["anomalies"]] == [("k1", 30)]
    assert (await ask(booked, "usage?tenant=globex"))[1]["anomalies"] == []


async def test_what_cannot_be_read_is_said(world: World) -> None:
    await world.redis.set(world.keys.house, b"nonsense")
    status, found = await ask(world, "usage")
    assert (status, found["error"]["code"]) == (503, "store_unavailable")
    assert "roundhouse doctor" in found["error"]["message"]


async def test_only_so_many_ask_at_once(booked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_reading, "MOST_WAITING", 0)
    status, found = await ask(booked, "usage")
    assert (status, found["error"]["code"]) == (503, "unavailable")


async def test_status_says_what_operators_should_see_to(world: World) -> None:
    assert (await ask(world, "status"))[1]["problems"] == []
    hour = int(time.time()) // 3600 * 3600
    seen = Anomaly(key_id="k1", tenant="acme", project="web", metric="tokens", hour=hour, used=900_000, usual=300)
    await world.redis.hset(world.keys.usage_anomalies, "k1", encode(seen))
    copied = SinkStatus(at_unix_s=1.0, position="5-1", behind_s=70.2, problem="connection refused", gaps=1)
    await world.redis.set(world.keys.usage_sink, encode(copied))
    unusual, copy, gap = (await ask(world, "status"))[1]["problems"]
    assert "key k1 of tenant acme used 900,000 tokens" in unusual
    assert copy == "the copy of settled requests in PostgreSQL is 70 s behind: connection refused"
    assert "sink_gaps" in gap
    await world.redis.set(world.keys.usage_sink, b"nonsense")
    status, found = await ask(world, "status")
    assert (status, found["problems"]) == (200, [])
