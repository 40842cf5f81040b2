"""Records in and out of Redis, typed. Unknown fields are skipped, so that versions can run side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from models.store.errors import StoreDataError

if TYPE_CHECKING:
    import redis
    import redis.asyncio

T = TypeVar("T")


def encode(record: object) -> bytes:
    return msgspec.json.encode(record)


def decode(raw: bytes | str, kind: type[T], key: str) -> T:
    """Raises StoreDataError naming ``key``."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreDataError(f"what is stored under {key} is not a {_name(kind)}: {error}") from error


def load(client: redis.Redis, key: str, kind: type[T]) -> T | None:
    """None: there is nothing under ``key``. Raises StoreDataError, redis.RedisError."""
    raw = client.get(key)
    return None if raw is None else decode(raw, kind, key)


def save(client: redis.Redis, key: str, record: object, ttl_s: float | None = None) -> None:
    """``ttl_s``: it expires after this time. Raises redis.RedisError."""
    client.set(key, encode(record), px=None if ttl_s is None else round(ttl_s * 1000))


async def load_async(client: redis.asyncio.Redis, key: str, kind: type[T]) -> T | None:
    """None: there is nothing under ``key``. Raises StoreDataError, redis.RedisError."""
    raw = await client.get(key)
    return None if raw is None else decode(raw, kind, key)


async def save_async(client: redis.asyncio.Redis, key: str, record: object, ttl_s: float | None = None) -> None:
    """``ttl_s``: it expires after this time. Raises redis.RedisError."""
    await client.set(key, encode(record), px=None if ttl_s is None else round(ttl_s * 1000))


def _name(kind: type) -> str:
    return getattr(kind, "__name__", str(kind))
