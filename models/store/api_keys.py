"""API keys: made from random bytes, shown once, stored under their SHA-256.

A plain hash is enough: the text holds 192 random bits, so there is nothing to guess it from.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.store.codec import decode
from models.store.errors import NotThere, StoreDataError, TenancyRefused
from models.store.keys import Keys
from models.store.records import KeyRecord

if TYPE_CHECKING:
    import redis  # a gateway on its own checks keys without it

SCOPES = ("inference", "admin", "admin:read", "admin:write")
KEY_PREFIX = "rh-"
SHOWN_CHARACTERS = 9  # of the text, kept to recognise it; 156 random bits stay unknown
LONGEST_NAME = 100
_KEY_BYTES = 24
_ID_BYTES = 6
_log = logging.getLogger(__name__)


class KeyRefused(TenancyRefused):
    """A key that cannot be made; the message names the wrong part and the cure."""


class KeyNotFound(NotThere):
    """No key, or more than one, is meant by what was given; the message says which."""


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """``text`` is shown to its owner once and stored nowhere."""

    text: str = field(repr=False)
    digest: str
    record: KeyRecord


def hash_key(text: str) -> str:
    """Under which a key is stored: SHA-256 of its text, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def build_key(
    name: str,
    scopes: Iterable[str],
    now_unix_s: float,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    **settings: Any,
) -> CreatedKey:
    """A new key, not stored yet. ``settings``: other fields of KeyRecord. Raises KeyRefused."""
    check_name(name)
    wanted = check_scopes(scopes)
    text = new_text(random_bytes)
    record = KeyRecord(
        key_id=f"key_{random_bytes(_ID_BYTES).hex()}",
        name=name.strip(),
        scopes=wanted,
        prefix=text[:SHOWN_CHARACTERS],
        created_unix_s=now_unix_s,
        **settings,
    )
    return CreatedKey(text, hash_key(text), record)


def new_text(random_bytes: Callable[[int], bytes]) -> str:
    return KEY_PREFIX + base64.urlsafe_b64encode(random_bytes(_KEY_BYTES)).decode()


def check_name(name: str) -> None:
    """Raises KeyRefused."""
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise KeyRefused(f"the name of a key must be 1 to {LONGEST_NAME} printable characters", "name")


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """Each once. Raises KeyRefused."""
    wanted = tuple(dict.fromkeys(scopes))
    unknown = [scope for scope in wanted if scope not in SCOPES]
    if unknown or not wanted:
        said = f"unknown scope {unknown[0]!r}" if unknown else "no scope"
        raise KeyRefused(f"{said}; choose from {', '.join(SCOPES)}", "scopes")
    return wanted


def has_ended(record: KeyRecord, now_unix_s: float) -> bool:
    """Whether this text of a key works no more."""
    if record.revoked_unix_s is not None:
        return True
    return record.expires_unix_s is not None and now_unix_s >= record.expires_unix_s


def list_keys(client: redis.Redis, keys: Keys, *, revoked: bool = True) -> list[KeyRecord]:
    """Oldest first; ``revoked=False`` leaves out those that no longer work. Raises redis.RedisError."""
    records = decode_keys(client.hgetall(keys.api_keys)).values()
    wanted = (record for record in records if revoked or record.revoked_unix_s is None)
    return sorted(wanted, key=lambda record: (record.created_unix_s, record.key_id))


def find_key(records: Mapping[str, KeyRecord], which: str) -> dict[str, KeyRecord]:
    """All texts of the one key that is meant, the newest first, by digest. ``which``: its id, the first characters of a
    text as listed, or a whole text. Raises KeyNotFound; no message holds a key's text."""
    whole = records.get(hash_key(which))
    ids = {record.key_id for record in records.values() if which in (record.key_id, record.prefix)}
    if whole is not None:
        ids = {whole.key_id}
    if len(ids) == 1:
        found = [(digest, record) for digest, record in records.items() if record.key_id in ids]
        return dict(sorted(found, key=lambda one: one[1].created_unix_s, reverse=True))
    if ids:
        said = f"{which} is the beginning of several keys; name one by its id: {', '.join(sorted(ids))}"
        raise KeyNotFound(said, "key_id", "key_not_found")
    said = f"no key is named {which[: SHOWN_CHARACTERS + 8]!r}; `roundhouse keys list` shows their ids"
    raise KeyNotFound(said, "key_id", "key_not_found")


def decode_keys(raw: Mapping[Any, bytes | str]) -> dict[str, KeyRecord]:
    """The hash of keys as read from Redis, by digest. A broken entry is logged and left out: the rest keep working."""
    records: dict[str, KeyRecord] = {}
    for field_name, value in raw.items():
        digest = field_name.decode(errors="replace") if isinstance(field_name, bytes) else str(field_name)
        try:
            records[digest] = decode(value, KeyRecord, f"API key {digest[:12]}")
        except StoreDataError as error:
            _log.error("an API key is left out: %s", error)
    return records
