"""Who is calling: API keys, looked up by their hash, cached, and usable for a while when the store is away."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.errors import Forbidden, StoreUnavailable, Unauthorized
from models.store.api_keys import has_ended, hash_key
from models.store.records import KeyRecord

INFERENCE = "inference"
ADMIN_READ = "admin:read"
ADMIN_WRITE = "admin:write"
INCLUDED_IN = {ADMIN_READ: (ADMIN_WRITE, "admin"), ADMIN_WRITE: ("admin",)}  # scope -> others that are enough for it

KNOWN_FOR_S = 60.0
UNKNOWN_FOR_S = 5.0
GRACE_S = 60.0  # a key seen this recently keeps working while the store is away
LOOKUP_TIMEOUT_S = 0.15  # a silent store adds at most these two to a request ...
LAST_LOOK_S = 0.04
GIVE_UP_S = 2.0  # nobody waits this long; a late answer still serves the next request
STORE_PAUSE_S = 1.0  # ... and is then left alone for this long
MOST_UNKNOWN = 10_000  # whoever tries keys fills no more memory than this
NOT_VALID = "The API key is not valid. Make one with 'roundhouse keys create'."
EXPIRED = "The API key has expired. Ask your operator for another, or rotate it with 'roundhouse keys rotate'."

log = structlog.get_logger(__name__)


class KeyStoreDown(Exception):
    """The store of keys cannot be asked."""


class KeyStore(Protocol):
    async def find(self, key_hash: str) -> KeyRecord | None:
        """Raises KeyStoreDown."""


class Doorman(Protocol):
    """Who may call. ``recall`` answers at once or says, by None, that ``authenticate_hash`` has to be waited for.

    All raise Unauthorized and Forbidden, those that ask a store StoreUnavailable.
    """

    def hash_of(self, headers: Iterable[tuple[bytes, bytes]]) -> str: ...

    def recall(self, key_hash: str, scope: str) -> KeyRecord | None: ...

    def has_seen(self, key_hash: str) -> bool:
        """Whether it is one that was good when it was last looked up."""

    async def authenticate_hash(self, key_hash: str, scope: str) -> KeyRecord: ...

    async def authenticate(self, headers: Iterable[tuple[bytes, bytes]], scope: str) -> KeyRecord: ...


@dataclass(slots=True)
class Known:
    key_hash: str
    record: KeyRecord
    fresh_until_s: float
    seen_s: float


class Authenticator:
    """Turns request headers into a KeyRecord. Keys are never kept, only their hashes.

    ``on_silence``: called when the store was waited for in vain: a request is not to wait for it twice.
    """

    def __init__(self, store: KeyStore, clock: Clock, on_silence: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._clock = clock
        self.on_silence = on_silence
        self._known: dict[str, Known] = {}
        self._unknown: OrderedDict[str, float] = OrderedDict()  # hash -> until when the answer stands
        self._asking: dict[str, asyncio.Task[KeyRecord | None]] = {}
        self._generation = 0  # of the keys, as far as this worker heard
        self._ask_again_s = float("-inf")

    async def authenticate(self, headers: Iterable[tuple[bytes, bytes]], scope: str) -> KeyRecord:
        """Raises Unauthorized, Forbidden (the key lacks ``scope``) and StoreUnavailable."""
        return await self.authenticate_hash(hash_of(headers), scope)

    async def authenticate_hash(self, key_hash: str, scope: str) -> KeyRecord:
        """The same for a key whose hash is at hand (``hash_of``)."""
        return self._allowed(await self._record(key_hash), scope)

    def hash_of(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Raises Unauthorized."""
        return hash_of(headers)

    def recall(self, key_hash: str, scope: str) -> KeyRecord | None:
        """What is known without asking the store; None: ``authenticate_hash`` must ask it. About 0.5 us.

        Raises Unauthorized and Forbidden where that is known.
        """
        now_s = self._clock.monotonic()
        known = self._known.get(key_hash)
        if known is None:
            if now_s < self._unknown.get(key_hash, float("-inf")):
                raise Unauthorized(NOT_VALID)
            return None
        if now_s >= known.fresh_until_s and not self._on_trust(known, now_s):
            return None
        known.seen_s = now_s
        return self._allowed(known.record, scope) if compare_digest(known.key_hash, key_hash) else None

    def _allowed(self, record: KeyRecord | None, scope: str) -> KeyRecord:
        if record is None or record.revoked_unix_s is not None:
            raise Unauthorized(NOT_VALID)
        if record.expires_unix_s is not None and has_ended(record, self._clock.unix()):
            raise Unauthorized(EXPIRED, code="expired_api_key")
        if scope not in record.scopes:
            check_scope(record, scope)
        return record

    def has_seen(self, key_hash: str) -> bool:
        return key_hash in self._known

    def _on_trust(self, known: Known, now_s: float) -> bool:
        """The store is away, as found a moment ago: it is not to be asked now, and the key was seen lately."""
        return now_s < self._ask_again_s and now_s - known.seen_s <= GRACE_S

    def invalidate(self) -> None:
        """Keys changed: ask the store about each again. What was seen still counts while the store is away."""
        self._generation += 1
        self._asking.clear()  # answers on their way may be from before
        self._unknown.clear()
        for known in self._known.values():
            known.fresh_until_s = float("-inf")

    async def _record(self, key_hash: str) -> KeyRecord | None:
        """1. Known and fresh. 2. Known not to exist. 3. What the store says. 4. The store is away: seen lately?"""
        now_s = self._clock.monotonic()
        known = self._known.get(key_hash)
        if known is not None and now_s < known.fresh_until_s:  # 1
            known.seen_s = now_s
            return known.record
        if now_s < self._unknown.get(key_hash, float("-inf")):  # 2
            return None
        if now_s >= self._ask_again_s:  # 3
            try:
                found = await self._ask(key_hash)
                kept = self._known.get(key_hash)
                return kept.record if kept is not None and kept.record == found else found
            except KeyStoreDown as down:
                self._ask_again_s = self._clock.monotonic() + STORE_PAUSE_S
                log.warning("the key store does not answer", reason=str(down))
                self.on_silence()
        if known is not None and now_s - known.seen_s <= GRACE_S:  # 4
            known.seen_s = now_s
            return known.record
        raise StoreUnavailable("API keys cannot be checked at the moment; try again.", retry_after_s=STORE_PAUSE_S)

    async def _ask(self, key_hash: str) -> KeyRecord | None:
        """One question per key at a time: a burst of first requests must not become a burst of connections.

        A late answer is not thrown away: it is remembered for the caller's next try. Raises KeyStoreDown.
        """
        asking = self._asking.get(key_hash)
        if asking is None:
            asking = self._asking[key_hash] = asyncio.ensure_future(self._store.find(key_hash))
            generation = self._generation
            asking.add_done_callback(lambda done: self._answered(key_hash, generation, done))
        # The second look is for a loop that stood still itself: its answer may be there, only not read yet.
        for patience_s in (LOOKUP_TIMEOUT_S, LAST_LOOK_S):
            await asyncio.wait((asking,), timeout=patience_s)
            if asking.done():
                return asking.result()
        raise KeyStoreDown("it takes too long")

    def _answered(self, key_hash: str, generation: int, done: asyncio.Task[KeyRecord | None]) -> None:
        if self._asking.get(key_hash) is done:
            del self._asking[key_hash]
        if done.cancelled() or done.exception() is not None:
            return
        self._ask_again_s = float("-inf")
        if generation == self._generation:  # else it may be from before the news
            self._remember(key_hash, done.result(), self._clock.monotonic())

    def _remember(self, key_hash: str, record: KeyRecord | None, now_s: float) -> None:
        if record is not None:
            self._unknown.pop(key_hash, None)
            before = self._known.get(key_hash)
            if before is not None and before.record == record:
                record = before.record  # its account is found by it
            self._known[key_hash] = Known(key_hash, record, fresh_until_s=now_s + KNOWN_FOR_S, seen_s=now_s)
            return
        self._known.pop(key_hash, None)
        self._unknown[key_hash] = now_s + UNKNOWN_FOR_S
        self._unknown.move_to_end(key_hash)
        while len(self._unknown) > MOST_UNKNOWN:
            self._unknown.popitem(last=False)


def hash_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The SHA-256 of the caller's key, in hex: the key itself goes no further. Raises Unauthorized. About 1 us."""
    given = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, credentials = value.strip().partition(b" ")
            if scheme.lower() == b"bearer" and (credentials := credentials.strip()):
                return _hash(credentials)
        elif name == b"x-api-key" and given is None:
            given = value.strip()
    if given:
        return _hash(given)
    raise Unauthorized("Send your API key as 'Authorization: Bearer <key>' or 'x-api-key: <key>'.")


def _hash(key: bytes) -> str:
    if key.isascii():
        return hashlib.sha256(key).hexdigest()
    return hash_key(key.decode("latin-1"))


def check_scope(record: KeyRecord, scope: str) -> None:
    """Raises Forbidden."""
    if scope not in record.scopes and not any(one in record.scopes for one in INCLUDED_IN.get(scope, ())):
        raise Forbidden(f"This API key does not have the scope '{scope}'.")
