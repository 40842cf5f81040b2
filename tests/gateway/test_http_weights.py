"""The admin endpoint for the weights of a node; the test plays the controller."""

from __future__ import annotations

import pytest

from tests.gateway.test_http_admin import ask
from tests.gateway.test_http_packing import controller
from tests.gateway.world import World

pytestmark = pytest.mark.anyio
FOUND: dict[str, object] = {
    "object": "list",
    "node": "w1",
    "quota_bytes": None,
    "used_bytes": 5,
    "free_bytes": 7,
    "data": [],
}


async def test_the_weights_of_a_node_are_what_that_node_says(world: World) -> None:
    item = {"source": "/m", "kind": "folder", "path": "/m", "bytes": 5, "state": "in its place"}
    async with controller(world, detail={**FOUND, "data": [item]}) as taken:
        status, found = await ask(world, "nodes/w1/weights")
    assert status == 200
    assert [(command.verb, command.node) for command in taken] == [("weights", "w1")]
    assert found["data"] == [{**item, "cached_fraction": None, "used_unix_s": None, "checked_unix_s": None}]


async def test_a_node_that_nobody_knows_is_not_found(world: World) -> None:
    said = {"ok": False, "message": "there is no node 'x'; there are w1", "code": "node_not_found"}
    async with controller(world, **said):
        status, refused = await ask(world, "nodes/x/weights")
    assert (status, refused["error"]["code"]) == (404, "node_not_found")
