"""A server for everybody: where no keys are named, a request without one is as good as any."""

from __future__ import annotations

import asyncio
import socket

from gateway.exchange import Exchange
from gateway.listening import BACKLOG
from gateway.plane.connection import Connection
from gateway.plane.heads import RequestHead
from gateway.plane.server import HANDSHAKE_TIMEOUT_S, Server
from gateway.standalone.access import NO_HASH


class OpenConnection(Connection):
    """Does not look for a key."""

    __slots__ = ()

    def _begin_inference(self, head: RequestHead, exchange: Exchange) -> None:
        head.key_hash = NO_HASH
        super()._begin_inference(head, exchange)


class OpenServer(Server):
    async def _listen(self, listener: socket.socket) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            lambda: OpenConnection(self._plane),
            sock=listener,
            backlog=BACKLOG,
            ssl=self._ssl,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S if self._ssl is not None else None,
        )
