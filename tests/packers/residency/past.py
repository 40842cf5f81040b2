"""Models with a past: ``used("a", [0, 10, 20])`` is one whose requests came at those times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from packers.residency import Stay, Tier
from packers.types import Model, Replica, StartTimes
from packers.usage import Usage, UsageTracker
from tests.packers.worlds import ASLEEP, MIB, READY, model, replica


def usage(times_s: Iterable[float]) -> Usage:
    times = list(times_s)
    tracker = UsageTracker(min(times, default=0.0) if min(times, default=0.0) < 0 else 0.0)
    last_s = 0.0
    for time_s in times:
        tracker.arrive(time_s)
        last_s = time_s
    return tracker.usage(last_s)


def used(
    name: str, times_s: Iterable[float], mib: int = 60, *, disk_s: float = 12.0, host_s: float = 2.0, **card: int | bool
) -> Model:
    one = model(name, mib, can_sleep=bool(card.get("can_sleep", True)), priority=int(card.get("priority", 0)))
    return replace(one, usage=usage(times_s), startup=StartTimes(disk_s, host_s))


def stay(now_s: float, last_use_s: float, *, tier: Tier = Tier.GPU, mib: int = 60, since_s: float = 0.0) -> Stay:
    return Stay(tier, now_s, last_use_s, since_s, mib * MIB)


def ready(one: Model) -> Replica:
    return replace(replica(one.id, "n/0", 1, READY), footprint=one.footprint)


def asleep(one: Model) -> Replica:
    return replace(replica(one.id, "n/0", 1, ASLEEP), footprint=one.footprint)
