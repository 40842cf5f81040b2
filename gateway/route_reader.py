"""The route table out of Redis, at a cost that follows what changed in it rather than how long it is.

A table of 10,000 models is 9 MB: reading all of it takes 60 ms, in which a worker does nothing else.
"""

from __future__ import annotations

import re

import msgspec
from redis.asyncio import Redis

from models.store.codec import decode
from models.store.records import ModelRoute, RouteTable

HEAD_BYTES = 48
_VERSION = re.compile(rb'\{"version":(\d+),')  # the first field of what ``codec.encode`` writes


class _Unread(msgspec.Struct, frozen=True):
    version: int
    models: tuple[msgspec.Raw, ...] = ()
    written_unix_s: float | None = None


class RouteReader:
    """Remembers the last table: a model that is written as it was is the same object as before."""

    def __init__(self) -> None:
        self._raws: tuple[msgspec.Raw, ...] = ()
        self._models: tuple[ModelRoute, ...] = ()

    async def newest(self, redis: Redis, key: str, version: int | None) -> RouteTable | None:
        """None when nothing is stored, or only ``version``. Raises StoreDataError, RedisError."""
        head = await redis.getrange(key, 0, HEAD_BYTES - 1)
        if not head or (version is not None and version_in(_bytes(head)) == version):
            return None
        raw = await redis.get(key)
        return None if raw is None else self.read(_bytes(raw), key)

    def read(self, raw: bytes, key: str) -> RouteTable:
        """Raises StoreDataError naming ``key``."""
        unread = decode(raw, _Unread, key)
        raws = unread.models
        if len(raws) == len(self._raws):
            models = tuple(
                before if each == raw_before else decode(bytes(each), ModelRoute, key)
                for each, raw_before, before in zip(raws, self._raws, self._models, strict=True)
            )
        else:
            known = {bytes(each): model for each, model in zip(self._raws, self._models, strict=True)}
            models = tuple(known.get(bytes(each)) or decode(bytes(each), ModelRoute, key) for each in raws)
        self._raws, self._models = raws, models
        return RouteTable(version=unread.version, models=models, written_unix_s=unread.written_unix_s)


def version_in(head: bytes) -> int | None:
    """The version in the first bytes of a table; None where it is not found there."""
    found = _VERSION.match(head)
    return int(found[1]) if found else None


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value
