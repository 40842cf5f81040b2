"""Unix sockets that only their owner may use, and what can be sent through them besides bytes."""

from __future__ import annotations

import contextlib
import os
import socket
from array import array
from collections.abc import Sequence
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


# Python's own ``send_fds`` and ``recv_fds`` take flags and ignore them.


def send_with(channel: socket.socket, data: bytes, descriptors: Sequence[int], flags: int = 0) -> None:
    """One message, and copies of these file descriptors with it. Raises OSError when nobody can read it."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
    channel.sendmsg([data], rights, flags | socket.MSG_NOSIGNAL)


def receive_with(channel: socket.socket, longest: int, most: int) -> tuple[bytes, list[int]]:
    """A message and the descriptors that came with it, closed on exec; b"" after a hang-up. Raises OSError."""
    descriptors = array("i")
    room = socket.CMSG_LEN(most * descriptors.itemsize)
    data, controls, _, _ = channel.recvmsg(longest, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in controls:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return data, list(descriptors)


def remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
