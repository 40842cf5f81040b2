"""A controller in a process of its own, with engines that do not exist: to be suspended, killed and superseded."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from models.catalog.card import ModelCard
from models.control.actions import Actions
from models.control.content import Source
from models.control.controller import Controller
from models.control.fence import LeaseLost
from models.control.office import take_office
from models.control.store import RedisControlStore
from models.control.world import World
from models.fleet.virtual import VirtualClock, VirtualFleet
from models.store.client import connect_async
from models.store.keys import Keys
from packers.types import NodeId, ReplicaId
from tests.models.control.scene import card, entry, fleet_node

DEPOSED = 3


async def main(url: str, prefix: str) -> int:
    node = fleet_node((100,))
    fleet = VirtualFleet((node,), VirtualClock())
    store = RedisControlStore(connect_async(url), Keys(prefix))
    here = entry(card("a", 40))

    async def check(of: ModelCard, on: NodeId) -> Source:
        return Source(Path(of.model_source), "as it is")

    controller = Controller(
        World.empty((node,), {here.id: here}),
        Actions(fleet, check=check, logs=Path("/logs")),
        store,
        clock=time.time,
        new_replica_id=lambda model: ReplicaId(f"{model}-1"),
        load_catalog=lambda message: {here.id: here},
    )
    print(f"in office as {await take_office(store.fence, fleet)}", flush=True)
    try:
        await controller.run()
    except LeaseLost as deposed:
        print(deposed, flush=True)
        return DEPOSED
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
