"""What stands before an engine's application: counts what is in flight, shuts, and cuts what does not end in time."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from models.runtimes.host.gate_socket import GateSocket, refuse_socket
from models.runtimes.protocol import Asgi

# A cut application is told that its client has left, which frees the sequence; after this long it is cancelled.
LEAVE_S = 1.0
_DISCONNECT = {"type": "http.disconnect"}


class Gate:
    """An ASGI application that counts what is in flight and, when shut, answers 503 to all but GET.

    ``GET`` stays open so that health and metrics can be asked of an engine that is asleep. ``progress`` grows with
    everything that the application sends. An open WebSocket is waited for and cut like a request, but does not count as
    in flight: one that says nothing is no sign of a hang.
    """

    def __init__(self, app: Asgi) -> None:
        self._app = app
        self._flights: set[_Flight] = set()
        self._sockets: set[GateSocket] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._shut: bytes | None = None
        self.progress = 0

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    def shut(self, code: str, message: str) -> None:
        self._shut = _error(code, message)

    def open(self) -> None:
        self._shut = None

    async def drained(self) -> None:
        await self._idle.wait()

    async def cut(self, code: str, message: str) -> int:
        """End all that is in flight; how many there were. Each is told why, as far as its answer still can.

        Their sequences are freed as if the clients had left. Returns when the application has let go of them, at the
        latest LEAVE_S after it was cancelled.
        """
        flights: tuple[_Flight | GateSocket, ...] = (*self._flights, *self._sockets)
        for flight in flights:
            flight.cut(code, message)
        if flights:
            _, late = await asyncio.wait([flight.over for flight in flights], timeout=LEAVE_S)
            for flight in flights:
                if flight.over in late:
                    flight.cancel()
            if late:
                await asyncio.wait(late, timeout=LEAVE_S)
        return len(flights)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
        elif self._shut is not None:
            await _refuse(send, self._shut)
        else:
            flight = _Flight(self, receive, send)
            self._flights.add(flight)
            self._idle.clear()
            try:
                await flight.fly(self._app, scope)
            finally:
                self._flights.discard(flight)
                self._look_idle()

    async def _socket(self, scope: Any, receive: Any, send: Any) -> None:
        if self._shut is not None:
            await refuse_socket(scope, receive, send, self._shut)
            return
        opened = GateSocket(receive, send)
        self._sockets.add(opened)
        self._idle.clear()
        try:
            await opened.talk(self._app, scope)
        finally:
            self._sockets.discard(opened)
            self._look_idle()

    def _look_idle(self) -> None:
        if not self._flights and not self._sockets:
            self._idle.set()


class _Flight:
    """One request between the server and the application."""

    def __init__(self, gate: Gate, receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = loop.create_future()
        self._gate = gate
        self._receive_from_client = receive
        self._send_to_client = send
        self._why: asyncio.Future[tuple[str, str]] = loop.create_future()
        self._began = self._events = self._ended = False
        self._task = asyncio.current_task()

    def cut(self, code: str, message: str) -> None:
        if not self._why.done():
            self._why.set_result((code, message))

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def fly(self, app: Asgi, scope: Any) -> None:
        try:
            await app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            if not self._why.done():
                raise
        except Exception:
            if not self._why.done():  # a cut application may stumble; its client learns of the cut alone
                raise
        try:
            if self._why.done() and not self._ended:
                await self._tell(*self._why.result())
        finally:
            if not self.over.done():
                self.over.set_result(None)

    async def _receive(self) -> Any:
        if self._why.done():
            return _DISCONNECT
        hearing = asyncio.ensure_future(self._receive_from_client())
        try:
            await asyncio.wait((hearing, self._why), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not hearing.done():
                hearing.cancel()
        return hearing.result() if hearing.done() and not hearing.cancelled() else _DISCONNECT

    async def _send(self, message: Any) -> None:
        if self._why.done():
            return
        if message["type"] == "http.response.start":
            self._began = True
            self._events = any(
                name.lower() == b"content-type" and value.startswith(b"text/event-stream")
                for name, value in message.get("headers", ())
            )
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self._ended = True
        self._gate.progress += 1
        await self._send_to_client(message)

    async def _tell(self, code: str, message: str) -> None:
        """A cut answer that is no stream of events stays unfinished: nobody must take it for a whole one."""
        if not self._began:
            await _refuse(self._send_to_client, _error(code, message))
        elif self._events:
            # ``type`` beside ``error``: so Anthropic's and the Responses API's readers know it for what it is.
            event = b"event: error\ndata: " + _error(code, message, type="error") + b"\n\n"
            await self._send_to_client({"type": "http.response.body", "body": event, "more_body": False})


def _error(code: str, message: str, **beside: str) -> bytes:
    error = {"message": message, "type": "service_unavailable", "param": None, "code": code}
    return msgspec.json.encode({**beside, "error": error})


async def _refuse(send: Any, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
