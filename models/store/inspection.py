"""What lies under an installation's keys and is not its own: another program's, another cluster's, or unreadable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from models.store.client import PREFIX_ENV
from models.store.codec import decode
from models.store.errors import StoreDataError, StoreError
from models.store.keys import Keys
from models.store.records import ClusterRecord

LEASE_S = 10.0  # a controller that writes nothing for so long does not run

# KEYS: cluster, lease. ARGV: own id, own record, ms.
_MOVE_IN = """
local raw = redis.call('get', KEYS[1])
local read, found = pcall(cjson.decode, raw or '')
local id = read and type(found) == 'table' and found.cluster_id
if id and id ~= ARGV[1] and redis.call('exists', KEYS[2]) == 1 then return raw end
if id ~= ARGV[1] then redis.call('set', KEYS[1], ARGV[2]) end
redis.call('set', KEYS[2], '0', 'PX', ARGV[3])
return 1
"""


class KeysTaken(StoreError):
    """Something else lies where this installation keeps its state; the message names it and the cure."""


def kinds(keys: Keys) -> dict[str, str]:
    """Every key of one installation that there is only one of -> the Redis type that it has."""
    strings = (keys.routes, keys.fleet, keys.catalog, keys.history, keys.meters, keys.snapshot, keys.cluster)
    counters = (keys.controller_lease, keys.controller_epoch, keys.decisions_written, keys.tenancy_version)
    of_usage = (keys.usage_settling, keys.usage_lease)
    streams = (keys.decisions, keys.recording, keys.audit, keys.alerts, keys.gpu_timeline)
    return {
        **dict.fromkeys((*strings, *counters, *of_usage, keys.house), "string"),
        **dict.fromkeys((keys.commands, keys.commands_taken), "list"),
        **dict.fromkeys((*streams, keys.usage_events, keys.usage_settled), "stream"),
        **dict.fromkeys((keys.api_keys, keys.tenants, keys.usage_shipped, keys.usage_watermarks), "hash"),
    }


def foreign(found: Mapping[str, str], keys: Keys) -> list[str]:
    """A sentence for each key that has another type than it should. ``found``: key -> its type, "none" if unused."""
    return [
        f"{key} holds a {found[key]} where Roundhouse keeps a {kind}: another program uses that name; "
        f"set {PREFIX_ENV} to a name of its own, or delete that key"
        for key, kind in kinds(keys).items()
        if found.get(key, "none") not in ("none", kind)
    ]


async def check_keys(redis: Redis, keys: Keys) -> None:
    """Raises KeysTaken naming what is in the way, RedisError."""
    names = list(kinds(keys))
    async with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.type(name)
        said: list[Any] = await pipe.execute()
    wrong = foreign({name: _text(kind) for name, kind in zip(names, said, strict=True)}, keys)
    if wrong:
        raise KeysTaken("; ".join(wrong))


async def move_in(redis: Redis, keys: Keys, own: ClusterRecord, record: bytes) -> None:
    """These keys are this cluster's from now on. ``record``: ``own``, encoded.

    Raises KeysTaken while a controller of another cluster works with them, RedisError.
    """
    said = await redis.register_script(_MOVE_IN)(
        keys=[keys.cluster, keys.controller_lease], args=[own.cluster_id, record, round(LEASE_S * 1000)]
    )
    if isinstance(said, int):
        return
    raise KeysTaken(taken_by_other(decode(said, ClusterRecord, keys.cluster), keys))


def taken_by_other(other: ClusterRecord, keys: Keys) -> str:
    return (
        f"the keys under {keys.prefix!r} of this Redis belong to another cluster, which is running on {other.host}: "
        f"give each a name of its own with {PREFIX_ENV}, or stop that one and wait {LEASE_S:.0f} s"
    )


def set_aside(names: list[str]) -> list[str]:
    """A sentence for each key that a controller has set aside. ``names``: of those keys."""
    return [f"{name} holds what could not be read; delete it when it is of no use" for name in sorted(names)]


def owner(raw: bytes | str | None, keys: Keys) -> ClusterRecord | None:
    """Whose the keys are; None where nobody's, or it cannot be read."""
    try:
        return None if raw is None else decode(raw, ClusterRecord, keys.cluster)
    except StoreDataError:
        return None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
