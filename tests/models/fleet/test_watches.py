"""Which engines the fleet watches over, with nodes played by the test."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from models.fleet.protocol import Superseded
from models.fleet.ray_calls import NodeGivenUp
from models.fleet.ray_fleet import RayFleet
from models.runtimes.protocol import EngineStatus
from packers.types import NodeId, ReplicaId
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio
N = NodeId("n")


class Gone:
    """``why``: what every call fails with."""

    def __init__(self, why: Exception) -> None:
        self.why = why

    async def insist(self, call: object, on_gone: object = None) -> Any:
        raise self.why


@pytest.mark.parametrize("why", [NodeGivenUp("n was given up"), Superseded(2)])
async def test_an_engine_whose_node_is_lost_is_watched_no_more_and_forgotten(tmp_path: Path, why: Exception) -> None:
    fleet: Any = RayFleet(str(tmp_path), None, None)
    fleet._nodes[N] = Gone(why)
    status = EngineStatus(state="ready", pid=1, order=order(tmp_path))
    fleet._begin_watch(N, ReplicaId("m-1"), status)
    async with asyncio.timeout(5):
        while fleet._tasks:
            await asyncio.sleep(0)
    assert fleet._watches == {}
