"""Clients of the store, with timeouts that fit a control plane: nothing waits long for a server that is gone."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from models import cluster
from models.home import Home
from models.secret import NoSecret
from models.store.errors import StoreSettingError
from models.store.keys import Keys

URL_ENV = "ROUNDHOUSE_REDIS_URL"
PREFIX_ENV = "ROUNDHOUSE_REDIS_PREFIX"
SCHEMES = ("redis", "rediss", "unix")
CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 5.0
HEALTH_CHECK_S = 15
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:{}-]{0,63}", re.ASCII)


def redis_url(home: Home, env: Mapping[str, str] = os.environ) -> str:
    """Your own server by ROUNDHOUSE_REDIS_URL, else the embedded one: this machine's, or that of its cluster's head.

    Raises StoreSettingError (no password in it).
    """
    given = env.get(URL_ENV, "").strip()
    if not given:
        return embedded_url(home)
    try:
        parts = urlsplit(given)
        named = parts.path.startswith("/") and not parts.hostname if parts.scheme == "unix" else bool(parts.hostname)
        usable = parts.scheme in SCHEMES and named and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise StoreSettingError(
            f"{URL_ENV} is not a Redis URL; write redis://host:6379/0, rediss://user:password@host:6380/0 "
            "or unix:///path/to/redis.sock"
        )
    return given


def unix_url(path: Path, password: str | None = None) -> str:
    return f"unix://:{password}@{quote(str(path))}" if password else f"unix://{quote(str(path))}"


def embedded_url(home: Home) -> str:
    """The server that ``up`` starts, here or on the head of the cluster that was joined. Raises StoreSettingError."""
    try:
        joined, password = cluster.read(home), cluster.redis_password(home)
    except (cluster.ClusterFileError, NoSecret) as problem:
        raise StoreSettingError(str(problem)) from problem
    if joined is None or joined.leads:
        return unix_url(home.redis_socket, password)
    if password is None:
        raise StoreSettingError(f"the cluster uses a Redis of your own: name it in {URL_ENV} here, too, as on its head")
    return f"redis://:{password}@{joined.head}:{joined.redis_port}/0"


def keys_from(env: Mapping[str, str] = os.environ) -> Keys:
    """Keys under ROUNDHOUSE_REDIS_PREFIX, or under the usual prefix. Raises StoreSettingError."""
    prefix = env.get(PREFIX_ENV, "").strip()
    if not prefix:
        return Keys()
    if not _PREFIX.fullmatch(prefix):
        raise StoreSettingError(
            f"{PREFIX_ENV} may hold up to 64 letters, digits and . _ : {{ }} -, not {prefix[:80]!r}"
        )
    return Keys(prefix)


def connect(url: str, *, block_s: float = 0.0) -> redis.Redis:
    """Connects at first use. ``block_s``: the longest time that a blocking command is asked to wait at the server."""
    retry = Retry(ExponentialBackoff(cap=0.1, base=0.02), 2, (RedisConnectionError,))
    return redis.Redis.from_url(url, **_options(block_s), retry=retry)


def connect_async(url: str, *, block_s: float = 0.0) -> redis.asyncio.Redis:
    """Like ``connect``. Subscriptions need no ``block_s``: they wait for messages without end."""
    retry = AsyncRetry(ExponentialBackoff(cap=0.1, base=0.02), 2, (RedisConnectionError,))
    return redis.asyncio.Redis.from_url(url, **_options(block_s), retry=retry)


def _options(block_s: float) -> dict[str, Any]:
    # Only a lost connection is tried again: after a timeout the command may have been carried out.
    return {
        "decode_responses": False,
        "protocol": 2,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": ANSWER_TIMEOUT_S + block_s,
        "health_check_interval": HEALTH_CHECK_S,
        "client_name": "roundhouse",
    }
