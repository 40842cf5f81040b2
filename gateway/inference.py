"""Inference requests over ASGI: check the caller, read the body, relay; stop at once when the caller hangs up."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from starlette.types import Receive, Scope

from gateway.auth import INFERENCE, Authenticator
from gateway.endpoints import Endpoint
from gateway.errors import BodyTooLarge, ClientGone, InvalidRequest
from gateway.headers import Headers, first
from gateway.peek import check_content_type, check_declared_length, peek, peek_beside
from gateway.relay import Inquiry, Relay
from gateway.reply import Reply

LONGEST_HOLD_S = 3600.0
REQUEST_TIMEOUT = "x-request-timeout"


@dataclass(frozen=True, slots=True)
class Limits:
    """``hold_limit``: requests held per model."""

    max_body_bytes: int = 8 << 20
    hold_timeout_s: float = 120.0
    hold_limit: int = 1024


class Inference:
    def __init__(self, authenticator: Authenticator, relay: Relay, limits: Limits) -> None:
        self._authenticator = authenticator
        self._relay = relay
        self._limits = limits

    async def serve(
        self, endpoint: Endpoint, scope: Scope, receive: Receive, reply: Reply, model: str | None = None
    ) -> None:
        """``model``: where the path names it. Raises GatewayError while nothing was sent."""
        headers: Headers = scope["headers"]
        await self._authenticator.authenticate(headers, INFERENCE)
        check_content_type(first(headers, b"content-type"), first(headers, b"content-encoding"))
        most_bytes = min(endpoint.most_body_bytes or self._limits.max_body_bytes, self._limits.max_body_bytes)
        check_declared_length(first(headers, b"content-length"), most_bytes)
        hold_timeout_s = hold_timeout(first(headers, REQUEST_TIMEOUT.encode()), self._limits.hold_timeout_s)
        body = await read_body(receive, most_bytes)
        found = peek(body, endpoint) if model is None else peek_beside(body, model)
        reply.exchange.stream = found.stream
        inquiry = Inquiry(endpoint, found.model, headers, body, hold_timeout_s)
        await self._unless_gone(inquiry, receive, reply)

    async def _unless_gone(self, inquiry: Inquiry, receive: Receive, reply: Reply) -> None:
        """ASGI servers say nothing on sending to a caller who left; that is only heard by listening."""
        relaying = asyncio.ensure_future(self._relay.serve(inquiry, reply, reply.exchange))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((relaying, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not relaying.done():
                reply.exchange.client_gone = True
        finally:
            leaving.cancel()
            relaying.cancel()  # without effect when it is done
            await asyncio.wait((relaying, leaving))
        if not relaying.cancelled():
            relaying.result()  # raises what went wrong
        elif not reply.started:
            reply.exchange.status, reply.exchange.code = ClientGone.status, ClientGone.code


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """Counts what arrives, so a body without a length is capped as well. Raises BodyTooLarge and ClientGone."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("the caller left while sending the body")
        part = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def hold_timeout(header: str | None, default_s: float) -> float:
    """Seconds that the request may be held. Raises InvalidRequest when the header is not a number of seconds."""
    if header is None:
        return default_s
    try:
        seconds = float(header)
    except ValueError:
        seconds = math.nan
    if not (0 <= seconds < math.inf):
        raise InvalidRequest(
            f"The header {REQUEST_TIMEOUT} must be a number of seconds, such as 30.", param=REQUEST_TIMEOUT
        )
    return min(seconds, LONGEST_HOLD_S)
