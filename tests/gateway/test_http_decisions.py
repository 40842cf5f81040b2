"""The admin API's decisions: with their outcomes, in both directions, and as they come."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gateway import decision_stream
from models.store.codec import encode
from models.store.records import DecisionRecord
from tests.gateway.test_http_admin import ask
from tests.gateway.world import World

pytestmark = pytest.mark.anyio


async def write(world: World, key: str, action: str = "start", of: str | None = None, **more: Any) -> str:
    details = {"took_s": 0.28} if of else {"estimate_s": 0.3} if action == "start" else {}
    given = {"model_id": "m", "replica_id": "m-1", "gpu": "node/0", "details": details, **more}
    record = DecisionRecord(id=key, key=key, of=of, at_unix_s=1.0, snapshot_id="1", action=action, **given)
    stored: Any = await world.redis.xadd(world.keys.decisions, {"d": encode(record)})
    return str(stored.decode())


def keys(body: Any) -> list[str]:
    return [each["key"] for each in body["data"]]


async def test_a_decision_is_put_together_with_its_outcome(world: World) -> None:
    await write(world, "k1")
    stored = await write(world, "k2", "ready", of="k1", reason="ready after 0.28 s")
    _, body = await ask(world, "decisions")
    ready, start = body["data"]
    assert start["outcome"] == {
        "id": stored, "action": "ready", "at_unix_s": 1.0, "took_s": 0.28, "reason": "ready after 0.28 s",
    }  # fmt: skip
    assert (ready["outcome"], ready["of"]) == (None, "k1")
    assert body["next_after"] == stored


async def test_also_when_the_outcome_is_on_a_newer_page(world: World) -> None:
    await write(world, "k1")
    for number in range(3):
        await write(world, f"other{number}", "hold")
    await write(world, "k2", "ready", of="k1")
    _, newest = await ask(world, "decisions?limit=2")
    _, older = await ask(world, f"decisions?limit=9&before={newest['next_before']}")
    assert keys(older) == ["other1", "other0", "k1"]
    assert older["data"][-1]["outcome"]["took_s"] == 0.28


async def test_what_is_still_under_way_and_records_of_an_older_version_have_none(world: World) -> None:
    await write(world, "k1")
    await write(world, "", "start", details={})
    _, body = await ask(world, "decisions")
    assert [each["outcome"] for each in body["data"]] == [None, None]


async def test_a_model_also_has_the_decisions_that_were_made_for_its_sake(world: World) -> None:
    await write(world, "k1")
    await write(world, "k2", "sleep", model_id="n", replica_id="n-1", evicted_for="m")
    await write(world, "k3", "sleep", model_id="n", replica_id="n-2", gpu="node/1")
    assert keys((await ask(world, "decisions?model=m"))[1]) == ["k2", "k1"]
    assert keys((await ask(world, "decisions?model=n"))[1]) == ["k3", "k2"]
    assert keys((await ask(world, "decisions?replica=n-1"))[1]) == ["k2"]
    assert keys((await ask(world, "decisions?gpu=node/1"))[1]) == ["k3"]


async def test_later_than_an_id_the_oldest_first_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_stream, "PAGE", 3)
    first = await write(world, "k0")
    for number in range(1, 8):
        await write(world, f"k{number}", model_id="m" if number % 2 else "n")
    seen, after = [], first
    while True:
        _, body = await ask(world, f"decisions?after={after}&limit=2&model=m")
        if not body["data"]:
            break
        seen += keys(body)
        after = body["next_after"]
    assert seen == ["k1", "k3", "k5", "k7"]
    _, all_of_them = await ask(world, "decisions?after=0-0&limit=1000")
    assert keys(all_of_them) == [f"k{number}" for number in range(8)]


async def test_whoever_waits_is_answered_as_soon_as_something_is_decided(world: World) -> None:
    first = await write(world, "k1")
    waiting = asyncio.ensure_future(ask(world, f"decisions?after={first}&wait_s=30&model=m"))
    await asyncio.sleep(0)
    await write(world, "k2", model_id="somebody-else")
    await write(world, "k3")
    begun_s = time.monotonic()
    status, body = await waiting
    assert (status, keys(body)) == (200, ["k3"])
    assert time.monotonic() - begun_s < 25, "not only when its time was over"


async def test_whoever_waits_in_vain_is_told_where_to_go_on(world: World) -> None:
    await write(world, "k1")
    other = await write(world, "k2", model_id="n")
    _, body = await ask(world, "decisions?after=0-0&wait_s=0.05&model=nobody")
    assert (body["data"], body["next_after"]) == ([], other)


async def test_a_worker_that_is_told_to_end_lets_its_followers_go(world: World) -> None:
    waiting = asyncio.ensure_future(ask(world, "decisions?after=0-0&wait_s=30"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    begun_s = time.monotonic()
    await world.stop()
    status, body = await waiting
    assert (status, body["data"]) == (200, [])
    assert time.monotonic() - begun_s < 20


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("after=now", "after"),
        ("after=1-0&before=2-0", "after"),
        ("wait_s=5", "wait_s"),
        ("after=1-0&wait_s=31", "wait_s"),
        ("after=1-0&wait_s=-1", "wait_s"),
        ("limit=1001", "limit"),
    ],
)
async def test_what_is_asked_wrongly_names_the_field(world: World, query: str, param: str) -> None:
    status, body = await ask(world, f"decisions?{query}")
    assert (status, body["error"]["type"], body["error"]["param"]) == (400, "invalid_request_error", param)


async def test_an_eviction_for_a_models_sake_is_shown_with_how_it_came_out(world: World) -> None:
    """The outcome is noted of the model that left, not of the one that it left for."""
    details = {"estimate_s": 0.3}
    await write(world, "k1", "sleep", model_id="n", replica_id="n-1", evicted_for="m", details=details)
    await write(world, "k2", "asleep", of="k1", model_id="n", replica_id="n-1")
    await write(world, "k3", "hold")
    _, body = await ask(world, "decisions?model=m")
    shown = {each["key"]: each["outcome"] for each in body["data"]}
    assert shown["k1"] is not None
    assert shown["k1"]["action"] == "asleep"
