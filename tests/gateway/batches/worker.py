"""``python -m tests.gateway.batches.worker URL PREFIX ROOT TOKEN``: works batches off until it is killed.

Its engine is a function that takes a moment, and writes down what it was asked.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from gateway.batches.desk import Desk
from gateway.batches.room import Room
from gateway.batches.run import Pace, Tools
from gateway.batches.store import BatchStore
from gateway.clock import Clock
from gateway.files.cabinet import Cabinet, FileLimits
from gateway.files.disk import Disk
from gateway.inquiry import Caller
from models.store.client import connect_async
from models.store.keys import Keys
from models.store.lease import Lease
from models.store.records import ModelDemand
from tests.gateway.batches.bench import Spoken

LEASE_S = 0.5


async def main(url: str, prefix: str, root: Path, token: str) -> None:
    client, keys, clock = connect_async(url), Keys(prefix), Clock()
    log = os.open(root / "asked.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def ask(path: str, body: bytes, caller: Caller, *, priority: int) -> Spoken:
        number = json.loads(body)["n"]
        os.write(log, f"{token} {number}\n".encode())
        await asyncio.sleep(0.01)
        return Spoken(200, json.dumps({"n": number}).encode())

    async def caller_of(owner: str) -> Caller | None:
        return Caller(owner)

    async def look_up() -> dict[str, ModelDemand]:
        return {}

    tools = Tools(
        store=BatchStore(client, keys, root / "batches", clock),
        cabinet=Cabinet(client, keys, Disk(root / "files"), clock, FileLimits()),
        room=Room(lambda name: None, look_up, clock.monotonic),
        ask=ask,
        caller_of=caller_of,
        clock=clock,
        token=token,
        write=os.write,
        line_bytes=10_000,
        pace=Pace(look_s=0.02, at_once=4),
    )
    await Desk(tools, lambda: Lease(client, keys.batch_lease(tools.store.place), token, LEASE_S)).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]))
