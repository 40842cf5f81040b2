"""An answer that comes in pieces, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import msgspec
from starlette.requests import Request
from starlette.responses import StreamingResponse

from models.runtimes.torch.api import as_api_error, while_connected

DONE = b"data: [DONE]\n\n"


def event(content: object, name: str | None = None) -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + msgspec.json.encode(content) + b"\n\n"


async def events_response(request: Request, events: AsyncGenerator[bytes, None]) -> StreamingResponse:
    """Waits for the first event: what goes wrong until then becomes an ordinary error answer (it is raised)."""
    first = await first_of(request, events)
    return StreamingResponse(_all(first, events), media_type="text/event-stream")


async def first_of(request: Request, pieces: AsyncIterator[bytes]) -> bytes:
    """Nothing when there are no pieces. Read the request's body before. Raises what the model raised."""

    async def first() -> bytes:
        return await anext(pieces, b"")

    return await while_connected(request, first())


async def _all(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield first
    try:
        async with aclosing(rest):
            async for each in rest:
                yield each
    except Exception as problem:  # noqa: BLE001 - the head is out: it is told inside the answer
        yield event(as_api_error(problem).body(), "error")
