"""Who may call: those in keys.yaml, or everybody. Nobody has to be asked, so the answer is always at hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from hmac import compare_digest

from gateway.auth import INFERENCE, check_scope, hash_of
from gateway.errors import Unauthorized
from gateway.standalone.keys_file import KeysFile
from models.store.api_keys import has_ended
from models.store.records import KeyRecord

ANYBODY = KeyRecord(
    key_id="anybody", name="anybody", scopes=(INFERENCE, "admin"), prefix="", created_unix_s=0.0, weight=1.0, priority=0
)
NO_HASH = ""
NOBODY: tuple[str, KeyRecord | None] = ("", None)
NOT_VALID = "The API key is not valid. Ask your operator for one."
EXPIRED = "The API key has expired. Ask your operator for another."


def records_of(keys: KeysFile) -> dict[str, KeyRecord]:
    """Hash -> what is known of its key."""
    return {
        key.hash: KeyRecord(
            key_id=key.key_id,
            name=key.name,
            scopes=tuple(key.scopes),
            prefix="",
            created_unix_s=0.0,
            revoked_unix_s=0.0 if key.revoked else None,
            weight=key.weight,
            priority=key.priority,
            models=key.models,
            endpoints=key.endpoints,
            expires_unix_s=key.expires_unix_s,
        )
        for key in keys.keys
    }


class Access:
    """Answers as ``gateway.auth.Authenticator`` does. ``records``: None lets everybody in."""

    def __init__(self, records: Mapping[str, KeyRecord] | None, unix: Callable[[], float] = time.time) -> None:
        self._known = _by_hash(records)
        self._unix = unix

    def replace(self, records: Mapping[str, KeyRecord]) -> None:
        """Other keys from now on. Requests that are under way go on."""
        self._known = _by_hash(records)

    def hash_of(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Raises Unauthorized."""
        return NO_HASH if self._known is None else hash_of(headers)

    def recall(self, key_hash: str, scope: str) -> KeyRecord:
        """Raises Unauthorized, Forbidden. About 0.4 us."""
        if self._known is None:
            return ANYBODY
        kept_hash, record = self._known.get(key_hash, NOBODY)
        if record is None or record.revoked_unix_s is not None or not compare_digest(kept_hash, key_hash):
            raise Unauthorized(NOT_VALID)
        if record.expires_unix_s is not None and has_ended(record, self._unix()):
            raise Unauthorized(EXPIRED, code="expired_api_key")
        if scope not in record.scopes:
            check_scope(record, scope)
        return record

    def has_seen(self, key_hash: str) -> bool:
        return self._known is None or key_hash in self._known

    async def authenticate_hash(self, key_hash: str, scope: str) -> KeyRecord:
        """Raises Unauthorized, Forbidden."""
        return self.recall(key_hash, scope)

    async def authenticate(self, headers: Iterable[tuple[bytes, bytes]], scope: str) -> KeyRecord:
        """Raises Unauthorized, Forbidden."""
        return self.recall(self.hash_of(headers), scope)


def _by_hash(records: Mapping[str, KeyRecord] | None) -> dict[str, tuple[str, KeyRecord | None]] | None:
    return None if records is None else {key_hash: (key_hash, record) for key_hash, record in records.items()}
