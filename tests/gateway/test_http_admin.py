"""The admin API: what the controller wrote, and orders to it; the test plays the controller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from gateway.ending import end
from models.clock import since_boot
from models.store.codec import encode
from models.store.records import (
    Command,
    CommandReply,
    ControlMeters,
    DecisionRecord,
    Failure,
    FleetRecord,
    GpuRecord,
    ModelRecord,
    NodeRecord,
    ReplicaRecord,
    Reservation,
    TransitionMeter,
)
from tests.gateway.world import World, chat_body

pytestmark = pytest.mark.anyio
GIB = 1 << 30


def fleet() -> FleetRecord:
    def gpu(index: int, reserved: int) -> GpuRecord:
        return GpuRecord(
            id=f"node/{index}", node="node", index=index, name="simulated", simulated=True,
            memory_bytes=GIB, reserved_bytes=reserved, free_bytes=GIB - reserved,
        )  # fmt: skip

    def replica(name: str, model: str, state: str) -> ReplicaRecord:
        return ReplicaRecord(
            replica_id=name, model_id=model, node="node", gpu="node/0", state=state, reason="because",
            state_since_unix_s=1.0, endpoint="unix:/x", control="/y", pid=7, footprint={"weights": 1},
        )  # fmt: skip

    def entry(replica_id: str, model: str, gpu_bytes: int, host_bytes: int) -> Reservation:
        return Reservation(
            replica_id=replica_id, model_id=model, gpu="node/0", node="node", gpu_bytes=gpu_bytes, host_bytes=host_bytes
        )

    return FleetRecord(
        seq=3,
        updated_unix_s=time.time(),
        controller_pid=4242,
        nodes=(NodeRecord(id="node", address="local", host_bytes=8 * GIB, host_reserved_bytes=500),),
        gpus=(gpu(0, 300), gpu(1, 0)),
        replicas=(replica("m-1", "org/m", "ready"), replica("n-1", "n", "asleep")),
        ledger=(entry("m-1", "org/m", 300, 0), entry("n-1", "n", 0, 500)),
        routes_version=9,
    )


def card(name: str, *aliases: str, failure: Failure | None = None) -> ModelRecord:
    return ModelRecord(
        model_id=name, runtime="vllm", source="/models/x", aliases=aliases, min_replicas=0, max_replicas=1, ttl_s=60.0,
        priority=0, pinned=False, footprint={"weights": 1}, card_hash="h", failure=failure,
    )  # fmt: skip


@pytest.fixture
async def ruled(world: World) -> World:
    """A world in which a controller has written its state."""
    failure = Failure(message="No weights.", code="model_start_failed", at_unix_s=1.0, retry_at_unix_s=2.0)
    await world.redis.set(world.keys.fleet, encode(fleet()))
    await world.redis.set(world.keys.catalog, encode((card("org/m", "alias"), card("n"), card("o", failure=failure))))
    return world


async def ask(world: World, path: str, method: str = "GET", **kwargs: Any) -> tuple[int, Any]:
    url = f"/admin/v1/{path}"
    async with world.client() as session, session.request(method, url, headers=world.admin_headers, **kwargs) as answer:
        return answer.status, await answer.json()


@asynccontextmanager
async def controller(world: World, **reply: Any) -> AsyncIterator[list[Command]]:
    """Takes every command and replies."""
    taken: list[Command] = []

    async def run() -> None:
        while True:
            popped = await world.redis.blpop([world.keys.commands], timeout=1)
            if popped is not None:
                command = msgspec.json.decode(popped[1], type=Command)
                taken.append(command)
                answer = CommandReply(id=command.id, **{"ok": True, "message": "done", **reply})
                await world.redis.rpush(world.keys.reply(command.id), encode(answer))

    running = asyncio.ensure_future(run())
    try:
        yield taken
    finally:
        await end([running])


async def test_gpus_and_nodes_with_what_is_on_them(ruled: World) -> None:
    status, body = await ask(ruled, "gpus")
    assert (status, body["simulated"]) == (200, True)
    first, second = body["data"]
    assert (first["reserved_bytes"], first["free_bytes"], first["memory_bytes"]) == (300, GIB - 300, GIB)
    assert first["replicas"] == ["m-1"], "n-1 sleeps: it holds host memory, none of the GPU's"
    assert second["replicas"] == []
    assert (await ask(ruled, "nodes"))[1]["data"][0]["host_reserved_bytes"] == 500


async def test_the_ledger_adds_up(ruled: World) -> None:
    _, body = await ask(ruled, "ledger")
    assert (body["seq"], body["simulated"]) == (3, True)
    for gpu in body["gpus"]:
        assert sum(entry["gpu_bytes"] for entry in gpu["entries"]) == gpu["reserved_bytes"]
        assert gpu["reserved_bytes"] + gpu["free_bytes"] == gpu["capacity_bytes"]
    (node,) = body["nodes"]
    assert sum(entry["host_bytes"] for entry in node["entries"]) == node["reserved_bytes"]
    assert node["reserved_bytes"] + node["free_bytes"] == node["capacity_bytes"]


async def test_models_show_their_tier_their_load_and_why_they_failed(ruled: World) -> None:
    await ruled.engine("m-1")
    await ruled.route(ruled.model("org/m", "m-1"), ruled.model("n"))
    async with ruled.client() as session:
        body = chat_body("n")
        waiting = asyncio.ensure_future(session.post("/v1/chat/completions", json=body, headers=ruled.headers))
        await ruled.until_held("n", 1)
        _, listed = await ask(ruled, "models")
        waiting.cancel()
    shown = {model["model_id"]: model for model in listed["data"]}
    assert {name: model["tier"] for name, model in shown.items()} == {"org/m": "gpu", "n": "host", "o": "disk"}
    assert (shown["n"]["held"], shown["n"]["in_flight"]) == (1, 0)
    assert shown["n"]["last_request_unix_s"] == pytest.approx(time.time(), abs=60)
    assert shown["o"]["failure"]["message"] == "No weights."
    assert shown["org/m"]["replicas"] == ["m-1"]


async def test_models_show_how_their_engines_run_what_they_hold_and_where_weights_are(world: World) -> None:
    ready = fleet().replicas[0]
    detail = {"path": "fast", "weights": "mapped"}
    running = msgspec.structs.replace(ready, detail=detail, measured={"weights": 5, "kv_cache": 6, "overhead": 7})
    known = msgspec.structs.replace(fleet(), replicas=(running,))
    first, second = card("org/m", "alias"), card("o")
    costs_s = {"wake": 0.1, "start_disk": 2.0}
    shown = msgspec.structs.replace(first, costs_s=costs_s, quarantined=3, excess_bytes=9, weights_tier="disk")
    stopped = msgspec.structs.replace(second, weights_tier="page_cache")
    await world.redis.set(world.keys.fleet, encode(known))
    await world.redis.set(world.keys.catalog, encode((shown, stopped)))
    _, listed = await ask(world, "models")
    assert listed["simulated"] is True
    models = {model["model_id"]: model for model in listed["data"]}
    one = models[first.model_id]
    assert (one["tier"], one["path"], one["weights"]) == ("gpu", "fast", "mapped")
    assert one["memory"] == {"weights": 5, "kv_cache": 6, "overhead": 7}
    assert (one["costs_s"], one["quarantined"], one["excess_bytes"]) == (costs_s, 3, 9)
    assert models[stopped.model_id]["tier"] == "page_cache"
    _, detail_view = await ask(world, f"models/{first.model_id}")
    assert detail_view["simulated"] is True
    assert detail_view["replica_records"][0]["detail"] == detail
    _, replicas = await ask(world, "replicas")
    assert replicas["simulated"] is True


async def test_the_controllers_figures_are_among_the_metrics_while_redis_answers(world: World) -> None:
    meter = TransitionMeter(model_id="m", transition="wake", tier="host", counts=(1, 2), sum_s=0.3)
    meters = ControlMeters(bounds_s=(0.1,), transitions=(meter,), quarantined={"m": 1})
    await world.route(world.model("m"))
    async with world.client() as session:
        async with session.get("/metrics") as answer:
            assert "roundhouse_transition_seconds" not in await answer.text()
        await world.redis.set(world.keys.meters, encode(meters))
        async with session.get("/metrics") as answer:
            text = await answer.text()
    assert 'roundhouse_transition_seconds_count{model="m",tier="host",transition="wake"} 2.0' in text
    assert 'roundhouse_quarantined_total{model="m"} 1.0' in text
    assert "roundhouse_store_up 1.0" in text


async def test_one_model_by_id_with_slashes_or_alias(ruled: World) -> None:
    for name in ("org/m", "alias"):
        status, body = await ask(ruled, f"models/{name}")
        assert (status, body["model_id"]) == (200, "org/m")
        assert [replica["pid"] for replica in body["replica_records"]] == [7]
    status, body = await ask(ruled, "models/nope")
    assert (status, body["error"]["code"]) == (404, "model_not_found")


async def test_replicas_and_status(ruled: World) -> None:
    _, body = await ask(ruled, "replicas")
    assert {replica["replica_id"]: replica["state"] for replica in body["data"]} == {"m-1": "ready", "n-1": "asleep"}
    _, body = await ask(ruled, "status")
    assert body["simulated"] is True
    assert (body["controller"]["pid"], body["controller"]["alive"]) == (4242, True)
    assert (body["models"], body["gpus"], body["replicas"]) == (3, 2, {"ready": 1, "asleep": 1})
    assert (body["gpu_memory_bytes"], body["gpu_reserved_bytes"]) == (2 * GIB, 300)
    assert body["gateway"]["worker"] == "worker-1"


async def test_a_silent_controller_is_called_so(ruled: World) -> None:
    old = msgspec.structs.replace(fleet(), updated_unix_s=time.time() - 60)
    await ruled.redis.set(ruled.keys.fleet, encode(old))
    _, body = await ask(ruled, "status")
    assert body["controller"]["alive"] is False
    assert body["controller"]["age_s"] > 50


async def test_what_operators_should_see_to_is_shown(ruled: World) -> None:
    told = "t:fleet could not be read and was set aside"
    await ruled.redis.set(ruled.keys.fleet, encode(msgspec.structs.replace(fleet(), problems=(told,))))
    _, body = await ask(ruled, "status")
    assert body["problems"] == [told]


async def test_a_wall_clock_that_was_set_makes_no_controller_silent(ruled: World) -> None:
    machine = since_boot()
    here = {"boot": machine.boot, "since_boot_s": machine.since_s}
    old = msgspec.structs.replace(fleet(), updated_unix_s=time.time() - 3600, **here)
    await ruled.redis.set(ruled.keys.fleet, encode(old))
    _, body = await ask(ruled, "status")
    assert body["controller"]["alive"] is True


async def test_what_nobody_can_read_is_said_and_hides_nothing_else(ruled: World) -> None:
    await ruled.redis.set(ruled.keys.demand("half"), b'{"worker": "ha')
    await ruled.redis.rpush(ruled.keys.demand("list"), "x")
    status, _ = await ask(ruled, "models")
    assert status == 200
    await ruled.redis.set(ruled.keys.fleet, b"{half")
    status, body = await ask(ruled, "gpus")
    assert (status, body["error"]["code"]) == (503, "store_unavailable")
    assert "doctor" in body["error"]["message"]
    await ruled.redis.delete(ruled.keys.catalog)
    await ruled.redis.rpush(ruled.keys.catalog, "x")
    status, body = await ask(ruled, "models")
    assert (status, body["error"]["code"]) == (503, "store_unavailable")


async def test_without_a_controller_status_answers_and_the_rest_says_why_not(world: World) -> None:
    status, body = await ask(world, "status")
    assert (status, body["controller"]) == (200, None)
    assert (await ask(world, "models"))[1]["data"] == []
    for path in ("gpus", "nodes", "replicas", "ledger"):
        status, body = await ask(world, path)
        assert (status, body["error"]["code"]) == (504, "controller_unavailable")


async def test_decisions_newest_first_by_model_and_in_pages(ruled: World) -> None:
    for number in range(1200):
        name = "rare" if number % 400 == 0 else "m"
        record = DecisionRecord(
            id="x", at_unix_s=float(number), snapshot_id="s", action="start", model_id=name, reason=f"reason {number}"
        )
        await ruled.redis.xadd(ruled.keys.decisions, {"d": encode(record)})
    _, body = await ask(ruled, "decisions?limit=3")
    assert [decision["at_unix_s"] for decision in body["data"]] == [1199.0, 1198.0, 1197.0]
    _, older = await ask(ruled, f"decisions?limit=2&before={body['next_before']}")
    assert [decision["at_unix_s"] for decision in older["data"]] == [1196.0, 1195.0]
    _, rare = await ask(ruled, "decisions?model=rare")
    assert [decision["at_unix_s"] for decision in rare["data"]] == [800.0, 400.0, 0.0]
    assert rare["next_before"] is None
    assert len({decision["id"] for decision in rare["data"]}) == 3


async def test_wrong_parameters_are_named(ruled: World) -> None:
    for path, param in (
        ("decisions?limit=0", "limit"),
        ("decisions?limit=many", "limit"),
        ("decisions?before=now", "before"),
    ):
        status, body = await ask(ruled, path)
        assert (status, body["error"]["type"], body["error"]["param"]) == (400, "invalid_request_error", param)
        assert param in body["error"]["message"]
    status, body = await ask(ruled, "models/m/explode", "POST")
    assert (status, body["error"]["param"]) == (400, "verb")


async def test_orders_reach_the_controller_and_its_reply_comes_back(ruled: World) -> None:
    async with controller(ruled, actions=["m-1"]) as taken:
        status, body = await ask(ruled, "models/org/m/wake?wait=true", "POST")
        assert (status, body["ok"], body["actions"]) == (200, True, ["m-1"])
        await ask(ruled, "models/n/sleep", "POST")
        await ask(ruled, "reload", "POST")
    assert [(c.verb, c.model_id, c.wait) for c in taken] == [
        ("wake", "org/m", True), ("sleep", "n", False), ("reload", None, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("model_not_found", 404),
        ("busy", 409),
        ("min_replicas", 409),
        ("insufficient_gpu_memory", 503),
        ("model_start_failed", 503),
        ("invalid_configuration", 400),
        (None, 409),
    ],
)
async def test_a_refused_order_is_an_error_with_its_reason(ruled: World, code: str | None, status: int) -> None:
    async with controller(ruled, ok=False, message="it cannot be done", code=code):
        got, body = await ask(ruled, "models/m/stop", "POST")
    assert got == status
    assert "it cannot be done" in body["error"]["message"]
    assert body["error"]["code"] == (code or "conflict")


async def test_an_order_that_nobody_takes_is_withdrawn(ruled: World) -> None:
    status, body = await ask(ruled, "models/m/wake?timeout_s=0.2", "POST")
    assert (status, body["error"]["code"]) == (504, "controller_unavailable")
    assert await ruled.redis.llen(ruled.keys.commands) == 0, "a controller that comes later must not carry it out"


async def test_an_order_that_is_taken_but_not_done_in_time(ruled: World) -> None:
    asking = asyncio.ensure_future(ask(ruled, "models/m/wake?wait=true&timeout_s=0.5", "POST"))
    assert await ruled.redis.blpop([ruled.keys.commands], timeout=10)
    status, body = await asking
    assert (status, body["error"]["code"]) == (504, "order_pending")


async def test_keys_are_made_shown_once_used_and_revoked(world: World) -> None:
    await world.route(world.model("m"))
    status, made = await ask(world, "keys", "POST", json={"name": "robot"})
    assert (status, made["scopes"], made["name"]) == (201, ["inference"], "robot")
    _, listed = await ask(world, "keys")
    assert made["key_id"] in {key["key_id"] for key in listed["data"]}
    assert made["key"] not in str(listed)
    assert made["key"] not in str(await world.redis.hgetall(world.keys.api_keys))
    headers = {"authorization": f"Bearer {made['key']}"}
    async with world.client() as session, session.get("/v1/models", headers=headers) as answer:
        assert answer.status == 200
    status, revoked = await ask(world, f"keys/{made['key_id']}", "DELETE")
    assert (status, bool(revoked["revoked_unix_s"])) == (200, True)

    async with world.client() as session, asyncio.timeout(10):
        while True:
            async with session.get("/v1/models", headers=headers) as answer:
                if answer.status == 401:
                    break
    assert (await ask(world, "keys/key_nope", "DELETE"))[0] == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "\n"}, "name"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["root"]}, "scopes.0"),
        ({"name": "x", "scope": "admin"}, "scope"),
    ],
)
async def test_a_wrong_key_order_names_the_field(world: World, body: Any, param: str) -> None:
    status, answer = await ask(world, "keys", "POST", json=body)
    assert (status, answer["error"]["param"]) == (400, param)
