"""An application that is made when it is first needed: what it takes to load is not paid for by who never asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from gateway.plane.outlet import Ready

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class Later:
    """``make`` runs once, on a thread: requests go on meanwhile. ``pages``: path -> what a GET gets without it."""

    def __init__(self, make: Callable[[], ASGIApp], pages: Mapping[str, Callable[[], Awaitable[Ready]]]) -> None:
        self._make = make
        self._pages = pages
        self._more: list[Callable[[Any], None]] = []
        self._app: ASGIApp | None = None
        self._making: asyncio.Task[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what ``make`` raises; the next request tries again."""
        page = self._pages.get(scope["path"]) if scope["method"] == "GET" else None
        if page is not None:
            await _send(send, await page())
        else:
            app = self._app or await self.made()
            await app(scope, receive, send)

    def then(self, add: Callable[[Any], None]) -> None:
        """``add`` gets the application as soon as it is made: what it has besides. Before the first request."""
        self._more.append(add)

    async def made(self) -> ASGIApp:
        """The application."""
        if self._app is not None:
            return self._app
        if self._making is None:
            self._making = asyncio.create_task(asyncio.to_thread(self._whole))
        making = self._making
        try:
            # Whoever asked first may leave; the others still want it.
            self._app = await asyncio.shield(making)
        finally:
            if making.done() and self._making is making:
                self._making = None
        return self._app

    def _whole(self) -> ASGIApp:
        app = self._make()
        for add in self._more:
            add(app)
        return app


async def _send(send: Send, ready: Ready) -> None:
    lines = (line.partition(b": ") for line in ready.head.split(b"\r\n") if line)
    headers = [(name.lower(), value) for name, _, value in lines]
    headers.append((b"content-length", b"%d" % len(ready.body)))
    await send({"type": "http.response.start", "status": ready.status, "headers": headers})
    await send({"type": "http.response.body", "body": ready.body})
