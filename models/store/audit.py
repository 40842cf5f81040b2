"""Who did what to the installation: one record per act, in a stream that only grows until it is capped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec

from models.store.codec import decode
from models.store.keys import Keys
from models.store.tenancy import AuditRecord

if TYPE_CHECKING:
    import redis

AUDIT_MAX = 100_000  # acts, about; 50 MB at the most
FIELD = "a"
_AT_ONCE = 500
_SECRETS = ("secret",)
HIDDEN = "(secret)"


@dataclass(frozen=True, slots=True)
class Who:
    """Does something. ``by``: a key's id, or cli:USER. ``address``: of the caller, where there is one."""

    by: str
    address: str = ""
    request_id: str = ""


def audit_record(who: Who, act: str, what: str, before: object, after: object, at_unix_s: float) -> AuditRecord:
    """``before``, ``after``: records or plain data; secrets in them are left out."""
    return AuditRecord(
        id="",
        at_unix_s=at_unix_s,
        by=who.by,
        act=act,
        what=what,
        before=_shown(before),
        after=_shown(after),
        address=who.address,
        request_id=who.request_id,
    )


def read_audit(
    client: redis.Redis,
    keys: Keys,
    *,
    since_unix_s: float = 0.0,
    until_unix_s: float | None = None,
    by: str = "*",
    act: str = "*",
    what: str = "*",
    limit: int = 100,
) -> list[AuditRecord]:
    """The newest first. ``by``, ``act``, ``what``: patterns. Raises redis.RedisError, StoreDataError."""
    found: list[AuditRecord] = []
    for record in _newest(client, keys, since_unix_s):
        late = until_unix_s is not None and record.at_unix_s > until_unix_s
        if late or not (fnmatchcase(record.by, by) and fnmatchcase(record.act, act) and fnmatchcase(record.what, what)):
            continue
        found.append(record)
        if len(found) >= limit:
            break
    return found


def _newest(client: redis.Redis, keys: Keys, since_unix_s: float) -> Iterator[AuditRecord]:
    newest = "+"
    while True:
        entries: Any = client.xrevrange(keys.audit, max=newest, count=_AT_ONCE)
        for entry_id, fields in entries:
            record = decode(fields[FIELD.encode()], AuditRecord, keys.audit)
            if record.at_unix_s < since_unix_s:
                return
            yield msgspec.structs.replace(record, id=entry_id.decode())
        if len(entries) < _AT_ONCE:
            return
        newest = f"({entries[-1][0].decode()}"


def _shown(value: object) -> Any:
    return None if value is None else _without_secrets(msgspec.to_builtins(value))


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: HIDDEN if name in _SECRETS and part else _without_secrets(part) for name, part in value.items()}
    return [_without_secrets(part) for part in value] if isinstance(value, list | tuple) else value
