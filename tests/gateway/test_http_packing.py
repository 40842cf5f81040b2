"""The admin API around the packer; the test plays the controller with its own code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from gateway import packing_api
from gateway.ending import end
from models.control.recording import Arrivals, Header, Step, encode_line, read_lines
from models.control.store import RedisControlStore
from models.store.codec import encode
from models.store.records import Command, CommandReply
from packers.decide import Policies, decide
from packers.types import (
    Demand,
    Footprint,
    Gpu,
    GpuId,
    Model,
    ModelId,
    Node,
    NodeId,
    Replica,
    ReplicaId,
    ReplicaState,
    Snapshot,
)
from tests.gateway.test_http_admin import ask, card
from tests.gateway.world import World

pytestmark = pytest.mark.anyio


def step() -> Step:
    """n serves somebody on the only GPU, m is nowhere and does not fit beside it."""
    gpu, node = GpuId("node/0"), NodeId("node")
    footprint = Footprint(60, 0, 0, host_bytes=60)
    snapshot = Snapshot(
        id="12",
        now_s=1000.0,
        gpus=(Gpu(gpu, node, 0, 100),),
        nodes=(Node(node, 1000),),
        replicas=(
            Replica(ReplicaId("n-1"), ModelId("n"), gpu, ReplicaState.READY, footprint, in_flight=1, last_used_s=999.0),
        ),
        models=(
            Model(ModelId("n"), footprint, demand=Demand(in_flight=1)),
            Model(ModelId("org/m"), footprint),
        ),
    )
    return Step(snapshot=snapshot, policies=Policies(), plan=decide(snapshot))


@asynccontextmanager
async def controller(world: World, **reply: Any) -> AsyncIterator[list[Command]]:
    """Takes every command, shows what it decided last, and replies."""
    taken: list[Command] = []
    store = RedisControlStore(world.redis, world.keys)

    async def run() -> None:
        while True:
            popped = await world.redis.blpop([world.keys.commands], timeout=1)
            if popped is None:
                continue
            command = msgspec.json.decode(popped[1], type=Command)
            taken.append(command)
            if command.verb == "snapshot":
                await store.show(step())
            if command.verb == "record":
                await store.record((step(), Arrivals(at_s=1000.0, model="n", count=2)))
            await store.reply(CommandReply(id=command.id, **{"ok": True, "message": "done", **reply}))

    running = asyncio.ensure_future(run())
    try:
        yield taken
    finally:
        await end([running])


@pytest.fixture
async def ruled(world: World) -> World:
    await world.redis.set(world.keys.catalog, encode((card("org/m", "alias"), card("n"))))
    return world


async def test_the_plan_is_what_the_controller_decided_last(ruled: World) -> None:
    async with controller(ruled) as taken:
        status, plan = await ask(ruled, "plan")
    assert status == 200
    assert [command.verb for command in taken] == ["snapshot"]
    assert (plan["snapshot_id"], plan["what_if"], plan["simulated"]) == ("12", None, True)
    assert plan["actions"] == [], "n serves, and nobody asks for m"
    n, m = plan["models"]
    assert (n["model_id"], n["in_flight"], n["if_called"]) == ("n", 1, None)
    assert n["replicas"] == [{"replica_id": "n-1", "gpu": "node/0", "state": "ready", "in_flight": 1}]
    assert (m["model_id"], m["replicas"]) == ("org/m", [])
    assert plan["policies"]["eviction"] == Policies().eviction


async def test_more_models_than_can_be_explained_at_once(ruled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing_api, "EXPLAINED_MAX", 1)
    async with controller(ruled):
        status, refused = await ask(ruled, "plan?explain=true")
        allowed, _ = await ask(ruled, "plan?explain=true&model=n")
    assert (status, refused["error"]["param"], allowed) == (400, "explain", 200)
    assert "2 models are too many to explain at once" in refused["error"]["message"]


async def test_explained_each_model_says_what_a_call_would_meet(ruled: World) -> None:
    async with controller(ruled):
        _, plan = await ask(ruled, "plan?explain=true")
        _, one = await ask(ruled, "plan?explain=true&model=alias")
    n, m = plan["models"]
    assert n["if_called"]["outcome"] == "serves"
    assert m["if_called"]["outcome"] == "hold"
    assert m["if_called"]["counterfactuals"] == ["fits on node/0 if n (busy) sleeps: 1 s to wake it again"]
    assert one["models"] == [m], "an alias names its model"


async def test_what_if_a_model_were_called(ruled: World) -> None:
    async with controller(ruled):
        _, plan = await ask(ruled, "plan?wake=alias")
    assert plan["what_if"] == "org/m is called"
    (hold,) = plan["actions"]
    assert (hold["action"], hold["model_id"]) == ("hold", "org/m")
    assert "node/0" in hold["reason"]


async def test_what_if_a_gpu_were_drained(ruled: World) -> None:
    async with controller(ruled):
        status, plan = await ask(ruled, "plan?drain=node/0")
    assert (status, plan["what_if"]) == (200, "node/0 is drained")


@pytest.mark.parametrize("query", ["model=gpt-9", "wake=gpt-9", "drain=node/9"])
async def test_what_is_not_there_is_not_found(ruled: World, query: str) -> None:
    async with controller(ruled):
        status, body = await ask(ruled, f"plan?{query}")
    assert status == 404
    assert body["error"]["code"] == "not_found"
    assert query.partition("=")[2] in body["error"]["message"]


async def test_a_gpu_is_drained_and_undrained_by_its_whole_id(ruled: World) -> None:
    async with controller(ruled, actions=["n-1"]) as taken:
        status, body = await ask(ruled, "gpus/node/0/drain", "POST", params={"wait": "true"})
        await ask(ruled, "gpus/node/0/undrain", "POST")
    assert (status, body["actions"]) == (200, ["n-1"])
    assert [(command.verb, command.gpu, command.wait) for command in taken] == [
        ("drain", "node/0", True),
        ("undrain", "node/0", False),
    ]


async def test_a_gpu_that_is_not_there_cannot_be_drained(ruled: World) -> None:
    async with controller(ruled, ok=False, code="gpu_not_found", message="there is no GPU 'x'"):
        status, body = await ask(ruled, "gpus/x/drain", "POST")
    assert (status, body["error"]["code"]) == (404, "gpu_not_found")


async def test_a_recording_is_read_from_where_it_began(ruled: World) -> None:
    await RedisControlStore(ruled.redis, ruled.keys).record((Arrivals(at_s=1.0, model="old", count=1),))
    async with controller(ruled) as taken:
        _, begun = await ask(ruled, "recording", "POST", params={"for_s": "5"})
    assert (taken[0].verb, taken[0].for_s) == ("record", 5.0)
    assert begun["data"] == []
    _, first = await ask(ruled, f"recording?after={begun['next_after']}&limit=1")
    _, rest = await ask(ruled, f"recording?after={first['next_after']}")
    _, none = await ask(ruled, f"recording?after={rest['next_after']}")
    assert none == {"object": "list", "data": [], "next_after": rest["next_after"]}
    lines = [each["line"] for each in (*first["data"], *rest["data"])]
    assert [each["number"] for each in rest["data"]] == [2]
    header = encode_line(Header(roundhouse="1", at_unix_s=0.0))
    assert list(read_lines([header, *lines], "x"))[1:] == [step(), Arrivals(at_s=1000.0, model="n", count=2)]


@pytest.mark.parametrize("path", ["recording?after=now", "recording?limit=0", "plan?explain=perhaps"])
async def test_what_is_asked_wrongly_is_refused(ruled: World, path: str) -> None:
    status, body = await ask(ruled, path)
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")


async def test_callers_of_models_may_not_ask(ruled: World) -> None:
    async with ruled.client() as session:
        for path in ("plan", "recording"):
            async with session.get(f"/admin/v1/{path}", headers=ruled.headers) as answer:
                assert answer.status == 403
