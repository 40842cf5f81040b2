"""uvicorn, made to our measure: a listener bound early, errors in our form, a clean end on SIGTERM."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.dialects import Dialect, error_object
from gateway.errors import InvalidRequest
from gateway.request_ids import new_request_id

BACKLOG = 2048
# Longer than the idle time of common clients (5 s in httpx): the one who sends should be the one who lets go.
KEEP_ALIVE_S = 75


class Protocol(HttpToolsProtocol):
    """What cannot be parsed has no request and reaches no application; it is told so in the usual form all the same."""

    def send_400_response(self, msg: str) -> None:
        request_id = new_request_id()
        error = InvalidRequest("The request is not valid HTTP/1.1.", code="invalid_http")
        body = msgspec.json.encode(error_object(error, Dialect.OPENAI, request_id))
        head = (
            b"content-type: application/json\r\n"
            b"x-request-id: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (request_id.encode(), len(body))
        )
        self.transport.write(STATUS_LINE[400] + head + body)
        self.transport.close()


class Server(uvicorn.Server):
    """Calls ``on_listening`` once requests are answered; ends normally, not by the signal that asked for it.

    ``on_leaving`` is called when it is told to end, as a signal's handler is: it may set a flag and no more.
    """

    def __init__(
        self, config: uvicorn.Config, on_listening: Callable[[], None], on_leaving: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_listening = on_listening
        self._on_leaving = on_leaving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would raise the signal again at the end. A second one ends the wait for open streams.
        self.force_exit = self.should_exit
        self.should_exit = True
        self._on_leaving()


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; ``port`` 0 lets the system choose. Raises OSError."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def make_server(
    app: Any,
    drain_timeout_s: float,
    on_listening: Callable[[], None],
    on_leaving: Callable[[], None] = lambda: None,
) -> Server:
    """``run(sockets=[...])`` serves until SIGTERM or SIGINT; then open answers have ``drain_timeout_s`` to finish."""
    config = uvicorn.Config(
        app,
        http=Protocol,
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(drain_timeout_s)),
    )
    return Server(config, on_listening, on_leaving)
