"""What was used, added up per hour and day: written by the meter, read by whoever may see it.

Each hour and each day of UTC has a hash; its fields are the dimensions and the metric, joined by SEPARATOR, its values
whole numbers (``models.store.usage``). A request counts in the hour in which it ended, GPU time in that in which it
passed. Hours are kept for HOURS_KEPT_S, days for DAYS_KEPT_S.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from models.store.keys import Keys
from models.store.usage import DIMENSIONS, GPU_DIMENSIONS, SEPARATOR

if TYPE_CHECKING:
    from redis.asyncio import Redis

HOUR_S = 3600
DAY_S = 86_400
HOURS_KEPT_S = 40 * DAY_S
DAYS_KEPT_S = 800 * DAY_S
PAGE = 2000  # fields that are asked for at once
NS = "ns"  # the one metric of GPU time

Bucket = Literal["hour", "day", "none"]


class Row(NamedTuple):
    """``at``: its hour (2026-11-22T08) or day (2026-11-22), "" without buckets. ``group``: the values of ``by``.

    ``sums``: metric -> sum; a metric that nothing was added to is not there. Of GPU time: NS alone.
    """

    at: str
    group: tuple[str, ...]
    sums: dict[str, int]


def hour_of(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H")


def day_of(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d")


def field(*values: str) -> str:
    return SEPARATOR.join(values)


async def read(
    client: Redis,
    keys: Keys,
    since_s: float,
    until_s: float,
    *,
    now_s: float,
    by: Sequence[str] = ("tenant",),
    where: Mapping[str, Collection[str]] | None = None,
    bucket: Bucket = "none",
) -> list[Row]:
    """What requests used from ``since_s`` until before ``until_s`` (Unix), in whole hours; in whole days where the
    hours are no longer kept, or the buckets are days: a part counts as all of it. Sorted by time, then by group.

    ``by``: DIMENSIONS to tell apart. ``where``: dimension -> the values that count. What the meter adds while it is
    read may be in some of the sums and not yet in others. Raises ValueError for an unknown dimension,
    redis.RedisError.
    """
    wanted = _Wanted(DIMENSIONS, by, where or {}, bucket)
    for name, at_s in spans(since_s, until_s, bucket, now_s):
        key = keys.usage_hour(name) if len(name) > len("2026-11-22") else keys.usage_day(name)
        async for found, value in _fields(client, key, wanted.pattern):
            *values, metric = found.split(SEPARATOR)
            wanted.add(at_s, values, metric, value)
    return wanted.rows()


async def read_gpus(
    client: Redis,
    keys: Keys,
    since_s: float,
    until_s: float,
    *,
    now_s: float,
    by: Sequence[str] = ("use",),
    where: Mapping[str, Collection[str]] | None = None,
    bucket: Bucket = "none",
) -> list[Row]:
    """What the GPUs' time went to, in nanoseconds; as ``read``, by GPU_DIMENSIONS."""
    wanted = _Wanted(GPU_DIMENSIONS, by, where or {}, bucket)
    for name, at_s in spans(since_s, until_s, bucket, now_s):
        key = keys.gpu_hour(name) if len(name) > len("2026-11-22") else keys.gpu_day(name)
        async for found, value in _fields(client, key, wanted.pattern):
            wanted.add(at_s, found.split(SEPARATOR), NS, value)
    return wanted.rows()


def spans(since_s: float, until_s: float, bucket: Bucket, now_s: float) -> list[tuple[str, int]]:
    """The hours and days that cover this time once, by name, with when they begin. Days where they are as good."""
    kept_from_s = int(now_s - HOURS_KEPT_S) // DAY_S * DAY_S + DAY_S  # from here on all hours are there
    found, at_s, until = [], int(since_s // HOUR_S) * HOUR_S, until_s
    if bucket == "day" or at_s < kept_from_s:
        at_s = at_s // DAY_S * DAY_S
    at_s = max(at_s, int(now_s - DAYS_KEPT_S) // DAY_S * DAY_S)  # before that there is nothing
    until = min(until, now_s + 2 * DAY_S)
    while at_s < until:
        whole = at_s % DAY_S == 0 and (at_s + DAY_S <= until or at_s < kept_from_s or bucket == "day")
        if whole and (bucket != "hour" or at_s < kept_from_s):
            found.append((day_of(at_s), at_s))
            at_s += DAY_S
        else:
            found.append((hour_of(at_s), at_s))
            at_s += HOUR_S
    return found


class _Wanted:
    def __init__(
        self, dimensions: Sequence[str], by: Sequence[str], where: Mapping[str, Collection[str]], bucket: Bucket
    ) -> None:
        unknown = [name for name in (*by, *where) if name not in dimensions]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not one of {', '.join(dimensions)}")
        self._places = [dimensions.index(name) for name in by]
        self._where = [(dimensions.index(name), frozenset(values)) for name, values in where.items()]
        self._bucket = bucket
        self._sums: dict[tuple[str, tuple[str, ...]], dict[str, int]] = {}
        self.pattern = _pattern([where.get(name, ()) for name in dimensions])

    def add(self, at_s: int, values: Sequence[str], metric: str, value: int) -> None:
        if any(values[place] not in wanted for place, wanted in self._where):
            return
        at = {"hour": hour_of, "day": day_of}[self._bucket](at_s) if self._bucket != "none" else ""
        sums = self._sums.setdefault((at, tuple(values[place] for place in self._places)), {})
        sums[metric] = sums.get(metric, 0) + value

    def rows(self) -> list[Row]:
        return [Row(at, group, sums) for (at, group), sums in sorted(self._sums.items())]


async def _fields(client: Redis, key: str, pattern: str | None) -> AsyncIterator[tuple[str, int]]:
    """Page by page: no reader keeps the store from others for long."""
    seen: set[bytes] = set()  # a hash that grows meanwhile may show a field again
    async for name, value in client.hscan_iter(key, match=pattern, count=PAGE):
        if name not in seen:
            seen.add(name)
            yield name.decode(), int(value)


def _pattern(wanted: Sequence[Collection[str]]) -> str | None:
    """Where one value of a dimension is meant, the store need not send the others. What it still sends is left out."""
    parts = ["*" if len(values) != 1 else _literally(next(iter(values))) for values in wanted]
    last = max((place for place, part in enumerate(parts) if part != "*"), default=None)
    return None if last is None else SEPARATOR.join(parts[: last + 1]) + "*"


def _literally(text: str) -> str:
    """As a pattern of Redis that fits nothing else."""
    return re.sub(r"([\\*?\[\]^-])", r"\\\1", text)
