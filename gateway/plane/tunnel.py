"""A WebSocket through the gateway: opened like any request, then bytes both ways that nobody here looks into.

1. ``begin``: the caller's key and the model's name are looked at; the connection becomes the tunnel's.
2. ``_admit``: a place on a replica, at once or later; it is kept for as long as the WebSocket is open.
3. ``_connect``: a connection of its own to the engine, and the same request on it. Until the engine has said that it
   switches, a lost one means another try (R2).
4. ``_open``: what one side sends goes to the other; who reads slowly makes the other one wait. When one side ends, so
   does the other.
``_close`` settles everything exactly once, however it ends.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, cast

import structlog

from gateway.admit import Claim, Outcome
from gateway.auth import INFERENCE
from gateway.capabilities import check_capability
from gateway.dialects import error_body
from gateway.engine_errors import LARGEST_BODY_BYTES, EngineNotReady, rewrite
from gateway.errors import ClientGone, EngineLost, GatewayError, Unauthorized, Unexpected
from gateway.exchange import Exchange
from gateway.headers import lines
from gateway.inquiry import Inquiry, Peek
from gateway.metering.metered import Metered
from gateway.plane.handshake import (
    SWITCHING,
    check_upgrade,
    key_hash_of,
    model_of,
    opened,
    parse_opening,
    protocols_of,
    request_to,
)
from gateway.plane.heads import AnswerHead, BadHead, RequestHead
from gateway.plane.intake import State
from gateway.plane.paying import Paying
from gateway.plane.statuses import status_line
from gateway.plane.upstream import CONNECT_TIMEOUT_S, LONGEST_HEAD_BYTES, no_delay
from gateway.routing import is_cold
from models.store.records import KeyRecord

if TYPE_CHECKING:
    from gateway.accounts import Account
    from gateway.plane.connection import Connection
    from gateway.plane.plane import Plane

NEVER_S = float("inf")
LAST_BYTES_S = 0.5  # that an engine has to take what it was sent last; its caller is gone, and its slot is to be free

log = structlog.get_logger(__name__)


class Mode(Enum):
    WAITING = auto()  # for the key, or for a place
    OPENING = auto()  # the engine was asked
    REFUSED = auto()  # by the engine; what it says is being read
    OPEN = auto()
    CLOSED = auto()


class Tunnel(Metered, Paying, asyncio.Protocol):
    """The caller's end. ``deadline_s``: as of a connection (``Plane.tick``), when ``expire`` is called."""

    def __init__(self, plane: Plane, connection: Connection, head: RequestHead, exchange: Exchange) -> None:
        assert connection.transport is not None
        self.transport: asyncio.Transport = connection.transport
        self.exchange = exchange
        self.deadline_s = NEVER_S
        self._plane = plane
        self._connection = connection
        self._head = head
        self._mode = Mode.WAITING
        self._inquiry: Inquiry | None = None
        self._claim: Claim | None = None
        self._engine: EngineEnd | None = None
        self._task: asyncio.Task[None] | None = None
        self._held_since_s: float | None = None
        self._starting = False
        self._early: list[bytes] = []  # sent before the other side was there to hear it

    # -- 1: until the caller is known --------------------------------------------------------------------------------

    def begin(self) -> None:
        """Raises GatewayError for what can be seen to be wrong at once; the connection is as it was then."""
        check_upgrade(self._head, self._head.endpoint)
        plane = self._plane
        try:
            key_hash = key_hash_of(self._head.headers, plane.authenticator.hash_of)
            record = plane.authenticator.recall(key_hash, INFERENCE)
        except Unauthorized:
            plane.guard.check_stranger(self.exchange.address)
            raise
        if record is None and not plane.authenticator.has_seen(key_hash):
            plane.guard.check_stranger(self.exchange.address)
        model = model_of(self._head, self._head.endpoint)
        self._take_over()
        if record is None:
            self._run(self._authenticate(key_hash, model))
        else:
            self._known(record, model)

    def _take_over(self) -> None:
        """The connection has done its part: what happens to its transport from now on is told to the tunnel."""
        connection = self._connection
        connection.exchange = None
        connection._state = State.CLOSED
        connection.deadline_s = NEVER_S
        self._plane.connections.discard(connection)
        self._plane.connections.add(cast("Connection", self))
        self.transport.set_protocol(self)

    async def _authenticate(self, key_hash: str, model: str) -> None:
        record = await self._plane.authenticator.authenticate_hash(key_hash, INFERENCE)
        self._task = None
        self._known(record, model)

    def _known(self, record: KeyRecord, model: str) -> None:
        plane, exchange, head = self._plane, self.exchange, self._head
        exchange.key_id, exchange.tenant, exchange.project = record.key_id, record.tenant, record.project
        exchange.auth_s = plane.now() - exchange.started_s
        exchange.stream = True
        exchange.traceparent = plane.tracer.traceparent(head.traceparent)
        try:
            plane.guard.check_key(record.key_id)
            account = plane.accounts.of(record)
            account.check_endpoint(head.endpoint)
            if plane.recorder is not None and plane.recorder.full:
                raise plane.recorder.refusal()
            self._inquiry = inquiry = Inquiry(
                endpoint=head.endpoint,
                account=account,
                caller=account.caller,
                headers=head.headers,
                body=b"",
                peek=Peek(model=model, stream=True),
                deadline_s=exchange.started_s + plane.limits.hold_timeout_s,
            )
            route = plane.admission.find(model)
            exchange.model = route.model_id
            check_capability(route, head.endpoint)
            account.check_model(route, model)
            self._reserve(inquiry)
        except GatewayError as error:
            self.fail(error)
        except Exception:
            log.exception("unexpected error", request_id=exchange.request_id)
            self.fail(Unexpected(exchange.request_id))

    # -- 2: until there is a place -----------------------------------------------------------------------------------

    def _admit(self, inquiry: Inquiry) -> None:
        """Raises GatewayError."""
        self._mode = Mode.WAITING
        self.deadline_s = NEVER_S  # admission looks after those that wait
        claim = self._plane.admission.admit(inquiry, self)
        if claim is not None:
            self._connect(claim)
            return
        self.exchange.held = True
        self._held_since_s = self._plane.now()
        self._starting = is_cold(self._plane.admission.find(inquiry.peek.model))

    @property
    def account(self) -> Account | None:
        return None if self._inquiry is None else self._inquiry.account

    def admitted(self, claim: Claim) -> None:
        self._note_wait(woken=claim.woken)
        if self._mode is Mode.CLOSED:
            self._plane.admission.give_back(claim, Outcome.LEFT)
            return
        self._connect(claim)

    def refused(self, error: GatewayError) -> None:
        self._note_wait(woken=self._starting)
        self.fail(error)

    def _note_wait(self, *, woken: bool) -> None:
        if self._held_since_s is None:
            return
        waited_s, self._held_since_s = self._plane.now() - self._held_since_s, None
        if woken:
            self.exchange.wake_s += waited_s
        else:
            self.exchange.queue_s += waited_s

    # -- 3: until the engine has switched ----------------------------------------------------------------------------

    def _connect(self, claim: Claim) -> None:
        self._claim = claim
        self._plane.tunnels.add(self)
        self._mode = Mode.OPENING
        self.exchange.replica = claim.replica
        now_s = self._plane.now()
        self.deadline_s = now_s + self._plane.limits.request_timeout_s
        if self._plane.recorder is not None:
            self.from_s = now_s
            self._plane.recorder.note(self, self.account)
        self._run(self._ask(claim))

    async def _ask(self, claim: Claim) -> None:
        began_s = self._plane.now()
        engine = EngineEnd(self)
        pool = self._plane.upstreams.pool(claim.endpoint)
        address, endpoint = pool.address, self._head.endpoint
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if address.path is not None:
                    await loop.create_unix_connection(lambda: engine, address.path)
                else:
                    context = ssl.create_default_context() if address.tls else None
                    await loop.create_connection(lambda: engine, address.host, address.port, ssl=context)
        except (OSError, TimeoutError) as refused:
            self._task = None
            self.lost(type(refused).__name__)
            return
        self._task = None
        self._engine = engine
        self.exchange.connect_s += self._plane.now() - began_s
        name = claim.serves_as or self._named(claim)
        path = address.base + endpoint.engine_path_for(name).encode()
        trace = self.exchange.traceparent
        more = b"x-request-id: %b\r\n%b%b" % (
            self.exchange.request_id.encode(),
            b"" if trace is None else b"traceparent: %b\r\n" % trace.encode(),
            pool.extra_lines,
        )
        engine.write(request_to(self._head, path, address.authority, more, endpoint, name))

    def _named(self, claim: Claim) -> str:
        """As the caller does: an adapter has a name of its own."""
        return self._inquiry.peek.model if self._inquiry is not None else str(claim.model)

    def answered(self, answer: AnswerHead, rest: bytes) -> None:
        """The head of what the engine says, and what came with it."""
        if answer.status != SWITCHING:
            self._mode = Mode.REFUSED
            return
        try:
            told = opened(answer, protocols_of(self._head.headers))
        except BadHead as wrong:
            self.lost(wrong.message)
            return
        plane, exchange = self._plane, self.exchange
        self._mode = Mode.OPEN
        exchange.status = SWITCHING
        exchange.first_byte_s = plane.now() - exchange.started_s
        exchange.engine_s = exchange.first_byte_s - exchange.auth_s - exchange.hold_s - exchange.connect_s
        if self._claim is not None:
            plane.admission.answered(self._claim)
        if plane.recorder is not None:
            plane.recorder.note(self, self.account)
        request_id = b"x-request-id: %b\r\n" % exchange.request_id.encode()
        head = (status_line(SWITCHING), plane.date_line, told, request_id, self.limit_lines, b"\r\n")
        self.transport.write(b"".join(head))
        self._alive()
        if rest:
            self.sent(rest)
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)

    def complained(self, status: int, body: bytes) -> None:
        """The engine does not switch, and says why."""
        claim, inquiry = self._claim, self._inquiry
        assert claim is not None
        assert inquiry is not None
        error = rewrite(status, body, endpoint=inquiry.endpoint, model=claim.model, request_id=self.exchange.request_id)
        if isinstance(error, EngineNotReady):
            self._again(claim, inquiry, Outcome.BUSY)
        else:
            self.fail(error)

    def lost(self, reason: str, outcome: Outcome = Outcome.LOST) -> None:
        """The engine went away, or could not be reached."""
        claim, inquiry = self._claim, self._inquiry
        if self._mode is Mode.CLOSED or claim is None or inquiry is None:
            return
        if self._mode is Mode.OPEN:
            self._close(Outcome.OK)  # an engine may end a WebSocket; how, is between it and the caller
            return
        log.info("engine lost", request_id=self.exchange.request_id, replica=claim.replica, reason=reason)
        self._again(claim, inquiry, outcome)

    def _again(self, claim: Claim, inquiry: Inquiry, outcome: Outcome) -> None:
        again = self._plane.admission.may_retry(claim, self.exchange.retries)
        self._drop_engine()
        self._land(outcome)
        if not again:
            message = f"The engine of the model '{claim.model}' went away {self.exchange.retries + 1} times; try again."
            self.fail(EngineLost(message, retry_after_s=1))
            return
        if self._plane.recorder is not None:
            self._plane.recorder.left(self)
            self._plane.recorder.note(self, self.account)
        self.exchange.retries += 1
        inquiry.avoid = (*inquiry.avoid, claim.replica)
        try:
            self._admit(inquiry)
        except GatewayError as error:
            self.fail(error)

    # -- 4: bytes both ways ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.exchange.request_bytes += len(data)
        if self._mode is not Mode.OPEN or self._engine is None:
            if self.exchange.request_bytes > LARGEST_BODY_BYTES:
                self.kill()  # nobody speaks before the other side has answered
            else:
                self._early.append(data)
            return
        self._alive()
        self._engine.write(data)

    def sent(self, data: bytes) -> None:
        """By the engine."""
        self.exchange.answer_bytes += len(data)
        self._alive()
        self.transport.write(data)

    def _alive(self) -> None:
        self.deadline_s = self._plane.now() + self._plane.limits.idle_timeout_s

    def pause_writing(self) -> None:
        """The caller reads more slowly than the engine writes."""
        if self._engine is not None:
            self._engine.pause_reading()

    def resume_writing(self) -> None:
        if self._engine is not None:
            self._engine.resume_reading()

    def pause_reading(self) -> None:
        """The engine reads more slowly than the caller writes."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    # -- as a connection of the worker (``Plane.connections``) -------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone. Also when it was this side that hung up: then everything is settled already."""
        self._plane.connections.discard(cast("Connection", self))
        if self._mode not in (Mode.OPEN, Mode.CLOSED):
            self.exchange.client_gone = True
            self.exchange.status, self.exchange.code = ClientGone.status, ClientGone.code
            self._close(Outcome.LEFT)
        self._close(Outcome.OK)

    def expire(self, now_s: float) -> None:
        """The engine does not answer, or nothing has been said for long."""
        self.deadline_s = NEVER_S
        if self._mode in (Mode.OPENING, Mode.REFUSED):
            self._stop_task()
            self.lost("it does not answer", Outcome.STALLED)
        elif self._mode is Mode.CLOSED:
            self.kill()  # it does not take what it was sent last
        else:
            self._close(Outcome.OK)

    def drain(self) -> None:
        """An open WebSocket goes on for as long as the worker may take to end."""

    def kill(self) -> None:
        self.transport.abort()

    # -- the end -----------------------------------------------------------------------------------------------------

    def _run(self, step: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._guarded(step))

    async def _guarded(self, step: Coroutine[Any, Any, None]) -> None:
        try:
            await step
        except GatewayError as error:
            self._task = None
            self.fail(error)
        except Exception:
            log.exception("unexpected error", request_id=self.exchange.request_id)
            self._task = None
            self.fail(Unexpected(self.exchange.request_id))

    def fail(self, error: GatewayError) -> None:
        """Instead of a WebSocket the caller gets an ordinary error answer."""
        if self._mode is Mode.CLOSED:
            return
        exchange = self.exchange
        exchange.status, exchange.code = error.status, error.code
        self._give_up(Outcome.OK, answered=self._is_charged(error))
        body = error_body(error, self._head.endpoint.dialect, exchange.request_id)
        told = [(name.encode(), value.encode()) for name, value in error.headers()]
        told += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        told += [(b"x-request-id", exchange.request_id.encode()), (b"connection", b"close")]
        head = b"".join((status_line(error.status), self._plane.date_line, lines(told), self.limit_lines))
        self.transport.write(b"%b\r\n%b" % (head, body))
        self._end()

    def _close(self, outcome: Outcome) -> None:
        """Both sides end when they have what was sent to them."""
        if self._mode is not Mode.CLOSED:
            self._give_up(outcome)
            self._end()

    def _give_up(self, outcome: Outcome, *, answered: bool = True) -> None:
        """Everything it held is given back, and its usage written down, once."""
        self._mode = Mode.CLOSED
        self.deadline_s = self._plane.now() + self._plane.limits.linger_s
        if self._held_since_s is not None:
            self._plane.admission.leave(self)
            self._note_wait(woken=self._starting)
        self._stop_task()
        self._drop_engine()
        self._land(outcome)
        if self._plane.recorder is not None:
            self._plane.recorder.over(self, self.exchange.status, self.account)
        if self._allowance is not None:
            self._allowance.settle(self, self.exchange.usage, answered=answered and self.exchange.replica is not None)

    def _end(self) -> None:
        self._plane.observe(self.exchange)
        self.transport.close()

    def _land(self, outcome: Outcome) -> None:
        claim, self._claim = self._claim, None
        if claim is not None:
            target = claim.target
            self._plane.tunnels.discard(self)
            self._plane.admission.give_back(claim, outcome)
            if self._allowance is not None and target is not None:
                self._allowance.ran(claim.shared_s, target)

    def _stop(self) -> None:
        """A WebSocket that is open has no place for an error: it ends."""
        if self._mode is Mode.OPEN:
            self._close(Outcome.OK)

    def _drop_engine(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.end()

    def _stop_task(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()


class EngineEnd(asyncio.Protocol):
    """The engine's end: first an answer with a head, then bytes for as long as it lasts."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel: Tunnel | None = tunnel
        self._transport: asyncio.Transport | None = None
        self._head: AnswerHead | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from it
        no_delay(transport)
        if self._tunnel is None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        tunnel = self._tunnel
        if tunnel is None:
            return
        if self._head is not None and self._head.status == SWITCHING:
            tunnel.sent(data)
            return
        self._buffer += data
        if self._head is None:
            self._read_head(tunnel)
        elif len(self._buffer) >= self._expected():
            tunnel.complained(self._head.status, self._buffer)

    def _read_head(self, tunnel: Tunnel) -> None:
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(self._buffer) > LONGEST_HEAD_BYTES:
                tunnel.lost("the head of its answer is too long")
            return
        raw, self._buffer = self._buffer[:end], self._buffer[end:]
        try:
            head = parse_opening(raw)
        except BadHead as wrong:
            tunnel.lost(wrong.message)
            return
        self._head = head
        rest = self._buffer
        tunnel.answered(head, rest if head.status == SWITCHING else b"")
        if head.status != SWITCHING and len(rest) >= self._expected():
            tunnel.complained(head.status, rest)

    def _expected(self) -> int:
        """How much of a refusal is read: as long as it says to be; else until it ends."""
        assert self._head is not None
        for name, value in self._head.headers:
            if name == b"content-length" and value.isdigit() and len(value) < 10:
                return min(int(value), LARGEST_BODY_BYTES)
        return LARGEST_BODY_BYTES

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def pause_writing(self) -> None:
        if self._tunnel is not None:
            self._tunnel.pause_reading()

    def resume_writing(self) -> None:
        if self._tunnel is not None:
            self._tunnel.resume_reading()

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is None:
            return
        if self._head is not None and self._head.status != SWITCHING:
            tunnel.complained(self._head.status, self._buffer)
        else:
            tunnel.lost("the connection broke")

    def end(self) -> None:
        """The caller is gone, or this engine is not wanted any more. What was written goes out before it closes."""
        self._tunnel = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            asyncio.get_running_loop().call_later(LAST_BYTES_S, self._transport.abort)
