"""How callers from the network are read before they have shown the key: not for ever, and not without end.

uvicorn itself bounds neither how long the head of a request is nor how long it takes.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 20.0  # from the connection, or from the head's first byte, to its last
HEAD_BYTES = 64 * 1024  # besides what comes with its last bytes


class Doorkeeper(HttpToolsProtocol):
    """Hangs up on a caller whose head takes longer than HEAD_S or is longer than HEAD_BYTES."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._late: asyncio.TimerHandle | None = None  # while a head is under way
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._late is None:
            self._begin_head()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._end_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._late is not None:  # all of it was head
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self.transport.abort()

    def _begin_head(self) -> None:
        self._head_bytes = 0
        self._late = self.loop.call_later(HEAD_S, self.transport.abort)

    def _end_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
