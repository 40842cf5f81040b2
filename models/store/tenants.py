"""Tenants, the house's rules and API keys as they are kept in Redis: read together, and changed in one step.

A change is worked out on what was read and written only if all of that is still so: a key is of a tenant that there is,
a price list in use stays. With it go a new version, which gateways look at, and the audit log's word of it: there is
nothing half-done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from models.store.api_keys import decode_keys
from models.store.audit import AUDIT_MAX, FIELD, Who, audit_record
from models.store.codec import decode, encode
from models.store.errors import ChangedMeanwhile, StoreDataError
from models.store.keys import Keys
from models.store.records import KeyRecord
from models.store.tenancy import HouseRecord, TenantRecord

if TYPE_CHECKING:
    import redis

R = TypeVar("R")
_TRIES = 20  # of a change that others keep overtaking
_NOBODY: Mapping[str, TenantRecord] = {}
_log = logging.getLogger(__name__)

# KEYS: tenants, house, api_keys, tenancy_version, audit. ARGV: version that must be, tenancy channel,
# keys channel, audit's field, its most, then for each edit: place, field, before, after ("": none), audit record.
_COMMIT = """
local of = {tenant = KEYS[1], key = KEYS[3]}
local function now(place, name)
  if place == 'house' then return redis.call('get', KEYS[2]) end
  return redis.call('hget', of[place], name)
end
if (redis.call('get', KEYS[4]) or '0') ~= ARGV[1] then return -1 end
for i = 6, #ARGV, 5 do
  if (now(ARGV[i], ARGV[i + 1]) or '') ~= ARGV[i + 2] then return -1 end
end
local of_keys = false
for i = 6, #ARGV, 5 do
  local place, name, after = ARGV[i], ARGV[i + 1], ARGV[i + 3]
  of_keys = of_keys or place == 'key'
  if place == 'house' then redis.call('set', KEYS[2], after)
  elseif after == '' then redis.call('hdel', of[place], name)
  else redis.call('hset', of[place], name, after) end
  if ARGV[i + 4] ~= '' then redis.call('xadd', KEYS[5], 'MAXLEN', '~', ARGV[5], '*', ARGV[4], ARGV[i + 4]) end
end
local version = redis.call('incr', KEYS[4])
if of_keys then redis.call('publish', ARGV[3], version) end
redis.call('publish', ARGV[2], version)
return version
"""


class Place(StrEnum):
    TENANT = "tenant"
    HOUSE = "house"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Edit:
    """One record that becomes another. ``name``: the tenant's id or the key's digest; "" for the house. ``after``: None
    where it is gone. ``act``, ``what``: for the audit log, which leaves out an act of no name."""

    place: Place
    name: str
    after: TenantRecord | HouseRecord | KeyRecord | None
    act: str = ""
    what: str = ""
    # What the audit log shows, where that is not the whole record.
    shown_before: object = None
    shown_after: object = None


@dataclass(frozen=True, slots=True)
class Tenancy:
    """All of it at one moment. ``keys``: by digest."""

    version: int = 0
    house: HouseRecord = field(default_factory=HouseRecord)
    tenants: Mapping[str, TenantRecord] = field(default_factory=dict)
    keys: Mapping[str, KeyRecord] = field(default_factory=dict)
    raw: Mapping[tuple[str, str], bytes] = field(default_factory=dict)

    def before(self, edit: Edit) -> TenantRecord | HouseRecord | KeyRecord | None:
        if edit.place is Place.HOUSE:
            return self.house
        return (self.tenants if edit.place is Place.TENANT else self.keys).get(edit.name)


def decode_house(raw: bytes | str | None) -> HouseRecord:
    """Raises StoreDataError."""
    return HouseRecord() if raw is None else decode(raw, HouseRecord, "the house's rules")


def decode_tenants(
    raw: Mapping[Any, bytes | str], before: Mapping[str, TenantRecord] = _NOBODY
) -> dict[str, TenantRecord]:
    """By id. A broken one is logged, and stays as it was ``before`` where it was known: its limits must not vanish."""
    found: dict[str, TenantRecord] = {}
    for field_name, value in raw.items():
        tenant_id = field_name.decode(errors="replace") if isinstance(field_name, bytes) else str(field_name)
        try:
            found[tenant_id] = decode(value, TenantRecord, f"tenant {tenant_id[:100]}")
        except StoreDataError as error:
            _log.error("a tenant cannot be read: %s", error)
            if tenant_id in before:
                found[tenant_id] = before[tenant_id]
    return found


def read_tenancy(client: redis.Redis, keys: Keys) -> Tenancy:
    """Raises redis.RedisError, StoreDataError."""
    with client.pipeline(transaction=True) as pipe:
        pipe.get(keys.tenancy_version)
        pipe.get(keys.house)
        pipe.hgetall(keys.tenants)
        pipe.hgetall(keys.api_keys)
        found: list[Any] = pipe.execute()
    version, house, tenants, api_keys = found
    raw = {(Place.TENANT.value, name.decode()): value for name, value in tenants.items()}
    raw |= {(Place.KEY.value, name.decode()): value for name, value in api_keys.items()}
    if house is not None:
        raw[Place.HOUSE.value, ""] = house
    return Tenancy(int(version or 0), decode_house(house), decode_tenants(tenants), decode_keys(api_keys), raw)


def change(
    client: redis.Redis,
    keys: Keys,
    who: Who,
    now_unix_s: float,
    work: Callable[[Tenancy], tuple[Sequence[Edit], R]],
    *,
    version: int | None = None,
) -> R:
    """What ``work`` makes of all that is known, in one step seen by all. It may be called several times.

    ``version``: nothing is written unless it is still this one. Raises ChangedMeanwhile, what ``work`` raises,
    redis.RedisError, StoreDataError.
    """
    for _ in range(_TRIES):
        known = read_tenancy(client, keys)
        if version is not None and known.version != version:
            break
        edits, result = work(known)
        if not edits or _commit(client, keys, known, edits, who, now_unix_s):
            return result
    raise ChangedMeanwhile("somebody else changed this meanwhile; look at it again")


def _commit(
    client: redis.Redis,
    keys: Keys,
    known: Tenancy,
    edits: Sequence[Edit],
    who: Who,
    now_unix_s: float,
) -> bool:
    args: list[Any] = [known.version, keys.tenancy_channel, keys.api_keys_channel, FIELD, AUDIT_MAX]
    for edit in edits:
        after = b"" if edit.after is None else encode(edit.after)
        args += [edit.place.value, edit.name, known.raw.get((edit.place.value, edit.name), b""), after]
        args.append(_told(known, edit, who, now_unix_s))
    names = [keys.tenants, keys.house, keys.api_keys, keys.tenancy_version, keys.audit]
    return int(client.register_script(_COMMIT)(keys=names, args=args)) >= 0


def _told(known: Tenancy, edit: Edit, who: Who, now_unix_s: float) -> bytes:
    if not edit.act:
        return b""
    whole = edit.shown_before is None and edit.shown_after is None
    before = known.before(edit) if whole else edit.shown_before
    after = edit.after if whole else edit.shown_after
    return encode(audit_record(who, edit.act, edit.what or edit.name, before, after, now_unix_s))
