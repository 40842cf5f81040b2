"""OpenAI's own SDK reads usage and costs here."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from openai import OpenAI

from tests.gateway.test_http_admin import ask
from tests.gateway.test_http_usage import book
from tests.gateway.world import World

pytestmark = pytest.mark.anyio
DAY_S = 86_400


@pytest.fixture
async def booked(world: World) -> World:
    now_s = time.time()
    used = {"prompt_tokens": 30, "cached_tokens": 10, "completion_tokens": 5}
    await book(world, now_s, "acme", "web", "k1", "m", requests=3, cost=1_500_000_000, **used)
    await book(world, now_s, "acme", "app", "k2", "n", requests=1, cost=250_000_000)
    await book(world, now_s, "globex", "web", "k3", "m", requests=9, cost=10**9)
    await book(world, now_s - 2 * DAY_S, "acme", "web", "k1", "m", requests=7, cost=10**9)
    return world


async def asked(world: World, what: str, **given: Any) -> Any:
    """By the SDK."""

    def call() -> Any:
        url = f"{world.url}/admin/v1"
        with OpenAI(base_url=url, api_key=world.key, admin_api_key=world.admin_key, max_retries=0) as client:
            usage = client.admin.organization.usage
            start = given.pop("start_time", int(time.time()) - 2 * DAY_S)
            return getattr(usage, what)(start_time=start, **given)

    return await asyncio.to_thread(call)


async def test_usage_by_day_project_and_model(booked: World) -> None:
    page = await asked(booked, "completions", group_by=["project_id", "model"])
    assert [bucket.end_time - bucket.start_time for bucket in page.data] == [DAY_S] * 3
    first, between, today = (bucket.results for bucket in page.data)
    assert between == []
    assert [(one.project_id, one.model, one.num_model_requests) for one in first] == [("acme/web", "m", 7)]
    assert [(one.project_id, one.model, one.num_model_requests) for one in today] == [
        ("acme/app", "n", 1), ("acme/web", "m", 3), ("globex/web", "m", 9),
    ]  # fmt: skip
    assert (today[1].input_tokens, today[1].input_cached_tokens, today[1].output_tokens) == (30, 10, 5)
    assert (page.has_more, page.next_page) == (False, None)


async def test_only_what_was_meant(booked: World) -> None:
    page = await asked(booked, "completions", project_ids=["acme/web", "globex/app"], models=["m"])
    assert [one.num_model_requests for bucket in page.data for one in bucket.results] == [7, 3]
    page = await asked(booked, "completions", api_key_ids=["k2", "k3"], group_by=["api_key_id"])
    assert [(one.api_key_id, one.num_model_requests) for one in page.data[-1].results] == [("k2", 1), ("k3", 9)]
    page = await asked(booked, "completions", bucket_width="1h", start_time=int(time.time()) - 3600, limit=168)
    assert sum(one.num_model_requests for bucket in page.data for one in bucket.results) == 13
    assert page.data[0].end_time - page.data[0].start_time == 3600


async def test_page_by_page(booked: World) -> None:
    seen, page = [], await asked(booked, "completions", limit=1)
    while page.has_more:
        seen += page.data
        page = await asked(booked, "completions", limit=1, page=page.next_page)
    seen += page.data
    assert [len(bucket.results) for bucket in seen] == [1, 0, 1]
    assert len({bucket.start_time for bucket in seen}) == 3


async def test_costs(booked: World) -> None:
    page = await asked(booked, "costs", group_by=["line_item"])
    today = page.data[-1].results
    assert [(one.line_item, one.amount.value, one.amount.currency) for one in today] == [
        ("m", 2.5, "usd"), ("n", 0.25, "usd"),
    ]  # fmt: skip
    everything = await asked(booked, "costs", project_ids=["acme/web"])
    assert [one.amount.value for bucket in everything.data for one in bucket.results] == [1.0, 1.5]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("usage/completions", "start_time"),
        ("usage/completions?start_time=99999999999", "start_time"),
        ("usage/completions?start_time=1795000000&group_by=user_id", "group_by"),
        ("usage/completions?start_time=1700000000&bucket_width=1h", "bucket_width"),
        ("costs?start_time=1795000000&bucket_width=1h", "bucket_width"),
        ("costs?start_time=1795000000&page=x", "page"),
    ],
)
async def test_what_is_asked_wrongly_is_refused(world: World, query: str, param: str) -> None:
    status, found = await ask(world, f"organization/{query}")
    assert (status, found["error"]["param"]) == (400, param)


async def test_it_takes_an_admin_key(world: World) -> None:
    path = "/admin/v1/organization/costs?start_time=1795000000"
    async with world.client() as session, session.get(path, headers=world.headers) as refused:
        assert refused.status == 403
