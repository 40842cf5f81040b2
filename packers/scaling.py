"""How many replicas a model should have, and which of those it has need not stay.

1. A model has at least ``min_replicas``, and at least one while there is demand.
2. Demand asks for ceil((in flight + held) / target_in_flight) replicas, at most ``max_replicas``. What is in flight
   while no replica is ready runs on one that is leaving, which will finish it: then only what is held counts.
3. A ready, idle, unpinned replica beyond that number, unused for ``ttl_s``, has *expired*: it leaves its GPU.
4. A sleeping, unpinned replica that nobody has used for 10 x ``ttl_s`` is *forgotten*: its process ends. So is one
   without which the model has more ready and sleeping replicas than ``max_replicas``, the longest unused first.
   Neither while the model is short of replicas: it would be woken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from packers.explain import count as counted
from packers.ledger import leaving
from packers.types import Model, Replica, ReplicaState

FORGET_AFTER_TTLS = 10


@dataclass(frozen=True, slots=True)
class Desired:
    """``count`` replicas should serve, ``why``; ``coming`` serve already or are about to."""

    count: int
    why: str
    coming: int = 0
    expired: tuple[Replica, ...] = ()
    forgotten: tuple[Replica, ...] = ()

    @property
    def missing(self) -> int:
        return max(0, self.count - self.coming)


def last_use_s(replica: Replica) -> float:
    """When the replica was last of use. One that just became ready counts as used then: its first request is coming."""
    if replica.state is ReplicaState.ASLEEP:
        return replica.last_used_s or replica.state_since_s
    return max(replica.last_used_s, replica.state_since_s)


def desired_replicas(model: Model, replicas: Iterable[Replica], now_s: float) -> Desired:
    """What ``model`` should have at ``now_s``. Passes over ``replicas`` of other models and dead or leaving ones."""
    mine = [one for one in replicas if one.model == model.id and not leaving(one)]
    ready = [one for one in mine if one.state is ReplicaState.READY]
    asleep = [one for one in mine if one.state is ReplicaState.ASLEEP]
    starting = sum(one.state is ReplicaState.STARTING for one in mine)
    count, why = _wanted(model, serving=bool(ready))
    coming = len(ready) + starting
    forgotten = () if coming < count else _forgotten(model, len(ready), asleep, now_s)
    return Desired(count, why, coming, _expired(model, count, ready, now_s), forgotten)


def _wanted(model: Model, serving: bool) -> tuple[int, str]:
    demand = model.demand
    requests = demand.held + (demand.in_flight if serving else 0)
    by_load = -(-requests // max(1, model.target_in_flight))
    # 1. and 2.
    asked = requests > 0 or demand.operator_wake
    wanted = max(model.min_replicas, by_load, 1 if asked else 0)
    count = min(wanted, max(model.max_replicas, model.min_replicas))
    if requests and by_load >= model.min_replicas:
        return count, f"{counted(requests, 'request')} in flight or held"
    if asked and not model.min_replicas:
        return count, "an operator asked for it"
    return count, f"min_replicas is {model.min_replicas}"


def _expired(model: Model, count: int, ready: list[Replica], now_s: float) -> tuple[Replica, ...]:
    # 3.
    idle = [
        one
        for one in ready
        if one.in_flight == 0 and not (one.pinned or model.pinned) and now_s - last_use_s(one) >= model.ttl_s
    ]
    idle.sort(key=lambda one: (last_use_s(one), one.id))
    return tuple(idle[: max(0, len(ready) - count)])


def _forgotten(model: Model, ready: int, asleep: list[Replica], now_s: float) -> tuple[Replica, ...]:
    # 4.
    loose = [one for one in asleep if not (one.pinned or model.pinned)]
    loose.sort(key=lambda one: (last_use_s(one), one.id))
    over = ready + len(asleep) - max(model.max_replicas, model.min_replicas)
    return tuple(
        one
        for place, one in enumerate(loose)
        if place < over or now_s - last_use_s(one) >= FORGET_AFTER_TTLS * model.ttl_s
    )
