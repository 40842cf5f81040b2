"""The admin API around models that are kept warm; the test plays the controller."""

from __future__ import annotations

import msgspec
import pytest

from models.store.codec import encode
from models.store.records import WarmRecord
from tests.gateway.test_http_admin import ask, card, fleet
from tests.gateway.test_http_packing import controller
from tests.gateway.world import World

pytestmark = pytest.mark.anyio


@pytest.fixture
async def ruled(world: World) -> World:
    kept = WarmRecord(
        model_id="n", by="schedule", asked=1, replicas=1, from_unix_s=1.0, until_unix_s=2.0, state="planned"
    )
    await world.redis.set(world.keys.fleet, encode(msgspec.structs.replace(fleet(), warm=(kept,))))
    await world.redis.set(world.keys.catalog, encode((card("org/m", "alias"), card("n"))))
    return world


async def test_what_is_kept_warm_is_what_the_controller_wrote(ruled: World) -> None:
    status, found = await ask(ruled, "warm")
    assert status == 200
    assert [(one["model_id"], one["state"], one["until_unix_s"]) for one in found["data"]] == [("n", "planned", 2.0)]


async def test_an_order_reaches_the_controller_whole(ruled: World) -> None:
    async with controller(ruled) as taken:
        status, reply = await ask(
            ruled, "models/org/m/warm?replicas=2&until_unix_s=4000000000.5&wait=true&timeout_s=5", "POST"
        )
    assert (status, reply["message"]) == (200, "done")
    (command,) = taken
    assert (command.verb, command.model_id, command.replicas) == ("warm", "org/m", 2)
    assert (command.until_unix_s, command.wait, command.dry_run) == (4000000000.5, True, False)


async def test_a_dry_run_says_what_would_be_done_at_once(ruled: World) -> None:
    """m does not fit beside n, which is busy."""
    async with controller(ruled, detail={"replicas": 1}) as taken:
        status, reply = await ask(ruled, "models/alias/warm?replicas=1&dry_run=true", "POST")
        await ask(ruled, "models/alias/warm?replicas=0&dry_run=true", "POST")
    assert status == 200
    verbs = [(command.verb, command.dry_run) for command in taken]
    assert verbs == [("warm", True), ("snapshot", False), ("warm", True)], "nothing to work out for calling it off"
    (action,) = reply["detail"]["actions"]
    assert (action["action"], action["model_id"]) == ("hold", "org/m")
    assert "n (busy)" in action["reason"]


@pytest.mark.parametrize("wrong", ["replicas=-1", "replicas=x", "until_unix_s=0", "until_unix_s=nan", "timeout_s=601"])
async def test_what_cannot_be_is_refused_before_it_is_sent(ruled: World, wrong: str) -> None:
    async with controller(ruled) as taken:
        status, refused = await ask(ruled, f"models/n/warm?{wrong}", "POST")
    assert (status, refused["error"]["type"]) == (400, "invalid_request_error")
    assert taken == []


@pytest.mark.parametrize(
    ("code", "expected"), [("model_not_found", 404), ("invalid_request", 400), ("scheduled", 409), ("kept_warm", 409)]
)
async def test_refusals_have_the_status_that_fits(ruled: World, code: str, expected: int) -> None:
    async with controller(ruled, ok=False, code=code, message="no"):
        status, refused = await ask(ruled, "models/n/warm", "POST")
    assert (status, refused["error"]["code"]) == (expected, code)
