"""A fleet as the controller has it, commanded line by line: JSON in on standard input, JSON out on standard output.

In: {"do": "start" | "stop" | "sleep" | "wake" | "observe" | "nodes" | "claim", ...}. Out: {"event": ...} as they come,
{"answer": ..., "to": n} to the n-th line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import msgspec
import ray

from models.fleet.protocol import Fleet, FleetEvent, StartFailed, Superseded
from models.fleet.ray_fleet import RayFleet
from models.fleet.tag import Tag
from models.runtimes.protocol import Budget, Device, EngineOrder
from packers.types import Footprint, GpuId, NodeId, ReplicaId

OUT = sys.stdout  # Ray has things to print as well
sys.stdout = sys.stderr


def say(**said: Any) -> None:
    print(json.dumps(said), flush=True, file=OUT)


async def on_event(event: FleetEvent) -> None:
    said = msgspec.to_builtins(event)
    if "engines" in said:
        said["engines"] = [each["order"]["replica_id"] for each in said["engines"]]
        said["node"] = said["node"]["id"]
    say(event=type(event).__name__, at=time.monotonic(), **said)


def order(replica: str, gpu: str, run_dir: str, source: str) -> EngineOrder:
    return EngineOrder(
        replica_id=replica,
        model_id="m",
        served_names=("m",),
        runtime="tiny",
        source=source,
        engine_args={},
        device=Device(),
        budget=Budget(weights_bytes=10, kv_cache_bytes=20, overhead_bytes=30),
        http_path=f"{run_dir}/{replica}.http",
        control_path=f"{run_dir}/{replica}.ctl",
        log_path=f"/nowhere/{replica}.log",
        lease_s=60.0,
        tag=Tag(gpu=GpuId(gpu), card_hash="h", footprint=Footprint(10, 20, 30, host_bytes=10)).encode(),
    )


async def do(fleet: Fleet, asked: dict[str, Any]) -> Any:
    replica = ReplicaId(asked.get("replica", ""))
    match asked["do"]:
        case "start":
            node = NodeId(asked["gpu"].split("/")[0])
            wanted = order(replica, asked["gpu"], asked["run_dir"], asked.get("source", "fine"))
            return msgspec.to_builtins(await fleet.start(node, wanted))
        case "stop":
            return await fleet.stop(replica)
        case "sleep":
            return (await fleet.sleep(replica)).state
        case "wake":
            return (await fleet.wake(replica)).state
        case "observe":
            found = await fleet.observe()
            return {node: {s.order.replica_id: s.pid for s in statuses} for node, statuses in found.items()}
        case "nodes":
            return msgspec.to_builtins(await fleet.nodes())
        case "claim":
            return await fleet.claim(asked["epoch"])


async def answer(fleet: Fleet, number: int, line: str) -> None:
    try:
        said = await do(fleet, json.loads(line))
    except (StartFailed, Superseded) as problem:
        say(to=number, failed=str(problem), kind=type(problem).__name__)
    else:
        say(to=number, answer=said)


async def main(home: str, address: str) -> None:
    ray.init(address=address, namespace="roundhouse", log_to_driver=False)
    fleet = await RayFleet(home, None, None).open()
    fleet.subscribe(on_event)
    say(nodes=[node.id for node in await fleet.nodes()])
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    working = set()
    number = 0
    while line := await reader.readline():
        working.add(asyncio.create_task(answer(fleet, number, line.decode())))
        number += 1
    await fleet.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
