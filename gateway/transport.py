"""The seam between a request and the bytes to an engine: who implements this decides nothing and knows no models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Protocol

from gateway.headers import Headers


class UpstreamLost(Exception):
    """The connection to an engine broke. ``connected`` is False when not a byte could be sent."""

    def __init__(self, reason: str, *, connected: bool) -> None:
        super().__init__(reason)
        self.connected = connected


class UpstreamResponse(Protocol):
    """An engine's answer, its head read. Must be closed; closing before the end closes the connection at once."""

    status: int
    headers: Headers

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, never empty pieces. Raises UpstreamLost when it breaks off before its end."""

    async def close(self) -> None: ...


class Transport(Protocol):
    async def open(self, endpoint: str, method: str, path: str, headers: Headers, body: bytes) -> UpstreamResponse:
        """Send the request to ``endpoint`` ("unix:/path" or "http://host:port") and return once the head is there.

        Raises UpstreamLost. Cancelling it closes the connection: so an engine learns that the client went away.
        """

    async def retain(self, endpoints: Collection[str]) -> None:
        """Let go of idle connections to any other endpoint."""

    async def close(self) -> None: ...
