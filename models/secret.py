"""What the nodes of one cluster know and nobody else: one secret, and a key of its own for each purpose."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Literal

Purpose = Literal["door", "ray", "redis", "engines", "weights"]
LEAST_CHARACTERS = 32


class NoSecret(Exception):
    """There is no usable secret; the message names the file and the cure."""


def make(path: Path) -> str:
    """The secret in this file, drawn now if there is none. Readable by its owner alone. Raises OSError, NoSecret."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        path.chmod(0o600)
    return read(path)


def read(path: Path) -> str:
    """Raises NoSecret."""
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as problem:
        why = f"there is no {path}" if isinstance(problem, FileNotFoundError) else problem
        raise NoSecret(f"the cluster's secret cannot be read: {why}; copy it from the head, mode 0600") from problem
    if len(secret) < LEAST_CHARACTERS:
        said = f"{path} holds {len(secret)} characters, a cluster's secret has at least {LEAST_CHARACTERS}"
        raise NoSecret(f"{said}; copy it from the head")
    return secret


def key(secret: str, purpose: Purpose) -> str:
    """A key for one purpose (HMAC-SHA-256, hex): who learns one learns neither the secret nor another one."""
    return hmac.new(secret.encode(), f"roundhouse {purpose}".encode(), hashlib.sha256).hexdigest()
