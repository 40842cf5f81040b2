"""The story of an operator with the real command, real engines and the OpenAI SDK: tenants, limits, prices, bills."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest

from models.store.client import connect
from models.store.keys import Keys
from models.store.tenancy import NANO
from models.store.usage import SecondOfGpus, SettledEvent, Use
from tests.e2e.service import Service, until

MODEL = "tiny-llama"
SIX = [f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")]
KEYS = Keys()


class Operator:
    """Makes tenants and their keys, and knows how to undo it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.tenants: list[str] = []
        self.texts: list[str] = []
        self.ids: list[str] = []

    def tenant(self, name: str, *words: str) -> str:
        self.service.json("tenants", "create", name, *words)
        self.tenants.append(name)
        return name

    def key(self, tenant: str, *words: str, name: str = "app") -> str:
        made = self.service.json("keys", "create", name, "--tenant", tenant, *words)
        self.texts.append(made["key"])
        self.ids.append(made["key_id"])
        return str(made["key"])

    def client(self, key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.service.url}/v1", api_key=key, max_retries=0)

    def ask(self, key: str, **fields: Any) -> httpx.Response:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4} | fields
        return httpx.post(
            f"{self.service.url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}, timeout=60
        )

    def get(self, key: str, path: str) -> Any:
        answer = httpx.get(f"{self.service.url}{path}", headers={"authorization": f"Bearer {key}"}, timeout=60)
        return answer.raise_for_status().json()

    def events(self, tenant: str) -> list[SettledEvent]:
        with connect(f"unix://{self.service.home}/run/redis.sock") as redis:
            found: Any = redis.xrange(KEYS.usage_settled)
        events = [msgspec.json.decode(fields[b"e"], type=SettledEvent) for _, fields in found]
        return [event for event in events if event.tenant == tenant]

    def settled(self, tenant: str, count: int) -> list[SettledEvent]:
        until(lambda: len(self.events(tenant)) >= count)
        events = self.events(tenant)
        assert len(events) == len({event.id for event in events}) == count
        return events

    def leave(self) -> None:
        with self.service.http(admin=True) as client:
            for key_id in self.ids:
                assert client.delete(f"/admin/v1/keys/{key_id}").status_code in (200, 409), "some are revoked already"
            for tenant in self.tenants:
                client.delete(f"/admin/v1/tenants/{tenant}").raise_for_status()


@pytest.fixture
def operator(service: Service) -> Iterator[Operator]:
    acting = Operator(service)
    yield acting
    acting.leave()


@pytest.fixture
def prices(service: Service) -> str:
    service.run(
        "prices", "set", "e2e", "*", "--input", "2/1M", "--output", "7/1M", "--gpu-second", "0.001",
        "--gib-second", "0.0000131", "--request", "0.0001",
    )  # fmt: skip
    return "e2e"


def ask_sdk(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": "hello"}], max_tokens=4, **fields
    )


def test_limits_are_told_and_kept(operator: Operator) -> None:
    tenant = operator.tenant("e2e-limits")
    key = operator.key(tenant, "--limit", "requests=4/1h", "--limit", "tokens=100000/1h")
    left = []
    for _ in range(4):
        raw = ask_sdk(operator.client(key))
        assert [name for name in SIX if name not in raw.headers] == []
        assert raw.headers["x-ratelimit-limit-requests"] == "4"
        left.append(int(raw.headers["x-ratelimit-remaining-requests"]))
        assert raw.parse().usage.completion_tokens == 4
    assert left == [3, 2, 1, 0]
    with pytest.raises(openai.RateLimitError) as caught:
        ask_sdk(operator.client(key))
    error = caught.value
    assert (error.status_code, error.code, error.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert int(error.response.headers["retry-after"]) > 0
    assert [name for name in SIX if name not in error.response.headers] == []
    assert error.request_id


def test_a_refused_request_costs_nothing(operator: Operator, prices: str) -> None:
    """By its engine, by the gateway; neither tokens nor money, and the reservation comes back."""
    tenant = operator.tenant("e2e-refunds", "--prices", prices)
    key = operator.key(tenant, "--limit", "tokens=1000/day", "--limit", "money=1/day")
    assert operator.ask(key, temperature=-7).status_code == 400
    assert operator.ask(key, model="nobody-has-this").status_code == 404
    answered = operator.ask(key, max_tokens=5).json()["usage"]
    events = operator.settled(tenant, 3)
    assert sorted(event.completion_tokens for event in events) == [0, 0, 5]

    def tokens_left() -> bool:
        limits = {one["what"]: one for one in operator.get(key, "/v1/usage")["limits"]}
        return Decimal(limits["tokens"]["used"]) == int(answered["total_tokens"])

    until(tokens_left)


def test_a_hard_budget_in_money_is_never_overspent(operator: Operator, prices: str) -> None:
    tenant = operator.tenant("e2e-budget", "--prices", prices)
    budget = Decimal("0.002")
    key = operator.key(tenant, "--limit", f"money={budget}/month")
    answers = [operator.ask(key) for _ in range(15)]
    refused = [one for one in answers if one.status_code == 429]
    assert refused, "it is too little for all of them"
    assert [one.status_code for one in answers] == [200] * (15 - len(refused)) + [429] * len(refused)
    assert answers[0].status_code == 200
    error = refused[0].json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "budget_exceeded")
    assert operator.ask(key, max_tokens=800).json()["error"]["code"] == "budget_exceeded"
    spent = sum(event.cost for event in operator.settled(tenant, 16))
    assert 0 < spent <= int(budget * NANO)


