"""Locks between processes that end with their holder, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.1


@contextmanager
def locked(
    path: Path,
    *,
    on_wait: Callable[[], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the lock file ``path``. ``on_wait`` is called again and again while somebody else holds it."""
    handle = _open(path)
    try:
        if on_wait is None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        while on_wait is not None and not _try(handle):
            on_wait()
            sleep(POLL_S)
        yield
    finally:
        os.close(handle)


@contextmanager
def tried(path: Path) -> Iterator[bool]:
    """Whether the lock could be had; it is held meanwhile when it could."""
    handle = _open(path)
    try:
        yield _try(handle)
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether somebody holds it now."""
    if not path.exists():
        return False
    with tried(path) as mine:
        return not mine


def _open(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
