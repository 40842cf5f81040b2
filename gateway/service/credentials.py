"""``demo.env``: where the service is and two keys to it, readable by its owner alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.home import Home

if TYPE_CHECKING:
    import redis

    from models.store.keys import Keys

URL, API_KEY, ADMIN_KEY = "ROUNDHOUSE_URL", "ROUNDHOUSE_API_KEY", "ROUNDHOUSE_ADMIN_KEY"
SCOPES = {API_KEY: "inference", ADMIN_KEY: "admin"}


@dataclass(frozen=True, slots=True)
class Credentials:
    url: str
    api_key: str
    admin_key: str


def ensure(home: Home, url: str, now_unix_s: float) -> Credentials:
    """Keys that work, those of ``demo.env`` if they still do, written there with the URL.

    Raises redis.RedisError, StoreError, OSError.
    """
    from models.store.client import connect, keys_from, redis_url

    client = connect(redis_url(home))
    try:
        return _ensure(home, url, client, keys_from(), now_unix_s)
    finally:
        client.close()


def _ensure(home: Home, url: str, client: redis.Redis, keys: Keys, now_unix_s: float) -> Credentials:
    from models.store.api_keys import decode_keys, has_ended, hash_key
    from models.store.key_edits import create_key

    known = decode_keys(client.hgetall(keys.api_keys))
    had = read(home.demo_env)
    texts = {}
    for variable, scope in SCOPES.items():
        text = had.get(variable, "")
        record = known.get(hash_key(text))
        works = record is not None and not has_ended(record, now_unix_s) and scope in record.scopes
        texts[variable] = text if works else create_key(client, keys, f"demo {scope}", (scope,), now_unix_s).text
    write(home.demo_env, {URL: url, **texts})
    return Credentials(url, texts[API_KEY], texts[ADMIN_KEY])


def read(path: Path) -> dict[str, str]:
    """Names and values of the file's lines; empty when there is none."""
    try:
        pairs = (line.partition("=") for line in path.read_text().splitlines() if "=" in line)
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in pairs}


def write(path: Path, values: dict[str, str]) -> None:
    """Whole or not at all, and at no moment readable by others."""
    partial = path.with_suffix(".env.part")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())
    partial.replace(path)
