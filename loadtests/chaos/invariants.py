"""What must be true at every moment, of one look at the ledger and at the processes. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from loadtests.chaos.census import Process
from loadtests.chaos.scene import model_of, most_replicas


def of_ledger(ledger: Mapping[str, Any]) -> list[str]:
    """What is wrong with an answer of ``GET /admin/v1/ledger``: sums beyond a capacity, a replica on two GPUs."""
    wrong, places = [], Counter[str]()
    for gpu in ledger["gpus"]:
        reserved = sum(entry["gpu_bytes"] for entry in gpu["entries"])
        wrong += _sums(gpu["gpu"], reserved, gpu)
        places.update(entry["replica_id"] for entry in gpu["entries"])
    for node in ledger["nodes"]:
        wrong += _sums(f"{node['node']}'s RAM", sum(entry["host_bytes"] for entry in node["entries"]), node)
    return wrong + [f"{replica} is on the ledger {times} times" for replica, times in places.items() if times > 1]


def _sums(place: str, reserved: int, shown: Mapping[str, Any]) -> list[str]:
    wrong = []
    if reserved > shown["capacity_bytes"]:
        wrong.append(f"{reserved} bytes of {place} are reserved, it has {shown['capacity_bytes']}")
    if reserved != shown["reserved_bytes"]:
        wrong.append(f"{shown['reserved_bytes']} bytes of {place} are said to be reserved, its entries say {reserved}")
    return wrong


def reserved_replicas(ledger: Mapping[str, Any]) -> frozenset[str]:
    """Every replica that holds a place on a GPU or in a node's RAM."""
    places = [*ledger["gpus"], *ledger["nodes"]]
    return frozenset(entry["replica_id"] for place in places for entry in place["entries"])


def of_engines(engines: Iterable[Process], leaving: frozenset[str] = frozenset()) -> list[str]:
    """Two living engines of one replica, or more engines of a model than it may have replicas.

    ``leaving``: replicas that get no requests any more; one that takes such a one's place may live beside it.
    """
    replicas = Counter(engine.replica for engine in engines)
    wrong = [f"{times} engines of {replica} live at once" for replica, times in replicas.items() if times > 1]
    models = Counter(model_of(replica) for replica in replicas.elements() if replica not in leaving)
    for model, times in models.items():
        if model and times > most_replicas(model):
            wrong.append(f"{times} engines of {model} live at once, which may have {most_replicas(model)}")
    return wrong


def off_the_ledger(engines: Iterable[Process], ledger: Mapping[str, Any]) -> list[Process]:
    """Engines that hold memory which nobody has reserved."""
    reserved = reserved_replicas(ledger)
    return [engine for engine in engines if engine.replica not in reserved]
