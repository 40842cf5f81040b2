"""The admin API on a port of its own: where callers of models come in it is not to be found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import NotFound

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

ROOT = "admin"  # the first part of every path of the admin API


class AdminPort:
    """Around the control application. All else it answers on both ports."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises NotFound."""
        server = scope.get("server")
        if scope["path"].split("/")[1:2] == [ROOT] and (server is None or server[1] != self._port):
            raise NotFound("There is nothing at this path on this port.", code="not_found")
        await self._app(scope, receive, send)
