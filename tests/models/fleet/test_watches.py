"""Which engines the fleet watches over, with nodes played by the test."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from models.fleet import ray_fleet
from models.fleet.protocol import StartFailed, Superseded
from models.fleet.ray_calls import CallBroken, NodeGivenUp
from models.fleet.ray_fleet import RayFleet
from models.runtimes.protocol import EngineStatus
from packers.types import NodeId, ReplicaId
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio
N = NodeId("n")
R = ReplicaId("m-1")


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
    fleet._begin_watch(N, R, status)
    async with asyncio.timeout(5):
        while fleet._tasks:
            await asyncio.sleep(0)
    assert fleet._watches == {}


class Unwell:
    """Each order fails so often for a reason of the node's own, such as a disk that is full, before it is heeded."""

    def __init__(self, fails: int) -> None:
        self.left = fails
        self.heeded = 0

    async def insist(self, call: object, on_gone: object = None) -> Any:
        if self.left:
            self.left -= 1
            raise StartFailed("an internal error on the node")
        self.heeded += 1

    def tell(self, call: object) -> None: ...


async def test_an_engine_that_could_not_be_ended_does_not_count_as_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory would be given to another one, while it is still there."""
    monkeypatch.setattr(ray_fleet, "AGAIN_S", 0.0)
    fleet: Any = RayFleet(str(tmp_path), None, None)
    node = fleet._nodes[N] = Unwell(fails=3)
    fleet._status[R] = (N, EngineStatus(state="ready", pid=1, order=order(tmp_path)))
    await fleet.stop(R)
    assert (node.left, node.heeded, fleet._status) == (0, 1, {})
    node.left, fleet._starting[R] = 2, (N, order(tmp_path))
    await fleet.stop(R)
    assert (node.left, node.heeded, fleet._starting) == (0, 2, {})


async def test_what_is_on_a_node_that_was_given_up_needs_no_ending(tmp_path: Path) -> None:
    fleet: Any = RayFleet(str(tmp_path), None, None)
    fleet._nodes[N] = Gone(NodeGivenUp("n was given up"))
    fleet._nodes[N].tell = lambda call: None
    fleet._status[R] = (N, EngineStatus(state="ready", pid=1, order=order(tmp_path)))
    async with asyncio.timeout(5):
        await fleet.stop(R)
    assert fleet._status == {}


async def test_a_watch_that_breaks_for_a_reason_of_its_own_ends_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken up again; only what is said of the engine itself is its end."""
    monkeypatch.setattr(ray_fleet, "AGAIN_S", 0.0)
    fleet: Any = RayFleet(str(tmp_path), None, None)
    said = [CallBroken("an internal error on the node"), CallBroken("Ray could not carry out the call"), None]

    class Node:
        async def insist(self, call: object, on_gone: object = None) -> Any:
            return EngineStatus(state="ready", pid=1, order=order(tmp_path))

        async def once(self, call: object, within_s: float | None) -> Any:
            broken = said.pop(0)
            if broken is not None:
                raise broken
            return "it was killed", "other"

    async with asyncio.timeout(5):
        found = await fleet._end_of(Node(), R, EngineStatus(state="ready", pid=1, order=order(tmp_path)))
    assert (found, said) == (("it was killed", "other"), [])
