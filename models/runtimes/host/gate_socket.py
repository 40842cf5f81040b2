"""A WebSocket between an engine's server and its application: let in, watched, and ended when its engine must rest."""

from __future__ import annotations

import asyncio
from typing import Any

from models.runtimes.protocol import Asgi

RESTARTING = 1012  # RFC 6455's registry: the service goes away for a moment, come again
LONGEST_REASON = 123  # bytes in a closing message
EXTENSION = "websocket.http.response"
GONE = {"type": "websocket.disconnect", "code": RESTARTING}


class GateSocket:
    """``over``: set when the application has let go of it."""

    def __init__(self, receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = loop.create_future()
        self._receive_from_client = receive
        self._send_to_client = send
        self._why: asyncio.Future[str] = loop.create_future()
        self._open = self._closed = False
        self._task = asyncio.current_task()

    def cut(self, code: str, message: str) -> None:
        if not self._why.done():
            self._why.set_result(f"{code}: {message}")

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def talk(self, app: Asgi, scope: Any) -> None:
        try:
            await app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            if not self._why.done():
                raise
        except Exception:
            if not self._why.done():  # a cut application may stumble; its client learns of the cut alone
                raise
        try:
            if self._why.done() and not self._closed:
                reason = self._why.result().encode()[:LONGEST_REASON].decode(errors="ignore")
                await self._send_to_client({"type": "websocket.close", "code": RESTARTING, "reason": reason})
        finally:
            if not self.over.done():
                self.over.set_result(None)

    async def _receive(self) -> Any:
        if self._why.done() and self._open:
            return GONE
        hearing = asyncio.ensure_future(self._receive_from_client())
        try:
            await asyncio.wait((hearing, self._why), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not hearing.done():
                hearing.cancel()
        if not hearing.done() or hearing.cancelled():
            return GONE
        message = hearing.result()
        self._closed = self._closed or message["type"] == "websocket.disconnect"
        return message

    async def _send(self, message: Any) -> None:
        if self._why.done():
            return
        self._open = self._open or message["type"] == "websocket.accept"
        self._closed = self._closed or message["type"] in ("websocket.close", f"{EXTENSION}.start")
        await self._send_to_client(message)


async def refuse_socket(scope: Any, receive: Any, send: Any, body: bytes, status: int = 503) -> None:
    """Answer with an error instead of opening it, where the server can."""
    await receive()  # the wish to connect
    if EXTENSION not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": RESTARTING})
        return
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": f"{EXTENSION}.start", "status": status, "headers": headers})
    await send({"type": f"{EXTENSION}.body", "body": body})
