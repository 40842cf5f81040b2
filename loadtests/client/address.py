"""Where connections go: looked up once, so that no call waits for a name."""

from __future__ import annotations

import _socket
import socket
import ssl
from dataclasses import dataclass
from typing import Any

from loadtests.target import Target, TargetError

LISTENS_S = 2.0


@dataclass(frozen=True, slots=True)
class Address:
    """``host``: the value of the Host header. ``tls``: None for plain HTTP."""

    family: int
    at: Any
    host: str
    tls: ssl.SSLContext | None = None
    server_name: str = ""

    def open(self) -> _socket.socket:
        """Not connected, and never waits. ``_socket``: gevent's sockets in its place would switch greenlets."""
        link = _socket.socket(self.family, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
        if self.family != socket.AF_UNIX:
            link.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        return link


def find_address(target: Target) -> Address:
    """Raises TargetError."""
    if target.socket_path:
        return Address(socket.AF_UNIX, target.socket_path, "localhost")
    try:
        known = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as problem:
        raise TargetError(f"{target.host} has no address: {problem}") from None
    places = [(family, at) for family, _, _, _, at in known]
    # ``localhost`` may be ::1 and 127.0.0.1, of which a service has one.
    family, at = next((place for place in places if _listens(*place)), places[0]) if len(places) > 1 else places[0]
    host = f"[{target.host}]" if ":" in target.host else target.host
    context = ssl.create_default_context() if target.secure else None
    return Address(int(family), at, f"{host}:{target.port}", context, target.host)


def _listens(family: int, at: Any) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as link:
        link.settimeout(LISTENS_S)
        return link.connect_ex(at) == 0
