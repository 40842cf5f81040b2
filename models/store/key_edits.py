"""API keys are made, changed, given another text, and ended."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from models.store.api_keys import (
    SHOWN_CHARACTERS,
    CreatedKey,
    KeyRefused,
    build_key,
    check_name,
    check_scopes,
    find_key,
    has_ended,
    hash_key,
    new_text,
)
from models.store.audit import Who
from models.store.checks import check_key
from models.store.keys import Keys
from models.store.records import KeyRecord
from models.store.tenants import Edit, Place, Tenancy, change

if TYPE_CHECKING:
    import redis

SYSTEM = Who("roundhouse")
LATER_S = 0.001
SETTABLE = (
    "name", "scopes", "weight", "priority", "tenant", "project", "models", "endpoints", "expires_unix_s", "limits",
)  # fmt: skip


def create_key(
    client: redis.Redis,
    keys: Keys,
    name: str,
    scopes: Iterable[str],
    now_unix_s: float,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    *,
    who: Who = SYSTEM,
    **settings: Any,
) -> CreatedKey:
    """Store a new key. ``settings``: other fields of KeyRecord. Raises TenancyRefused, redis.RedisError."""
    created = build_key(name, scopes, now_unix_s, random_bytes, **settings)
    return change(client, keys, who, now_unix_s, lambda known: adding(known, created))


def revoke_key(client: redis.Redis, keys: Keys, which: str, now_unix_s: float, *, who: Who = SYSTEM) -> KeyRecord:
    """End all texts of a key (``find_key``). Doing it again changes nothing. Raises KeyNotFound, redis.RedisError."""
    return change(client, keys, who, now_unix_s, lambda known: revoking(known, which, now_unix_s))


def adding(known: Tenancy, created: CreatedKey) -> tuple[Sequence[Edit], CreatedKey]:
    """Raises TenancyRefused."""
    record = created.record
    check_key(known, record)
    return [Edit(Place.KEY, created.digest, record, "key.create", record.key_id)], created


def setting(known: Tenancy, which: str, fields: Mapping[str, Any]) -> tuple[Sequence[Edit], KeyRecord]:
    """All of its texts get these fields. Raises TenancyRefused."""
    fields = dict(fields)
    if "name" in fields:
        check_name(fields["name"])
    if "scopes" in fields:
        fields["scopes"] = check_scopes(fields["scopes"])
    texts = find_key(known.keys, which)
    newest = next(iter(texts.values()))
    changed = {digest: _with(record, fields, newest is record) for digest, record in texts.items()}
    for record in changed.values():
        check_key(known, record)
    edits = [
        Edit(Place.KEY, digest, record, "key.set", record.key_id)
        for digest, record in changed.items()
        if record != texts[digest]
    ]
    return edits, next(iter(changed.values()))


def revoking(known: Tenancy, which: str, now_unix_s: float) -> tuple[Sequence[Edit], KeyRecord]:
    """Raises KeyNotFound."""
    texts = find_key(known.keys, which)
    ended = {digest: _ended(record, now_unix_s) for digest, record in texts.items()}
    edits = [
        Edit(Place.KEY, digest, record, "key.revoke", record.key_id)
        for digest, record in ended.items()
        if record != texts[digest]
    ]
    return edits, next(iter(ended.values()))


def rotating(
    known: Tenancy,
    which: str,
    now_unix_s: float,
    overlap_s: float,
    expires_unix_s: float | None = None,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> tuple[Sequence[Edit], CreatedKey]:
    """The key gets another text; those that it has work ``overlap_s`` longer at most. The new one ends when the newest
    would have, or at ``expires_unix_s``. Raises KeyNotFound, KeyRefused."""
    texts = find_key(known.keys, which)
    working = {digest: record for digest, record in texts.items() if not has_ended(record, now_unix_s)}
    if not working:
        newest = next(iter(texts.values()))
        raise KeyRefused(f"{newest.key_id} works no more; make another: roundhouse keys create NAME", "key_id")
    newest = next(iter(working.values()))
    text = new_text(random_bytes)
    record = msgspec.structs.replace(
        newest,
        prefix=text[:SHOWN_CHARACTERS],
        created_unix_s=max(now_unix_s, newest.created_unix_s + LATER_S),  # the order of texts, whatever the clock does
        expires_unix_s=newest.expires_unix_s if expires_unix_s is None else expires_unix_s,
    )
    created = CreatedKey(text, hash_key(text), record)
    check_key(known, record)
    edits = [Edit(Place.KEY, created.digest, record, "key.rotate", record.key_id)]
    until_s = now_unix_s + overlap_s
    for digest, old in working.items():
        if old.expires_unix_s is None or old.expires_unix_s > until_s:
            last = msgspec.structs.replace(old, expires_unix_s=until_s)
            edits.append(Edit(Place.KEY, digest, last, "key.expire", old.key_id))
    return edits, created


def _ended(record: KeyRecord, now_unix_s: float) -> KeyRecord:
    if record.revoked_unix_s is not None:
        return record
    return msgspec.structs.replace(record, revoked_unix_s=now_unix_s)


def _with(record: KeyRecord, fields: Mapping[str, Any], is_newest: bool) -> KeyRecord:
    """An older text, which a rotation has given its end, gets none that is later."""
    given = {name: value for name, value in fields.items() if name in SETTABLE}
    if not is_newest and "expires_unix_s" in given:
        ends = [end for end in (record.expires_unix_s, given["expires_unix_s"]) if end is not None]
        given["expires_unix_s"] = min(ends, default=None)
    return msgspec.structs.replace(record, **given)
