"""A key that uses ten times what it usually does: a runaway agent, or somebody who found it. Pure.

Its usual hour is the greater of two medians over the last days: of the same hour of the day, so that a nightly batch is
usual at night; and of all hours in which it did anything, so that one that comes seldom is not unusual by coming.
Medians, because one wild hour must not make the next one usual. An hour that is not over yet counts as it is: what is
ten times a whole hour's already needs no waiting for its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from statistics import median_low
from typing import NamedTuple

from gateway.billing.amounts import exact
from models.store.base import Struct
from models.store.tenancy import NANO

HOUR_S = 3600
HOURS_IN_DAY = 24
DAYS = 7
UNUSUAL = 10  # times the usual
LEAST_HOURS = 6  # in which it did something: before that nothing is known of it
# Below these nobody is harmed, however much more it is than usual.
FLOORS = {"requests": 600, "tokens": 200_000, "cost": NANO}


class KeyUse(NamedTuple):
    """Of one key in one hour, by metric: those of FLOORS."""

    tenant: str
    project: str
    used: Mapping[str, int]


class Anomaly(Struct, frozen=True):
    """``hour``: its beginning, Unix seconds. ``usual``: of such an hour. ``used`` is ``times`` as much, at least.
    ``told``: the hour in which webhooks were told of the key."""

    key_id: str
    tenant: str
    project: str
    metric: str
    hour: int
    used: int
    usual: int
    told: int = 0

    @property
    def times(self) -> int:
        return self.used // max(1, self.usual)


def usual(past: Mapping[int, int], hour: int) -> int | None:
    """What is usual for ``hour``, counted in hours since 1970; ``past``: hour -> what was used.

    None: too little is known. An hour that ``past`` does not have is one in which nothing was used.
    """
    known = {at: used for at, used in past.items() if hour - DAYS * HOURS_IN_DAY <= at < hour and used > 0}
    if len(known) < LEAST_HOURS:
        return None
    days_known = min(DAYS, -(-(hour - min(known)) // HOURS_IN_DAY))
    same_hours = [known.get(hour - day * HOURS_IN_DAY, 0) for day in range(1, days_known + 1)]
    return max(median_low(same_hours), median_low(known.values()))


def is_unusual(used: int, normal: int, floor: int) -> bool:
    return used >= floor and used >= UNUSUAL * normal


def anomalies(now: Mapping[str, KeyUse], past: Mapping[int, Mapping[str, KeyUse]], hour: int) -> list[Anomaly]:
    """Of the keys in ``now``, which is ``hour`` so far; ``past``: hour -> key -> what it used. At most one of a key:
    the greatest."""
    found = []
    for key_id, use in now.items():
        of_key = [_judged(key_id, use, metric, past, hour) for metric in FLOORS]
        worst = max((each for each in of_key if each is not None), key=lambda each: each.times, default=None)
        if worst is not None:
            found.append(worst)
    return found


def _judged(
    key_id: str, use: KeyUse, metric: str, past: Mapping[int, Mapping[str, KeyUse]], hour: int
) -> Anomaly | None:
    used = use.used.get(metric, 0)
    if used < FLOORS[metric]:  # most are, and then their past is not looked at
        return None
    before = {at: keys[key_id].used.get(metric, 0) for at, keys in past.items() if key_id in keys}
    normal = usual(before, hour)
    if normal is None or not is_unusual(used, normal, FLOORS[metric]):
        return None
    return Anomaly(
        key_id=key_id,
        tenant=use.tenant,
        project=use.project,
        metric=metric,
        hour=hour * HOUR_S,
        used=used,
        usual=normal,
    )


def by_key(rows: Iterable[tuple[str, str, str, Mapping[str, int]]]) -> dict[str, KeyUse]:
    """From (tenant, project, key, sums of METRICS) of one hour, any number for each key."""
    found: dict[str, KeyUse] = {}
    for tenant, project, key_id, sums in rows:
        if not key_id:
            continue
        before = found[key_id].used if key_id in found else dict.fromkeys(FLOORS, 0)
        found[key_id] = KeyUse(tenant, project, {metric: before[metric] + _sum(sums, metric) for metric in FLOORS})
    return found


def words(anomaly: Anomaly, currency: str) -> str:
    """For people."""
    used, usually = (
        f"{exact(each)} {currency}" if anomaly.metric == "cost" else f"{each:,} {anomaly.metric}"
        for each in (anomaly.used, anomaly.usual)
    )
    at = datetime.fromtimestamp(anomaly.hour, UTC).strftime("%Y-%m-%d %H:%MZ")
    return (
        f"the key {anomaly.key_id} of tenant {anomaly.tenant} used {used} in the hour from {at}, {anomaly.times} times "
        f"its usual {usually}; if that is not meant to be: roundhouse keys revoke {anomaly.key_id}"
    )


def _sum(sums: Mapping[str, int], metric: str) -> int:
    if metric == "tokens":
        return sums.get("prompt_tokens", 0) + sums.get("completion_tokens", 0)
    return sums.get(metric, 0)
