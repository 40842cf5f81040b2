"""One request's way: find the model, get a place or be held, send, stream back, settle."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from gateway.admission import Admission, Claim
from gateway.capabilities import check_capability
from gateway.dialects import error_event
from gateway.endpoints import Endpoint
from gateway.engine_errors import LARGEST_BODY_BYTES, EngineNotReady, rewrite
from gateway.errors import EngineLost, GatewayError
from gateway.exchange import Exchange
from gateway.headers import Headers, first, from_engine, to_engine
from gateway.sse import WholeEvents
from gateway.transport import Transport, UpstreamLost, UpstreamResponse

MAX_RETRIES = 2
# An unstreamed answer up to this size is read whole before its head goes out: until then it can still be retried.
WHOLE_ANSWER_BYTES = 1 << 20
_STREAM_HEADERS: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A checked request. ``hold_timeout_s``: for how long it may be held in all."""

    endpoint: Endpoint
    model: str  # as the caller wrote it: an id or an alias
    headers: Headers
    body: bytes
    hold_timeout_s: float


class Answer(Protocol):
    """Where the answer goes. Nothing was sent before ``start``; without ``finish`` the caller sees a broken answer."""

    async def start(self, status: int, headers: Headers) -> None: ...

    async def write(self, data: bytes) -> None: ...

    async def finish(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Begun:
    """An answer whose first bytes are here. ``whole``: there are no more."""

    response: UpstreamResponse
    chunks: AsyncIterator[bytes]
    first: bytes
    whole: bool
    events: bool  # text/event-stream


class Relay:
    def __init__(self, admission: Admission, transport: Transport) -> None:
        self._admission = admission
        self._transport = transport
        self._clock = admission.clock

    async def serve(self, inquiry: Inquiry, answer: Answer, exchange: Exchange) -> None:
        """Raises GatewayError while nothing was sent; after that, what goes wrong is told inside the answer.

        Cancelling it (the client went away) closes the engine's connection and frees the place held or taken.
        """
        route = self._admission.find(inquiry.model)
        exchange.model = route.model_id
        check_capability(route, inquiry.endpoint)
        self._admission.arrived(route)
        while True:
            claim = await self._admit(inquiry, exchange)
            exchange.replica = claim.replica
            try:
                begun = await self._begin(claim, inquiry, exchange)
                if begun is None:
                    continue
                try:
                    await self._pump(begun, claim, inquiry, answer, exchange)
                finally:
                    await begun.response.close()
                return
            finally:
                self._admission.give_back(claim)

    async def _admit(self, inquiry: Inquiry, exchange: Exchange) -> Claim:
        claim = self._admission.admit_now(inquiry.model)
        if claim is not None:
            return claim
        held_from_s = self._clock.monotonic()
        exchange.held = True
        try:
            deadline_s = held_from_s + inquiry.hold_timeout_s - exchange.hold_s
            return await self._admission.hold(inquiry.model, deadline_s)
        finally:
            exchange.hold_s += self._clock.monotonic() - held_from_s

    async def _begin(self, claim: Claim, inquiry: Inquiry, exchange: Exchange) -> Begun | None:
        """Send and wait for the first bytes; None when the replica was lost before them and another may be tried."""
        try:
            begun = await self._first_bytes(claim, inquiry, exchange)
        except (UpstreamLost, EngineNotReady) as lost:
            self._admission.routes.suspect(claim.replica, self._clock.monotonic())
            if exchange.retries >= MAX_RETRIES:
                message = f"The engine of the model '{claim.model}' went away {MAX_RETRIES + 1} times; try again."
                raise EngineLost(message, retry_after_s=1) from lost
            exchange.retries += 1
            return None
        except GatewayError:
            self._admission.routes.trust(claim.replica)
            raise
        self._admission.routes.trust(claim.replica)
        return begun

    async def _first_bytes(self, claim: Claim, inquiry: Inquiry, exchange: Exchange) -> Begun:
        endpoint = inquiry.endpoint
        headers = to_engine(inquiry.headers, exchange.request_id)
        path = endpoint.engine_path_for(claim.model)
        response = await self._transport.open(claim.endpoint, endpoint.method, path, headers, inquiry.body)
        try:
            chunks = response.chunks()
            if response.status >= 400:
                body, _ = await _read(chunks, LARGEST_BODY_BYTES)
                raise rewrite(
                    response.status, body, endpoint=endpoint, model=claim.model, request_id=exchange.request_id
                )
            media = first(response.headers, b"content-type") or ""
            events = media.startswith("text/event-stream")
            # Sound is listened to while it is made: an engine that does not say how much there will be sends it so.
            heard = media.startswith("audio/") and first(response.headers, b"content-length") is None
            body, whole = await _read(chunks, 1 if events or heard else WHOLE_ANSWER_BYTES)
            return Begun(response, chunks, body, whole, events)
        except BaseException:
            await response.close()
            raise

    async def _pump(self, begun: Begun, claim: Claim, inquiry: Inquiry, answer: Answer, exchange: Exchange) -> None:
        headers = from_engine(begun.response.headers)
        if begun.events:
            present = {name for name, _ in headers}
            headers += [(name, value) for name, value in _STREAM_HEADERS if name not in present]
        elif begun.whole:
            headers.append((b"content-length", str(len(begun.first)).encode()))
        await answer.start(begun.response.status, headers)
        whole_events = WholeEvents() if begun.events else None
        try:
            await _forward(begun, answer, whole_events)
        except UpstreamLost:
            lost = EngineLost(f"The engine of the model '{claim.model}' went away while it was answering.")
            exchange.broken, exchange.code = True, lost.code
            self._admission.routes.suspect(claim.replica, self._clock.monotonic())
            if whole_events is None:
                return  # unfinished on purpose: a caller must not take a cut answer for a whole one
            await answer.write(error_event(lost, inquiry.endpoint.dialect, exchange.request_id))
        await answer.finish()


async def _forward(begun: Begun, answer: Answer, whole_events: WholeEvents | None) -> None:
    if whole_events is None:
        await answer.write(begun.first)
        async for chunk in begun.chunks:
            await answer.write(chunk)
        return
    if ready := whole_events.feed(begun.first):
        await answer.write(ready)
    async for chunk in begun.chunks:
        if ready := whole_events.feed(chunk):
            await answer.write(ready)
    if rest := whole_events.rest():
        await answer.write(rest)


async def _read(chunks: AsyncIterator[bytes], enough_bytes: int) -> tuple[bytes, bool]:
    """Read until at least ``enough_bytes`` are there; also says whether the body ended before."""
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size >= enough_bytes:
            return b"".join(parts), False
    return b"".join(parts), True
