"""Cells as they come out of a good run, for tests to spoil."""

from __future__ import annotations

from typing import Any

from loadtests.chaos.calls import Call, How
from loadtests.chaos.cell import Result
from loadtests.chaos.recovery import Recovered
from loadtests.chaos.watch import Seen

STRUCK_S = 100.0


def call(how: How = How.OK, model: str = "steady", began_s: float = STRUCK_S, took_s: float = 0.2, **more: Any) -> Call:
    first = began_s + took_s if how in (How.OK, How.REFUSED, How.WRONG_STATUS, How.ERROR_EVENT, How.CUT) else None
    made = Call(model, more.pop("streamed", False), began_s, how, first_byte_s=first, ended_s=began_s + took_s)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def result(fault: str = "controller-9", moment: str = "load", *calls: Call, **more: Any) -> Result:
    good = Result(fault, moment, calls=[call(), *calls], struck_s=STRUCK_S, call_s=0.1, again_s=0.4)
    good.recovered = Recovered({"controller": 1.5, "replicas": 0.1, "scaling": 1.8, "processes": 1.4})
    good.seen = Seen(ledgers=40, looks=41)
    for name, value in more.items():
        setattr(good, name, value)
    return good


def ledger(*entries: tuple[str, int, int], capacity: int = 1000, seq: int = 7) -> dict[str, Any]:
    """Of one node with two GPUs. ``entries``: replica, its GPU, its bytes there."""
    gpus = [
        {
            "gpu": f"n/gpu-{index}",
            "capacity_bytes": capacity,
            "reserved_bytes": sum(taken for _, at, taken in entries if at == index),
            "entries": [{"replica_id": name, "gpu_bytes": taken} for name, at, taken in entries if at == index],
        }
        for index in (0, 1)
    ]
    nodes = [{"node": "n", "capacity_bytes": capacity, "reserved_bytes": 0, "entries": []}]
    return {"seq": seq, "gpus": gpus, "nodes": nodes}
