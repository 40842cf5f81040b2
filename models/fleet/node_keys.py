"""The key that gateways of other nodes show to this node's engines, in a file that the engines can read."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from models import secret
from models.home import Home
from models.runtimes.protocol import EngineError


def engines_key_file(home: Home) -> Path:
    """Written anew each time: the cluster's secret may have changed. Raises EngineError when there is none."""
    try:
        key = secret.key(secret.read(home.cluster_secret), "engines")
    except secret.NoSecret as problem:
        raise EngineError(f"other nodes could not reach the engine: {problem}") from problem
    path = home.run / "engines.key"
    beside = path.with_suffix(f".{os.getpid()}.{os.urandom(4).hex()}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(key)
        beside.rename(path)
    except OSError as problem:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        raise EngineError(f"the key of this node's engines cannot be written: {problem.strerror}") from problem
    return path
