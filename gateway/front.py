"""The first and last thing a request meets: its id, its way (inference or control), its error answer, its log line."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import request_ids
from gateway.clock import Clock
from gateway.dialects import dialect_of
from gateway.endpoints import Endpoint, Paths
from gateway.errors import GatewayError, MethodNotAllowed, Unexpected
from gateway.exchange import Exchange
from gateway.headers import first
from gateway.inference import Inference
from gateway.logs_api import Leaving
from gateway.reply import Reply

log = structlog.get_logger(__name__)

Observer = Callable[[Exchange, float], None]


class Front:
    """The ASGI application. Inference paths go straight to ``inference``, everything else to ``control`` (FastAPI)."""

    def __init__(
        self,
        paths: Paths,
        inference: Inference,
        control: ASGIApp,
        observe: Observer,
        clock: Clock,
        leaving: Leaving,
    ) -> None:
        self.leaving = leaving
        self._paths = paths
        self._inference = inference
        self._control = control
        self._observe = observe
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._control(scope, receive, send)
            return
        exchange = Exchange(
            request_id=request_ids.accept(first(scope["headers"], b"x-request-id")),
            method=scope["method"],
            path=scope["path"],
            started_s=self._clock.monotonic(),
        )
        scope.setdefault("state", {})["exchange"] = exchange
        reply = Reply(send, exchange, self._clock)
        endpoint, model = self._paths.find(exchange.path) or (None, None)
        try:
            if endpoint is None:
                # HEAD is GET whose body the server leaves out.
                as_get = {**scope, "method": "GET"} if exchange.method == "HEAD" else scope
                await self._control(as_get, receive, reply.send)
            else:
                await self._infer(endpoint, model, scope, receive, reply)
        except GatewayError as error:
            await reply.error(error, endpoint.dialect if endpoint else dialect_of(exchange.path))
        except Exception:
            log.exception("unexpected error", request_id=exchange.request_id)
            # When the answer had begun it stays unfinished, and the server closes the connection.
            if not reply.started:
                await reply.error(Unexpected(exchange.request_id), dialect_of(exchange.path))
        finally:
            self._observe(exchange, self._clock.monotonic() - exchange.started_s)

    async def _infer(self, endpoint: Endpoint, model: str | None, scope: Scope, receive: Receive, reply: Reply) -> None:
        exchange = reply.exchange
        exchange.endpoint = endpoint.name
        if exchange.method == "OPTIONS":
            await reply.whole(204, [(b"allow", f"OPTIONS, {endpoint.method}".encode())], b"")
        elif exchange.method != endpoint.method:
            raise MethodNotAllowed(exchange.method, exchange.path, (endpoint.method, "OPTIONS"))
        else:
            await self._inference.serve(endpoint, scope, receive, reply, model)
