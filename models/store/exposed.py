"""The embedded Redis where other machines have to reach it: on the head of a cluster, with a password."""

from __future__ import annotations

import os
from pathlib import Path

from models import cluster
from models.cluster import Cluster
from models.home import Home
from models.secret import NoSecret
from models.store.errors import StoreError

PONG = b"+PONG\r\n"


def ping(asked_for: str | None) -> bytes:
    """What a server with this password is asked on a bare socket; the last of the answering lines is to be PONG."""
    return b"PING\r\n" if asked_for is None else f"AUTH {asked_for}\r\nPING\r\n".encode()


def options(home: Home) -> dict[str, str]:
    """Where it listens besides its unix socket. Raises StoreError."""
    joined = _led(home)
    return {"port": "0"} if joined is None else {"port": str(joined.redis_port), "bind": joined.head}


def config_file(home: Home) -> tuple[Path, ...]:
    """The password is in a file that only its owner reads: everybody sees the words of a command. Raises StoreError."""
    return () if _led(home) is None else (home.run / "redis.conf",)


def write_config(home: Home) -> None:
    """Before the server starts. Raises StoreError, OSError."""
    for path in config_file(home):
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"requirepass {password(home)}\n")


def password(home: Home) -> str | None:
    """What it asks for, also on the unix socket; None where that is all it listens on. Raises StoreError."""
    try:
        return None if _led(home) is None else cluster.redis_password(home)
    except NoSecret as problem:
        raise StoreError(str(problem)) from problem


def _led(home: Home) -> Cluster | None:
    try:
        found = cluster.read(home)
    except cluster.ClusterFileError as problem:
        raise StoreError(str(problem)) from problem
    return found if found is not None and found.leads and not found.own_redis else None
