"""A WebSocket through the gateway: opened like any request, then bytes both ways that nobody here looks into.

1. ``begin``: the caller's key and the model's name are looked at; the connection becomes the tunnel's.
2. ``_admit``: a place on a replica, at once or later; it is kept for as long as the WebSocket is open.
3. ``_send``: a connection of its own to the engine, and the same request on it. Until the engine has said that it
   switches, a lost one means another try (R2).
4. ``answered``: what one side sends goes to the other; who reads slowly makes the other one wait. When one side ends,
   so does the other.
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
from gateway.errors import ClientGone, GatewayError, Unauthorized, Unexpected
from gateway.exchange import Exchange
from gateway.headers import lines
from gateway.inquiry import Inquiry, Peek
from gateway.plane.engine_end import EngineEnd
from gateway.plane.handshake import SWITCHING, check_upgrade, key_hash_of, model_of, opened, protocols_of, request_to
from gateway.plane.heads import AnswerHead, BadHead, RequestHead
from gateway.plane.intake import State
from gateway.plane.seated import Seated
from gateway.plane.statuses import status_line
from gateway.plane.staying import Staying
from gateway.plane.upstream import CONNECT_TIMEOUT_S
from models.store.records import KeyRecord

if TYPE_CHECKING:
    from gateway.plane.connection import Connection
    from gateway.plane.plane import Plane

NEVER_S = float("inf")

log = structlog.get_logger(__name__)


class Mode(Enum):
    WAITING = auto()  # for the key, or for a place
    OPENING = auto()  # the engine was asked
    REFUSED = auto()  # by the engine; what it says is being read
    OPEN = auto()
    CLOSED = auto()


class Tunnel(Seated, Staying, asyncio.Protocol):
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
        self._engine: EngineEnd | None = None
        self._task: asyncio.Task[None] | None = None
        self._early: list[bytes] = []  # sent before the other side was there to hear it

    # -- 1: until the caller is known --------------------------------------------------------------------------------

    def begin(self) -> None:
        """Raises GatewayError for what can be seen to be wrong at once; the connection is as it was then."""
        check_upgrade(self._head, self._head.endpoint)
        plane = self._plane
        try:
            self._key_hash = key_hash = key_hash_of(self._head.headers, plane.authenticator.hash_of)
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
            self._reserve(inquiry, route)
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
        super()._admit(inquiry)

    @property
    def _is_over(self) -> bool:
        return self._mode is Mode.CLOSED

    # -- 3: until the engine has switched ----------------------------------------------------------------------------

    def _send(self, claim: Claim) -> None:
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
            self._go_elsewhere(claim, inquiry, Outcome.BUSY)
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
        self._go_elsewhere(claim, inquiry, outcome)

    def _go_elsewhere(self, claim: Claim, inquiry: Inquiry, outcome: Outcome) -> None:
        self._drop_engine()
        self._plane.tunnels.discard(self)
        self._again(claim, inquiry, outcome)

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

    def look_again(self) -> None:
        """Whether it may stay. To be asked once a second."""
        if self._mode is Mode.OPEN and (self._task is None or self._task.done()):
            self._look_at_caller()

    def _may_not(self, error: GatewayError) -> None:
        self._task = None
        self.exchange.code = error.code
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
            self._leave_queue()
        self._stop_task()
        self._drop_engine()
        self._plane.tunnels.discard(self)
        self._land(outcome)
        if self._plane.recorder is not None:
            self._plane.recorder.over(self, self.exchange.status, self.account)
        if self._limiter is not None:
            self._settle(self._limiter, answered=answered)

    def _end(self) -> None:
        self._plane.observe(self.exchange)
        self.transport.close()

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
