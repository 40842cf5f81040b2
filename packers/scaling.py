"""How many replicas a model should have, and which of those it has need not stay.

1. A model has at least ``min_replicas``, and at least one while there is demand.
2. An autoscaling policy says how many (``packers.autoscale``). "demand", which needs no clock, asks for
   ceil((in flight + held) / target_in_flight) replicas, at most ``max_replicas``. What is in flight while no replica is
   ready runs on one that is leaving, which will finish it: then only what is held counts.
3. A ready, idle, unpinned replica beyond that number, unused for ``ttl_s``, has *expired*: it leaves its GPU. A policy
   may let surplus ones go sooner; the model's last one only where GPUs are paid for by the second. On a GPU that is
   paid for anyway it takes nothing from anybody: it is evicted when its memory is wanted. A policy that lets them go at
   once need not wait until they are idle, which under steady load they never are, as requests are spread over all that
   there are: they leave when they have finished what they have, if requests are so short that they surely will.
4. A sleeping, unpinned replica that nobody has used for 10 x ``ttl_s`` is *forgotten*: its process ends. So is one
   without which the model has more ready and sleeping replicas than ``max_replicas``, the longest unused first.
   Neither while the model is short of replicas: it would be woken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from packers.explain import count as counted
from packers.ledger import leaving
from packers.types import Model, ModelId, Replica, ReplicaState

FORGET_AFTER_TTLS = 10
# A draining replica has half a minute to finish what it has. Of requests that take an exponential time of this mean,
# one in 20,000 takes longer than that.
BUSY_LEAVES_S = 3.0


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


@dataclass(frozen=True, slots=True)
class Standing:
    """What ``model`` should have and has, as far as no clock is needed to say so.

    ``count`` replicas should serve, ``why``; ``ready`` ones do, ``coming`` do already or are about to. ``idle``: ready
    ones that may expire, ``loose``: sleeping ones that may be forgotten, both longest unused first.
    """

    model: Model
    count: int
    why: str
    ready: int
    coming: int
    idle: tuple[Replica, ...] = ()
    loose: tuple[Replica, ...] = ()
    over: int = 0  # sleeping ones beyond max_replicas
    busy: tuple[Replica, ...] = ()  # ready ones that may leave all the same, those with the least to finish first
    linger_s: float | None = None  # how long surplus ones stay idle; None: for the model's ttl_s
    keeps_last: bool = True  # the last one stays for its ttl_s all the same

    @property
    def missing(self) -> int:
        return max(0, self.count - self.coming)

    @property
    def switched_off(self) -> bool:
        """Callers wait for what its ``max_replicas`` does not allow."""
        demand = self.model.demand
        return self.count == 0 and (demand.held > 0 or demand.operator_wake)

    @property
    def due_s(self) -> float:
        """When the first replica expires or is forgotten; infinity: none will without something happening first."""
        return -inf if self.over > 0 and self.loose else self.next_due_s(-inf)

    def next_due_s(self, after_s: float) -> float:
        """When the next replica expires or is forgotten later than that."""
        keep_s = FORGET_AFTER_TTLS * self.model.ttl_s
        times = [at_s for _, at_s in self._expiries()] + [last_use_s(one) + keep_s for one in self.loose]
        return min((at_s for at_s in times if at_s > after_s), default=inf)

    def expired(self, now_s: float) -> tuple[Replica, ...]:
        # 3.
        return tuple([one for one, at_s in self._expiries() if now_s >= at_s])

    def _expiries(self) -> list[tuple[Replica, float]]:
        ttl_s, spare = self.model.ttl_s, self.ready - self.count
        if self.linger_s is None:
            return [(one, last_use_s(one) + ttl_s) for one in self.idle[: max(0, spare)]]
        soon = spare - (self.keeps_last and self.count == 0)
        found = [
            (one, last_use_s(one) + (min(self.linger_s, ttl_s) if place < soon else ttl_s))
            for place, one in enumerate(self.idle[: max(0, spare)])
        ]
        # Never the last one that serves.
        more = min(spare, self.ready - 1) - len(self.idle)
        return found + [(one, one.state_since_s) for one in self.busy[: max(0, more)]]

    def forgotten(self, now_s: float) -> tuple[Replica, ...]:
        # 4.
        keep_s = FORGET_AFTER_TTLS * self.model.ttl_s
        return tuple(
            one for place, one in enumerate(self.loose) if place < self.over or now_s >= last_use_s(one) + keep_s
        )


def last_use_s(replica: Replica) -> float:
    """When the replica was last of use. One that just became ready counts as used then: its first request is coming."""
    if replica.state is ReplicaState.ASLEEP:
        return replica.last_used_s or replica.state_since_s
    return max(replica.last_used_s, replica.state_since_s)


def stay_s(model: Model) -> float:
    """How long its start took, most of the time: out of host RAM if it sleeps there at all."""
    return model.startup.host_s if model.can_sleep else model.startup.disk_s


@dataclass(frozen=True, slots=True)
class Roll:
    """A model's replicas that neither leave nor are dead. ``doubled``: those that have a substitute among them."""

    ready: list[Replica]
    asleep: list[Replica]
    starting: int
    doubled: int

    @property
    def coming(self) -> int:
        return len(self.ready) + self.starting - self.doubled


