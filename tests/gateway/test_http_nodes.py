"""The admin API of nodes; the test plays the controller."""

from __future__ import annotations

import msgspec
import pytest

from models.store.codec import encode
from models.store.records import NodeRecord
from tests.gateway.test_http_admin import ask, fleet, ruled
from tests.gateway.test_http_packing import controller
from tests.gateway.world import World

__all__ = ["ruled"]
pytestmark = pytest.mark.anyio


async def test_nodes_with_what_is_on_them_and_how_they_stand(ruled: World) -> None:
    away = NodeRecord(id="w", address="far", host_bytes=1, host_reserved_bytes=0, state="away", reason="cut off")
    known = fleet()
    await ruled.redis.set(ruled.keys.fleet, encode(msgspec.structs.replace(known, nodes=(*known.nodes, away))))
    status, body = await ask(ruled, "nodes")
    assert status == 200
    here, there = body["data"]
    assert (here["id"], here["state"], here["gpus"], here["replicas"]) == (
        "node",
        "ready",
        ["node/0", "node/1"],
        ["m-1", "n-1"],
    )
    assert (here["gpu_reserved_bytes"], here["gpu_memory_bytes"]) == (300, 2 << 30)
    assert (there["state"], there["reason"], there["gpus"]) == ("away", "cut off", [])


async def test_the_status_counts_what_is_there_and_says_what_is_not(ruled: World) -> None:
    known = fleet()
    gone = NodeRecord(id="w", address="far", host_bytes=1, host_reserved_bytes=0, state="lost", reason="it burnt down")
    broken = msgspec.structs.replace(known.gpus[1], lost="Xid 79", free_bytes=0)
    there = msgspec.structs.replace(known.gpus[1], id="w/0", node="w", lost="w is lost: it burnt down")
    gpus, nodes = (known.gpus[0], broken, there), (*known.nodes, gone)
    await ruled.redis.set(ruled.keys.fleet, encode(msgspec.structs.replace(known, gpus=gpus, nodes=nodes)))
    _, body = await ask(ruled, "status")
    assert (body["gpus"], body["nodes"], body["gpu_memory_bytes"]) == (1, 1, 1 << 30)
    assert body["problems"] == [
        "node w is lost: it burnt down; docs/operations.md says what to do",
        "GPU node/1 is lost: Xid 79; reset or replace it",
    ]


async def test_orders_reach_the_controller(ruled: World) -> None:
    async with controller(ruled, actions=["m-1"], detail={"node": "w 1"}) as taken:
        status, body = await ask(ruled, "nodes/w%201/drain", "POST", params={"wait": "true"})
        await ask(ruled, "nodes/w/reclaim", "POST", params={"in_s": "30", "dry_run": "true"})
        await ask(ruled, "nodes/w/uncordon", "POST")
    assert (status, body["actions"], body["detail"]) == (200, ["m-1"], {"node": "w 1"})
    assert [(one.verb, one.node, one.wait, one.for_s, one.dry_run) for one in taken] == [
        ("drain", "w 1", True, 0.0, False),
        ("reclaim", "w", False, 30.0, True),
        ("uncordon", "w", False, 0.0, False),
    ]


async def test_a_node_that_is_not_there_is_not_found(ruled: World) -> None:
    async with controller(ruled, ok=False, code="node_not_found", message="there is no node 'x'"):
        status, body = await ask(ruled, "nodes/x/cordon", "POST")
    assert (status, body["error"]["code"]) == (404, "node_not_found")


@pytest.mark.parametrize(
    "path",
    ["nodes/x/dance", "nodes/x/reclaim", "nodes/x/reclaim?in_s=0", "nodes/x/drain?in_s=5", "nodes/x/reclaim?in_s=1e9"],
)
async def test_what_makes_no_sense_never_reaches_the_controller(ruled: World, path: str) -> None:
    async with controller(ruled) as taken:
        status, body = await ask(ruled, path, "POST")
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    assert taken == []
