"""An engine's second entrance, for gateways of other nodes: a TCP port of the node's address, behind the cluster's key.

The first is a unix socket that its owner alone may use, and needs no key.
"""

from __future__ import annotations

import contextlib
import hmac
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from models.runtimes.host.gate_socket import refuse_socket
from models.runtimes.protocol import KEY_HEADER, Asgi, EngineError, EngineOrder

FORBIDDEN = msgspec.json.encode(
    {
        "error": {
            "message": f"This is an engine's port for gateways: they show the cluster's key in {KEY_HEADER}.",
            "type": "permission_error",
            "param": None,
            "code": "wrong_cluster_key",
        }
    }
)
_NAME = KEY_HEADER.encode()


class Door:
    """Bound, not yet listening: nobody can connect before the engine is ready."""

    def __init__(self, listener: socket.socket, key: bytes) -> None:
        self.listener = listener
        self._key = key

    @classmethod
    def of(cls, order: EngineOrder) -> Door | None:
        """None where the order wants none. Raises EngineError."""
        if not order.tcp_host:
            return None
        try:
            key = Path(order.tcp_key_path).read_bytes().strip()
        except OSError as problem:
            raise EngineError(f"the key for other nodes cannot be read: {problem.strerror or problem}") from problem
        if not key:
            raise EngineError("the key for other nodes is empty")
        return cls(_bind(order.tcp_host), key)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def guard(self, app: Asgi) -> Asgi:
        """``app`` for those who show the key, which it does not get to see; 403 for all others."""

        async def guarded(scope: Any, receive: Any, send: Any) -> None:
            if self._opens(scope["headers"]):
                headers = [(name, value) for name, value in scope["headers"] if name != _NAME]
                await app({**scope, "headers": headers}, receive, send)
            elif scope["type"] == "websocket":
                await refuse_socket(scope, receive, send, FORBIDDEN, 403)
            else:
                await _forbid(send)

        return guarded

    def _opens(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        shown = [value for name, value in headers if name == _NAME]
        return len(shown) == 1 and hmac.compare_digest(shown[0], self._key)

    def close(self) -> None:
        self.listener.close()


def _bind(host: str) -> socket.socket:
    """A free port. Raises EngineError."""
    try:
        family, kind, proto, _, place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, proto)
    except OSError as problem:
        raise EngineError(f"{host} is no address of this node: {problem.strerror or problem}") from problem
    try:
        listener.bind(place)
    except OSError as problem:
        with contextlib.suppress(OSError):
            listener.close()
        raise EngineError(f"no port of {host} can be had on this node: {problem.strerror or problem}") from problem
    return listener


async def _forbid(send: Any) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(FORBIDDEN)).encode()),
        (b"connection", b"close"),  # whatever else it has to say
    ]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": FORBIDDEN})
