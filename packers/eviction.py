"""Whom to evict. ``packers.shelves`` says who *may* go; a policy in ``EVICTION`` chooses among those.

``lru``, on one GPU:
1. Cheapest first: a replica without which its model still has all it should have before one that only
   ``min_replicas`` keeps; a ready one before a sleeping one, of which only the residue is to be had; lower priority
   first; longest unused first; then by id.
2. Take victims in that order until the footprint fits; then drop, dearest first, whoever is not needed.

Between GPUs:
3. The GPU where the least harm is done (as in 1: nobody kept by ``min_replicas``, lower priority first); then one where
   a sleeping replica of the needing model would be woken, which is quicker than a start; then the one whose most
   recently used victim was used longest ago; then the fewest victims; then the smallest id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from packers.types import Gpu, Replica


class Harm(IntEnum):
    """What an eviction costs the victim's model besides a start later."""

    NONE = 0
    WAITING = 1  # a sleeping replica whose model has requests waiting, too
    MINIMUM = 2  # the model falls below its min_replicas


@dataclass(frozen=True, slots=True)
class Victim:
    """A replica that may be evicted. ``frees_bytes`` of its GPU come back when it is stopped."""

    replica: Replica
    asleep: bool
    frees_bytes: int
    last_use_s: float
    priority: int
    harm: Harm = Harm.NONE


@dataclass(frozen=True, slots=True)
class Shelf:
    """One GPU as a needing model sees it: ``needs_bytes`` there, ``free_bytes`` once what leaves already is gone."""

    gpu: Gpu
    needs_bytes: int
    free_bytes: int
    wakes: Replica | None
    victims: tuple[Victim, ...]


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


def lru(shelves: Sequence[Shelf]) -> tuple[Eviction, ...]:
    """Every eviction that makes room, one per GPU at most, best first. Score: the latest use of any victim (s)."""
    found = [eviction for shelf in shelves if (eviction := _on_shelf(shelf)) is not None]
    return tuple(sorted(found, key=_between_gpus))


EVICTION: dict[str, EvictionPolicy] = {"lru": lru}


def _cheapness(victim: Victim) -> tuple[int, bool, int, float, str]:
    # 1.
    return victim.harm, victim.asleep, victim.priority, victim.last_use_s, victim.replica.id


def _on_shelf(shelf: Shelf) -> Eviction | None:
    # 2.
    free_bytes = shelf.free_bytes
    chosen: list[Victim] = []
    for victim in sorted(shelf.victims, key=_cheapness):
        if free_bytes >= shelf.needs_bytes:
            break
        chosen.append(victim)
        free_bytes += victim.frees_bytes
    if free_bytes < shelf.needs_bytes:
        return None
    for victim in reversed(chosen.copy()):
        if free_bytes - victim.frees_bytes >= shelf.needs_bytes:
            chosen.remove(victim)
            free_bytes -= victim.frees_bytes
    latest_use_s = max((victim.last_use_s for victim in chosen), default=0.0)
    return Eviction(shelf, tuple(chosen), latest_use_s, "the least recently used that may go")


def _between_gpus(eviction: Eviction) -> tuple[int, int, bool, float, int, str]:
    # 3.
    victims = eviction.victims
    harm = max((victim.harm for victim in victims), default=Harm.NONE)
    priority = max((victim.priority for victim in victims), default=0)
    starts = eviction.shelf.wakes is None
    return harm, priority, starts, eviction.score, len(victims), eviction.shelf.gpu.id
