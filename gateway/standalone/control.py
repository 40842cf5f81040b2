"""What is asked besides inference: /health, /readyz, /version, /metrics and /v1/models.

An ASGI application by hand: FastAPI alone would take most of the half second in which a worker starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from gateway.abuse.guard import Guard
from gateway.accounts import Accounts
from gateway.auth import INFERENCE
from gateway.errors import MethodNotAllowed, NotFound
from gateway.metrics import CONTENT_TYPE
from gateway.routing import Routes
from gateway.standalone.access import Access
from gateway.version import version

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

MODELS = "/v1/models"
_METHODS = ("GET", "HEAD", "OPTIONS")
_JSON = "application/json"


class Readiness(msgspec.Struct, kw_only=True):
    """``routes``: in_force, or rejected while the file as it is now is wrong and an older state of it is in force."""

    status: str
    routes_version: int
    models: int
    routes: str


@dataclass(frozen=True, slots=True)
class Said:
    body: bytes
    status: int = 200
    content_type: str = _JSON


class Control:
    """``figures``: the metrics of all workers. ``rejected``: whether the last edit of a file could not be taken."""

    def __init__(
        self,
        routes: Routes,
        access: Access,
        accounts: Accounts,
        guard: Guard,
        figures: Callable[[], Awaitable[bytes]],
        rejected: Callable[[], bool],
    ) -> None:
        self._routes = routes
        self._access, self._accounts, self._guard = access, accounts, guard
        self._figures = figures
        self._rejected = rejected
        self._models: ASGIApp | None = None
        self._pages: dict[str, Callable[[], Awaitable[Said]]] = {
            "/health": self._health,
            "/readyz": self._ready,
            "/version": self._version,
            "/metrics": self._metrics,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises GatewayError while nothing was sent."""
        path, method = scope["path"], scope["method"]
        if path == MODELS or path.startswith(f"{MODELS}/"):
            await self._access.authenticate(scope["headers"], INFERENCE)
            await (await self._models_app())(scope, receive, send)
            return
        page = self._pages.get(path)
        if page is None:
            raise NotFound(f"There is nothing at {path[:200]}.")
        if method not in _METHODS:
            raise MethodNotAllowed(method, path, _METHODS)
        if method == "OPTIONS":
            await _send(send, 204, [(b"allow", ", ".join(_METHODS).encode())], b"")
            return
        said = await page()
        await _send(send, said.status, [(b"content-type", said.content_type.encode())], said.body)

    async def _models_app(self) -> ASGIApp:
        """The service's own pages. They need FastAPI, which is loaded, on a thread, when it is first needed."""
        if self._models is None:
            from gateway.standalone import models_app

            parts = self._routes, self._access, self._accounts, self._guard
            self._models = await asyncio.to_thread(models_app.build, *parts)
        return self._models

    async def _health(self) -> Said:
        return Said(b'{"status":"ok"}')

    async def _version(self) -> Said:
        return Said(msgspec.json.encode({"version": version()}))

    async def _ready(self) -> Said:
        """There is a table before there is a port: a worker that answers is ready."""
        state = Readiness(
            status="ready" if self._routes.loaded else "starting",
            routes_version=self._routes.version,
            models=len(self._routes.models),
            routes="rejected" if self._rejected() else "in_force",
        )
        return Said(msgspec.json.encode(state), 200 if self._routes.loaded else 503)

    async def _metrics(self) -> Said:
        return Said(await self._figures(), content_type=CONTENT_TYPE)


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
