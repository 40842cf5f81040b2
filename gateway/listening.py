"""Listening sockets, bound before anything heavy is loaded. A port may have several: the kernel deals callers out."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable

# While a worker is being replaced its callers wait here.
BACKLOG = 4096
RETRY_EVERY_S = 0.05


def listen(host: str, port: int, reuse_port: bool = False) -> socket.socket:
    """A listening TCP socket; ``port`` 0 lets the system choose. Raises OSError.

    ``reuse_port``: others of this user may listen there as well, when they say so, too (SO_REUSEPORT).
    """
    listener = _bound(host, port, reuse_port)
    try:
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def listen_together(
    host: str,
    port: int,
    count: int,
    patience_s: float = 0.0,
    pause: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> list[socket.socket]:
    """``count`` sockets on one port. Raises OSError.

    A port that somebody else has is refused although the kernel would let us share it: half of the callers would be
    theirs. ``patience_s``: for so long it may still be in the hands of those who are about to leave it.
    """
    until_s = now() + patience_s
    while True:
        try:
            _bound(host, port, reuse_port=False).close()
            break
        except OSError as refused:
            if refused.errno != errno.EADDRINUSE or now() >= until_s:
                raise
            pause(RETRY_EVERY_S)
    with contextlib.ExitStack() as undo:
        listeners = [undo.enter_context(listen(host, port, reuse_port=True))]
        chosen = listeners[0].getsockname()[1]
        listeners += [undo.enter_context(listen(host, chosen, reuse_port=True)) for _ in range(count - 1)]
        undo.pop_all()
        return listeners


def _bound(host: str, port: int, reuse_port: bool) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, proto, _, address = found[0]
    bound = socket.socket(family, kind, proto)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
