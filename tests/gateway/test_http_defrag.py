"""The admin API's defragmentation: orders reach the controller whole, and its record is shown."""

from __future__ import annotations

import msgspec
import pytest

from models.store.codec import encode
from models.store.records import DefragRecord, MoveRecord
from tests.gateway.test_http_admin import ask, controller, fleet
from tests.gateway.world import World

pytestmark = pytest.mark.anyio

MOVE = MoveRecord(
    replica_id="m-1", model_id="m", substitute="m-2", source="node/0", target="node/1", state="starting",
    moved_bytes=5, gain_gpus=0.5, cost_gpu_s=1.0, began_unix_s=2.0,
)  # fmt: skip
RUN = DefragRecord(
    id="r", state="running", began_unix_s=1.0, wanted=3, at_once=1, planned=2, gain_gpus=0.5, empty_gpus_before=0,
    largest_free_bytes_before=7, moves=(MOVE,),
)  # fmt: skip


async def test_an_order_says_how_many_and_whether_it_is_meant(world: World) -> None:
    detail = {"moves": [], "gain_gpus": 0.0}
    async with controller(world, detail=detail) as taken:
        status, body = await ask(world, "defrag?moves=3&wait=true", "POST")
        await ask(world, "defrag?dry_run=true&wait=true", "POST")
        await ask(world, "defrag/abort", "POST")
        await ask(world, "defrag/abort?dry_run=true", "POST")
    assert (status, body["detail"]) == (200, detail)
    assert [(each.verb, each.moves, each.dry_run, each.wait) for each in taken] == [
        ("defrag", 3, False, True),
        ("defrag", None, True, False),
        ("defrag-abort", None, False, False),
        ("defrag-abort", None, True, False),
    ]


async def test_how_far_it_is(world: World) -> None:
    await world.redis.set(world.keys.fleet, encode(fleet()))
    assert await ask(world, "defrag") == (200, {"object": "defrag", "run": None})
    await world.redis.set(world.keys.fleet, encode(msgspec.structs.replace(fleet(), defrag=RUN)))
    status, body = await ask(world, "defrag")
    assert (status, body["run"]["state"]) == (200, "running")
    (move,) = body["run"]["moves"]
    assert (move["replica_id"], move["substitute"], move["took_s"]) == ("m-1", "m-2", None)


@pytest.mark.parametrize(("code", "status"), [("busy", 409), ("no_defrag", 409), ("invalid_request", 400)])
async def test_what_the_controller_refuses_is_an_error(world: World, code: str, status: int) -> None:
    async with controller(world, ok=False, code=code, message="one is going on"):
        got, body = await ask(world, "defrag", "POST")
    assert (got, body["error"]["code"]) == (status, code)


@pytest.mark.parametrize("query", ["moves=0", "moves=1001", "moves=many", "timeout_s=0"])
async def test_what_is_asked_wrongly_names_the_field(world: World, query: str) -> None:
    status, body = await ask(world, f"defrag?{query}", "POST")
    assert (status, body["error"]["param"]) == (400, query.partition("=")[0])


async def test_callers_of_models_may_not(world: World) -> None:
    async with (
        world.client() as session,
        session.post("/admin/v1/defrag", headers=world.headers) as answer,
    ):
        assert answer.status == 403
