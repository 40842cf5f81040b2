"""The admin API on a port of its own: where callers of models come in it is not to be found."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.admin import PREFIX
from gateway.errors import NotFound

_ROOT = PREFIX.split("/")[1]


class AdminPort:
    """Around the control application. All else it answers on both ports."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises NotFound."""
        server = scope.get("server")
        if scope["path"].split("/")[1:2] == [_ROOT] and (server is None or server[1] != self._port):
            raise NotFound("There is nothing at this path on this port.", code="not_found")
        await self._app(scope, receive, send)
