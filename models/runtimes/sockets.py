"""Unix sockets that only their owner may use."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

LONGEST_PATH_BYTES = 107


class SocketTaken(OSError):
    """Something living listens on the path already."""


def bind_private(path: str) -> socket.socket:
    """A bound, not yet listening stream socket of mode 0600; a dead one in its place is replaced.

    Raises SocketTaken when a living process listens there, OSError for a path that is too long or not writable.
    """
    if len(os.fsencode(path)) > LONGEST_PATH_BYTES:
        raise OSError(f"the socket path {path} is longer than {LONGEST_PATH_BYTES} bytes")
    Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if answers(path):
        raise SocketTaken(f"something listens on {path} already")
    remove(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        os.chmod(path, 0o600)  # before listen(), so nobody can have connected
    except OSError:
        listener.close()
        raise
    return listener


def answers(path: str) -> bool:
    """Whether a process listens on the socket at ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:  # its backlog is full: alive, if not well
            return True
        except OSError:
            return False
        return True


def remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