def roll(model: ModelId, replicas: Iterable[Replica]) -> Roll:
    """Passes over ``replicas`` of other models and dead or leaving ones."""
    ready: list[Replica] = []
    asleep: list[Replica] = []
    starting = 0
    substitutes: list[Replica] = []
    for one in replicas:
        if one.model != model or leaving(one):
            continue
        if one.replaces is not None:
            substitutes.append(one)
        if one.state is ReplicaState.READY:
            ready.append(one)
        elif one.state is ReplicaState.ASLEEP:
            asleep.append(one)
        elif one.state is ReplicaState.STARTING:
            starting += 1
    return Roll(ready, asleep, starting, _doubled(ready, substitutes))


def standing(model: Model, replicas: Iterable[Replica]) -> Standing:
    return by_demand(model, roll(model.id, replicas))


def by_demand(model: Model, mine: Roll) -> Standing:
    """With as many replicas wanted as demand alone asks for."""
    count, why = _wanted(model, serving=bool(mine.ready))
    return stand(model, mine, count, why)


def stand(
    model: Model, mine: Roll, count: int, why: str, linger_s: float | None = None, keeps_last: bool = True
) -> Standing:
    """With ``count`` replicas wanted."""
    ready, asleep, coming = mine.ready, mine.asleep, mine.coming
    serving = len(ready) - mine.doubled
    idle = _idle(model, ready) if serving > count else ()
    loose: tuple[Replica, ...] = ()
    over = 0
    if asleep and coming >= count:  # one that is short of replicas would wake them
        loose = _loose(model, asleep)
        over = len(ready) + len(asleep) - max(model.max_replicas, model.min_replicas)
    busy = _busy(model, ready) if linger_s == 0 and serving - len(idle) > count else ()
    return Standing(model, count, why, serving, coming, idle, loose, over, busy, linger_s, keeps_last)


def desired_replicas(model: Model, replicas: Iterable[Replica], now_s: float) -> Desired:
    """What ``model`` should have at ``now_s``."""
    stands = standing(model, replicas)
    return Desired(stands.count, stands.why, stands.coming, stands.expired(now_s), stands.forgotten(now_s))


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
    return count, kept_why(model)


def kept_why(model: Model) -> str:
    """Why it has replicas that nobody calls."""
    return model.floor_why or f"min_replicas is {model.min_replicas}"


def _doubled(ready: list[Replica], substitutes: list[Replica]) -> int:
    """One that still serves and the one that takes its place count once."""
    if not substitutes:
        return 0
    replaced = {one.replaces for one in substitutes if one.state is not ReplicaState.ASLEEP}
    return sum(one.id in replaced for one in ready)


def _idle(model: Model, ready: list[Replica]) -> tuple[Replica, ...]:
    if model.pinned:
        return ()
    return _longest_unused_first([one for one in ready if one.in_flight == 0 and not one.pinned])


def _busy(model: Model, ready: list[Replica]) -> tuple[Replica, ...]:
    if model.pinned or model.load.service_s > BUSY_LEAVES_S:
        return ()
    busy = [one for one in ready if one.in_flight and not one.pinned]
    return tuple(sorted(busy, key=lambda one: (one.in_flight, one.id)))


def _loose(model: Model, asleep: list[Replica]) -> tuple[Replica, ...]:
    return () if model.pinned else _longest_unused_first([one for one in asleep if not one.pinned])


def _longest_unused_first(replicas: list[Replica]) -> tuple[Replica, ...]:
    if len(replicas) > 1:
        replicas.sort(key=lambda one: (last_use_s(one), one.id))
    return tuple(replicas)
