"""Bringing models back to the GPUs before anybody asks for them.

A sleeping model is brought back if
1. nobody waits: what callers wait for is served first, and of what is brought back ahead of time at most
   ``AT_ONCE`` loads at a time;
2. its policy expects it: its ``recall`` says that it is due, or, where the policy ``barters``, it is among the
   ``TRIED`` that are worth most per byte of GPU memory;
3. there is free room for it, or room can be made where the eviction policy says, of ready and idle replicas whose
   models have all they need without them;
4. it pays. Under a bartering policy: the chance that it is used before the memory changes hands again and before its
   ``ttl_s`` is over, less the same of each victim, is at least ``LEAST_GAIN``; and it is worth at least ``MARGIN``
   times what they are worth together.
   Under ``recall``: only into free room.

When memory changes hands again is read off what is there: ``TURNOVER`` times the middle age of the ready replicas.
On a quiet cluster that is hours, and what is a little more likely to be used is brought back; in a busy one it is
seconds, and hardly anything is worth a load. So the same rule neither leaves memory idle nor swaps for its own sake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from packers.eviction import Eviction
from packers.residency.hazard import chance
from packers.residency.stay import Residency, Stay, Tier
from packers.types import Model, Replica

AT_ONCE = 2
TRIED = 2
EVERY_S = 2.0  # how often it is worth asking
TURNOVER = 0.5
LEAST_GAIN = 0.3
MARGIN = 1.2


@dataclass(frozen=True, slots=True)
class Sleeper:
    """A replica that could be woken, of a model that has none ready, starting or waited for."""

    model: Model
    replica: Replica
    last_use_s: float


@dataclass(frozen=True, slots=True)
class Return:
    """Bring ``sleeper`` back to the GPU of ``place``, whose ``victims`` (maybe none) go for it. ``why`` in words."""

    sleeper: Sleeper
    place: Eviction
    why: str


def turnover_s(ready_since_s: Iterable[float], now_s: float) -> float:
    """How long what is brought back now can be expected to stay. ``ready_since_s``: of each ready replica; none: 0."""
    ages = [now_s - since_s for since_s in ready_since_s]
    return TURNOVER * max(0.0, median(ages)) if ages else 0.0


def returns(
    residency: Residency,
    sleepers: Sequence[Sleeper],
    places: Callable[[Sleeper], Sequence[Eviction]],
    now_s: float,
    stay_s: float,
    loading: int = 0,
) -> Return | None:
    """The next one to bring back, if any. Ask again once that is under way, until None.

    ``places``: for a sleeper, where it could go, best first (what ``EVICTION[name]`` returns; no victims where there is
    free room). ``stay_s``: ``turnover_s``. ``loading``: how many are being brought back at the moment.
    """
    # 1. and 2.
    if loading >= AT_ONCE or (residency.recall is None and not residency.barters):
        return None
    if residency.recall is not None:
        return _due(residency, sleepers, places, now_s)
    for worth, sleeper in _worth_most(residency, sleepers, now_s):
        expected = chance(sleeper.model.usage, now_s, min(stay_s, sleeper.model.ttl_s))
        if expected < LEAST_GAIN:
            continue
        # 3.
        place = next(iter(places(sleeper)), None)
        # 4.
        if place is not None and _pays(residency, worth, expected, place, now_s, stay_s):
            return Return(sleeper, place, f"{expected:.0%} likely to be used soon")
    return None


def _worth_most(residency: Residency, sleepers: Sequence[Sleeper], now_s: float) -> list[tuple[float, Sleeper]]:
    ranked = []
    for one in sleepers:
        size_bytes = max(1, one.replica.footprint.gpu_bytes)
        stay = Stay(Tier.GPU, now_s, one.last_use_s, one.replica.state_since_s, size_bytes)
        worth = residency.worth(one.model, stay)
        if worth > 0.0:
            ranked.append((-worth / size_bytes, one.replica.id, worth, one))
    ranked.sort(key=lambda rank: rank[:2])
    return [(worth, one) for _, _, worth, one in ranked[:TRIED]]


def _pays(residency: Residency, worth: float, expected: float, place: Eviction, now_s: float, stay_s: float) -> bool:
    if any(victim.asleep or victim.harm for victim in place.victims):
        return False
    lost = sum(chance(victim.model.usage, now_s, stay_s) for victim in place.victims if victim.model is not None)
    return expected - lost >= LEAST_GAIN and (not place.victims or worth >= MARGIN * place.score)


def _due(
    residency: Residency, sleepers: Sequence[Sleeper], places: Callable[[Sleeper], Sequence[Eviction]], now_s: float
) -> Return | None:
    for one in sorted(sleepers, key=lambda sleeper: (sleeper.last_use_s, sleeper.replica.id)):
        if residency.recall is not None and residency.recall(one.model, now_s, one.last_use_s):
            place = next((place for place in places(one) if not place.victims), None)
            if place is not None:
                return Return(one, place, "its next use is due")
    return None
