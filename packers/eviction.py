"""Whom to evict. ``packers.verdicts`` says who *may* go; a policy in ``EVICTION`` chooses among those.

All policies share these rules; what a replica is *worth* is ``packers.residency``. On one GPU:
1. Cheapest first: a replica without which its model still has all it should have before one that only
   ``min_replicas`` keeps; a ready one before a sleeping one, of which only the residue is to be had; lower priority
   first; worth least first (where worths add up: per byte that it frees); longest unused first; then by id.
2. Take victims in that order until the footprint fits; then drop, dearest first, whoever is not needed.
3. Where worths add up: would one victim alone that is no harder to let go (1.) do, or those that are worth least
   regardless of their bytes, and cost less? Then those. What is freed beyond the need is credited at the price per
   byte of the cheapest: two small ones or one large one is a question of cost.

Between GPUs:
4. The GPU where the least harm is done (as in 1: nobody kept by ``min_replicas``, lower priority first); then one where
   a sleeping replica of the needing model would be woken, which is quicker than a start.
5. Then where the victims are worth least: their sum where worths add up, else the dearest of them.
6. Then the fewest victims; then the smallest id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import NamedTuple

from packers.residency import RESIDENCY, Residency, Stay, Tier
from packers.types import Gpu, Model, Replica, ReplicaId


class Harm(IntEnum):
    """What an eviction costs the victim's model besides a start later."""

    NONE = 0
    WAITING = 1  # a sleeping replica whose model has requests waiting, too
    MINIMUM = 2  # the model falls below its min_replicas
    TURN = 3  # callers use it: they wait until it is their turn again


@dataclass(frozen=True, slots=True)
class Victim:
    """A replica that may be evicted. ``frees_bytes`` of its GPU come back when it is stopped.

    ``model``: the catalog's word on it; None when it is in no catalog any more, then it is worth nothing.
    """

    replica: Replica
    asleep: bool
    frees_bytes: int
    last_use_s: float
    priority: int
    harm: Harm = Harm.NONE
    model: Model | None = None


@dataclass(frozen=True, slots=True)
class Shelf:
    """One GPU as a needing model sees it: ``needs_bytes`` there, ``free_bytes`` once what leaves already is gone."""

    gpu: Gpu
    needs_bytes: int
    free_bytes: int
    wakes: Replica | None
    victims: tuple[Victim, ...]
    now_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Eviction:
    """``victims`` have to leave ``shelf``, cheapest first, and ``why`` those. ``score``: lower is better."""

    shelf: Shelf
    victims: tuple[Victim, ...]
    score: float
    why: str

    @property
    def slack_bytes(self) -> int:
        """What stays free when all victims are stopped: room for what sleeping ones leave behind."""
        freed_bytes = sum(victim.frees_bytes for victim in self.victims)
        return self.shelf.free_bytes + freed_bytes - self.shelf.needs_bytes


EvictionPolicy = Callable[[Sequence[Shelf]], tuple[Eviction, ...]]
Ease = tuple[int, bool, int]


class _Priced(NamedTuple):
    """Cheapest first: they sort by 1., as no two replicas have the same id."""

    ease: Ease
    price: float  # per byte where worths add up, else the worth
    last_use_s: float
    id: ReplicaId
    worth: float
    frees_bytes: int
    victim: Victim


def evict(residency: Residency, shelves: Sequence[Shelf]) -> tuple[Eviction, ...]:
    """Every eviction that makes room, one per GPU at most, best first.

    Score: the sum of the victims' worths, or, where worths do not add up, the highest.
    """
    found = [eviction for shelf in shelves if (eviction := _on_shelf(residency, shelf)) is not None]
    return tuple(sorted(found, key=_between_gpus))


EVICTION: dict[str, EvictionPolicy] = {name: partial(evict, policy) for name, policy in RESIDENCY.items()}


lru = EVICTION["lru"]


def _on_shelf(residency: Residency, shelf: Shelf) -> Eviction | None:
    # 2.
    short_bytes = shelf.needs_bytes - shelf.free_bytes
    if short_bytes <= 0:
        return Eviction(shelf, (), 0.0, residency.why)
    # 1.
    now_s = shelf.now_s
    priced = sorted([_price(residency, victim, now_s) for victim in shelf.victims])
    chosen = _enough(priced, short_bytes)
    if chosen is None:
        return None
    if residency.adds_up:
        # 3.
        ease, price = max([one.ease for one in chosen]), priced[0].price
        ways = [chosen, *_others(priced, short_bytes, ease)]
        chosen = min(ways, key=lambda those: _cost(those, short_bytes, price))
        score = sum(one.worth for one in chosen)
    else:
        score = max(one.worth for one in chosen)
    return Eviction(shelf, tuple(one.victim for one in chosen), score, residency.why)


def _price(residency: Residency, victim: Victim, now_s: float) -> _Priced:
    frees_bytes, last_use_s, replica = victim.frees_bytes, victim.last_use_s, victim.replica
    stay = Stay(Tier.HOST if victim.asleep else Tier.GPU, now_s, last_use_s, replica.state_since_s, frees_bytes)
    worth = residency.value(victim.model, stay)
    price = worth / max(1, frees_bytes) if residency.adds_up else worth
    ease = (victim.harm, victim.asleep, victim.priority)
    return _Priced(ease, price, last_use_s, replica.id, worth, frees_bytes, victim)


def _enough(priced: Iterable[_Priced], short_bytes: int) -> list[_Priced] | None:
    """The first ones until they do, less those that turn out not to be needed."""
    chosen: list[_Priced] = []
    for one in priced:
        if short_bytes <= 0:
            break
        chosen.append(one)
        short_bytes -= one.frees_bytes
    if short_bytes > 0:
        return None
    for one in reversed(chosen.copy()):
        if short_bytes + one.frees_bytes <= 0:
            chosen.remove(one)
            short_bytes += one.frees_bytes
    return chosen


def _others(priced: Sequence[_Priced], short_bytes: int, ease: Ease) -> list[list[_Priced]]:
    """Each that would do alone, and those worth least; nobody harder to let go than ``ease``."""
    may_go = [one for one in priced if one.ease <= ease]
    found = [[one] for one in may_go if one.frees_bytes >= short_bytes]
    least = _enough(sorted(may_go, key=lambda one: (one.ease, one.worth, one.id)), short_bytes)
    return found if least is None else [*found, least]


def _cost(chosen: Sequence[_Priced], short_bytes: int, price: float) -> tuple[Ease, float, int, list[ReplicaId]]:
    if len(chosen) == 1:
        (one,) = chosen
        return one.ease, one.worth - price * (one.frees_bytes - short_bytes), 1, [one.id]
    spare_bytes = sum([one.frees_bytes for one in chosen]) - short_bytes
    worth = sum([one.worth for one in chosen]) - price * spare_bytes
    return max([one.ease for one in chosen]), worth, len(chosen), [one.id for one in chosen]


def _harm(eviction: Eviction) -> tuple[int, int]:
    # 4.
    harm = max((victim.harm for victim in eviction.victims), default=Harm.NONE)
    return harm, max((victim.priority for victim in eviction.victims), default=0)


def _between_gpus(eviction: Eviction) -> tuple[tuple[int, int], bool, float, int, str]:
    # 4. to 6.
    starts = eviction.shelf.wakes is None
    return _harm(eviction), starts, eviction.score, len(eviction.victims), eviction.shelf.gpu.id