def test_usage_is_one_s_own_and_bills_add_up(operator: Operator, service: Service, prices: str) -> None:
    tenant, other = operator.tenant("e2e-bills", "--prices", prices), operator.tenant("e2e-other")
    key, strange = operator.key(tenant), operator.key(other)
    seen = Counter[str]()
    for number in range(6):
        usage = operator.ask(key, max_tokens=2 + number).json()["usage"]
        seen.update({name: usage[name] for name in ("prompt_tokens", "completion_tokens")})
    events = operator.settled(tenant, 6)
    cost = sum(event.cost for event in events)
    assert all(event.cost == sum(event.lines.values()) > 0 for event in events)

    own = operator.get(key, "/v1/usage")
    assert (own["tenant"], own["total"]["requests"]) == (tenant, 6)
    assert {name: own["total"][name] for name in seen} == dict(seen)
    assert Decimal(own["total"]["cost"]) * NANO == cost
    assert [row["model"] for row in own["by_model"]] == [MODEL]
    stranger = operator.get(strange, "/v1/usage")
    assert stranger["total"]["requests"] == 0
    assert key not in json.dumps(stranger)
    assert tenant not in json.dumps(stranger)
    with pytest.raises(httpx.HTTPStatusError):
        operator.get(strange, "/admin/v1/usage")

    by_admin = service.admin("usage?by=tenant,model")
    (row,) = [one for one in by_admin["data"] if one["tenant"] == tenant]
    assert (row["model"], row["requests"]) == (MODEL, 6)
    assert Decimal(row["cost"]) * NANO == cost
    by_command = service.json("usage", "--by", "tenant,model", "--since", "7d")
    assert [one for one in by_command["data"] if one["tenant"] == tenant] == [row]

    month = datetime.now(UTC).strftime("%Y-%m")
    invoice = service.json("invoice", tenant, month)
    assert sum(Decimal(line["amount"]) for line in invoice["lines"]) * NANO == cost == Decimal(invoice["total"]) * NANO
    assert service.json("invoice", other, month)["lines"] == []


def test_keys_are_rotated_revoked_and_told_of(operator: Operator, service: Service) -> None:
    tenant = operator.tenant("e2e-keys")
    key = operator.key(tenant)
    key_id = operator.ids[-1]
    assert operator.ask(key).status_code == 200
    second = service.json("keys", "rotate", key_id, "--overlap", "24h")["key"]
    operator.texts.append(second)
    assert [operator.ask(one).status_code for one in (key, second)] == [200, 200]
    service.run("keys", "revoke", key_id)
    begun_s = time.monotonic()
    until(lambda: [operator.ask(one).status_code for one in (key, second)] == [401, 401], every_s=0.0)
    assert time.monotonic() - begun_s < 1.5, "promised: a second"
    acts = service.json("audit", "--what", key_id)["data"]
    # Texts that end are acts of their own; an overlap is one from the beginning.
    assert {one["act"] for one in acts} == {"key.revoke", "key.expire", "key.rotate", "key.create"}
    assert (acts[0]["act"], acts[-1]["act"]) == ("key.revoke", "key.create")
    assert acts[0]["before"] != acts[0]["after"]
    with service.http(admin=True) as client:
        told = [client.get("/metrics").content]
    told += [path.read_bytes() for path in service.home.rglob("*") if path.is_file() and path.stat().st_size < 1 << 22]
    told += [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.is_file()]
    for text in operator.texts:
        assert not [part[:80] for part in told if text.encode() in part]


def test_gpu_time_adds_up_to_the_wall_clock(operator: Operator, service: Service, prices: str) -> None:
    """Through a start, idle time, a sleep, a wake and requests: each second of two GPUs is accounted for."""
    tenant = operator.tenant("e2e-seconds", "--prices", prices)
    key = operator.key(tenant)
    service.order(MODEL, "stop")
    begun_s = int(time.time()) + 1
    until(lambda: time.time() >= begun_s)
    operator.ask(key, max_tokens=200)
    service.order(MODEL, "sleep")
    for _ in range(3):
        operator.ask(key, max_tokens=100)
    until(lambda: time.time() >= begun_s + 4)
    ended_s = int(time.time()) + 1
    events = operator.settled(tenant, 4)
    with connect(f"unix://{service.home}/run/redis.sock") as redis:
        until(lambda: last_second(redis) >= ended_s)
        seconds = [one for one in all_seconds(redis) if begun_s <= one.at_unix_s < ended_s]
    assert [one.at_unix_s for one in seconds] == list(range(begun_s, ended_s))
    assert {sum(row[-1] for row in one.rows) for one in seconds} == {2 * 10**9}
    uses = Counter[str]()
    for second in seconds:
        for row in second.rows:
            uses[row[1]] += row[-1]
    assert all(uses[use] > 0 for use in (Use.BUSY, Use.IDLE, Use.STARTING, Use.FREE))
    busy = sum(row[-1] for one in seconds for row in one.rows if row[1] == Use.BUSY and row[2] == tenant)
    assert busy == sum(event.gpu_ns for event in events)
    starts = sum(event.start_gpu_ns for event in events)
    charged = [one["ns"] for one in service.admin("usage/gpus?by=use,tenant")["data"] if one["tenant"] == tenant]
    assert sorted(charged) == sorted([starts, busy]), "and nothing else"
    assert starts > 0, "the first of them waited for one"


def all_seconds(redis: Any) -> list[SecondOfGpus]:
    return [msgspec.json.decode(fields[b"g"], type=SecondOfGpus) for _, fields in redis.xrange(KEYS.gpu_seconds)]


def last_second(redis: Any) -> int:
    found = redis.xrevrange(KEYS.gpu_seconds, count=1)
    return msgspec.json.decode(found[0][1][b"g"], type=SecondOfGpus).at_unix_s if found else 0
