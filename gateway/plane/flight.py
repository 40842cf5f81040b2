"""One inference request on its way: looked at, given a place, sent, answered; tried again where that is safe.

No task and no future belong to it on the usual way: each step is called by the event before it. The steps:
1. ``start``: the body is looked at, the model found.
2. ``_admit``: a place on a replica, at once or later (``admitted``), or a refusal.
3. ``_send``: to the engine; ``connected``, ``answer``, ``payload`` and ``ended`` are what comes back.
4. Out to the caller. Until the first byte of that, a lost engine means another try (R2); after it, an error event.
``_close`` settles everything exactly once, however it ends.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING

import msgspec
import structlog

from gateway import forms
from gateway.admit import Claim, Outcome
from gateway.capabilities import check_capability
from gateway.dialects import error_body, error_event
from gateway.endpoints import BodyKind
from gateway.engine_errors import LARGEST_BODY_BYTES, EngineNotReady, rewrite
from gateway.errors import ClientGone, EngineLost, GatewayError, Unexpected
from gateway.exchange import Exchange
from gateway.headers import first, lines, to_engine
from gateway.inquiry import Inquiry
from gateway.plane.heads import AnswerHead, RequestHead
from gateway.plane.outlet import Extension, Outlet, Tap
from gateway.plane.upstream import EVENTS, Upstream
from gateway.routing import is_cold
from gateway.sse import WholeEvents
from gateway.usage import UsageScanner, usage_of

if TYPE_CHECKING:
    from gateway.plane.plane import Plane

# An unstreamed answer up to this size is read whole before its head goes out: until then it can still be tried again.
WHOLE_ANSWER_BYTES = 1 << 20
EVENT_HEAD = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
HELD_COMMENT = b": waiting for the model\n\n"

log = structlog.get_logger(__name__)


class Mode(Enum):
    WAITING = auto()  # for the head of an answer
    ERROR = auto()  # the engine refused; what it says is being read
    WHOLE = auto()  # being read before any of it goes out
    EVENTS = auto()
    STREAM = auto()  # bytes as they come
    CLOSED = auto()


class Flight:
    """``outlet``: where the answer goes. ``exchange``: its facts."""

    # Defaults of the class: a request sets only what it comes to need.
    takes_chunks = False
    sent_again = False
    last_byte_s: float | None = None  # of the engine, or when it was asked
    lines = b""
    _inquiry: Inquiry | None = None
    _claim: Claim | None = None
    _upstream: Upstream | None = None
    _mode = Mode.WAITING
    _size = 0
    _status = 0
    _events: WholeEvents | None = None
    _scanner: UsageScanner | None = None
    _tap: Tap | None = None
    _extension: Extension | None = None
    _task: asyncio.Task[None] | None = None
    _began = False  # something was sent to the caller
    _held_since_s: float | None = None
    _sent_s = 0.0
    _at_once = False  # the connection to the engine was there already
    _paused = False
    _starting = False  # what it is held for is a start, not a busy replica

    def __init__(self, plane: Plane, outlet: Outlet, exchange: Exchange, head: RequestHead) -> None:
        self._plane = plane
        self.outlet = outlet
        self.exchange = exchange
        self.head = head

    # -- 1 and 2: until there is a place -----------------------------------------------------------------------------

    def start(self, inquiry: Inquiry) -> None:
        """Raises nothing: whatever is wrong is answered."""
        self._inquiry = inquiry
        plane, exchange = self._plane, self.exchange
        exchange.stream = inquiry.peek.stream
        try:
            route = plane.admission.find(inquiry.peek.model)
            exchange.model = route.model_id
            check_capability(route, inquiry.endpoint)
            plane.admission.arrived(route)
            extension = plane.extensions.get(inquiry.endpoint.name)
            if extension is not None and extension.wants(inquiry):
                self._extension = extension
                self._task = asyncio.get_running_loop().create_task(self._prepare(extension, inquiry))
                return
            self._admit(inquiry)
        except GatewayError as error:
            self.fail(error)
        except Exception:
            log.exception("unexpected error", request_id=self.exchange.request_id)
            self.fail(Unexpected(self.exchange.request_id))

    async def _prepare(self, extension: Extension, inquiry: Inquiry) -> None:
        try:
            ready = await extension.prepare(inquiry, self.exchange.request_id)
            self._task = None
            if self._mode is Mode.CLOSED:
                return
            if ready is not None:
                self._close(Outcome.OK)
                self.outlet.whole(ready.status, ready.head, ready.body)
                return
            self._tap = extension.tap(inquiry, self.exchange.request_id)
            self._admit(inquiry)
        except GatewayError as error:
            self.fail(error)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("unexpected error", request_id=self.exchange.request_id)
            self.fail(Unexpected(self.exchange.request_id))

    def _admit(self, inquiry: Inquiry) -> None:
        claim = self._plane.admission.admit(inquiry, self)
        if claim is not None:
            self._send(claim)
            return
        self.exchange.held = True
        self._held_since_s = self._plane.now()
        self._starting = is_cold(self._plane.admission.find(self.exchange.model))
        self._plane.held.add(self)

    def admitted(self, claim: Claim) -> None:
        """A held request has its place."""
        self._note_wait(woken=claim.woken)
        if self._mode is Mode.CLOSED:
            self._plane.admission.give_back(claim, Outcome.LEFT)
            return
        self._send(claim)

    def refused(self, error: GatewayError) -> None:
        self._note_wait(woken=self._starting)
        self.fail(error)

    def _note_wait(self, *, woken: bool) -> None:
        if self._held_since_s is not None:
            waited_s = self._plane.now() - self._held_since_s
            if woken:
                self.exchange.wake_s += waited_s
            else:
                self.exchange.queue_s += waited_s
            self._held_since_s = None
            self._plane.held.discard(self)

    def comment(self) -> None:
        """While it is held: a sign of life, for callers whose patience is with silence rather than with time."""
        if self._held_since_s is None or not self.exchange.stream:
            return
        if not self._began:
            self._begin(200, EVENT_HEAD, None)
        self.outlet.write(HELD_COMMENT)

    # -- 3: to the engine and back -----------------------------------------------------------------------------------

    def _send(self, claim: Claim) -> None:
        self._claim = claim
        self._mode = Mode.WAITING
        exchange, inquiry, head = self.exchange, self._inquiry, self.head
        assert inquiry is not None
        exchange.replica = claim.replica
        body = inquiry.body if claim.serves_as is None else renamed(inquiry, claim.serves_as)
        pool = self._plane.upstreams.pool(claim.endpoint)
        endpoint = inquiry.endpoint
        path = endpoint.engine_path or endpoint.path
        if inquiry.path_model is not None:
            path = endpoint.engine_path_for(claim.serves_as or claim.model)
        start = pool.starts.get(path) or pool.start(endpoint.method, path)
        if head.engine_lines is None:
            head.engine_lines = lines(to_engine(inquiry.headers))
        trace = b"traceparent: %b\r\n" % exchange.traceparent.encode() if exchange.traceparent else b""
        self._sent_s = self.last_byte_s = self._plane.now()
        self._plane.flying.add(self)
        self._at_once = True
        pool.send(
            self,
            b"%b%b%bx-request-id: %b\r\n%bcontent-length: %d\r\n\r\n%b"
            % (start, pool.extra_lines, head.engine_lines, exchange.request_id.encode(), trace, len(body), body),
        )
        self._at_once = False

    def connected(self, upstream: Upstream) -> None:
        if self._mode is Mode.CLOSED or self._claim is None:
            upstream.abort()
            return
        self._upstream = upstream
        if not self._at_once:
            now_s = self._plane.now()
            self.exchange.connect_s += now_s - self._sent_s
            self._sent_s = now_s
        if self._paused:
            upstream.pause()

    def answer(self, head: AnswerHead) -> None:
        now_s = self.last_byte_s = self._plane.now()
        self.exchange.engine_s = now_s - self._sent_s
        self._status = head.status
        self._collected: list[bytes] = []
        self._size = 0
        self.lines = head.lines
        if head.status >= 400:
            self._mode = Mode.ERROR
        elif head.media.startswith(EVENTS):
            self._mode = Mode.EVENTS
            self._events = WholeEvents()
            self._scanner = UsageScanner()
        elif (head.media.startswith("audio/") and head.length is None) or (head.length or 0) > WHOLE_ANSWER_BYTES:
            # Sound is listened to while it is made: an engine that does not say how much there will be sends it so.
            self._mode = Mode.STREAM
            self._size = -1 if head.length is None else head.length
        else:
            self._mode = Mode.WHOLE

    def whole(self, head: AnswerHead, body: bytes) -> None:
        exchange = self.exchange
        self._upstream = None  # it is back in its pool
        if head.status >= 400:
            self.answer(head)
            self._collected = [body[:LARGEST_BODY_BYTES]]
            self._engine_refused()
            return
        if head.media.startswith(EVENTS) or self._began or len(body) > WHOLE_ANSWER_BYTES:
            self.answer(head)
            if body:
                self.payload(body)
            self.ended()
            return
        now_s = self._plane.now()
        exchange.engine_s = now_s - self._sent_s
        exchange.first_byte_s = now_s - exchange.started_s
        self._out_whole(head.status, head.lines, body)

    def payload(self, data: bytes) -> None:
        self.last_byte_s = self._plane.lately_s
        mode = self._mode
        if mode is Mode.EVENTS:
            assert self._events is not None
            if ready := self._events.feed(data):
                self._put_events(ready)
        elif mode is Mode.STREAM:
            if not self._began:
                self._begin(self._status, self.lines, None if self._size < 0 else self._size)
            self._put(data)
        elif mode is Mode.WHOLE:
            self._collected.append(data)
            self._size += len(data)
            if self._size > WHOLE_ANSWER_BYTES:
                self._mode = Mode.STREAM
                self._begin(self._status, self.lines, None)
                self._put(b"".join(self._collected))
                self._collected = []
        elif mode is Mode.ERROR and self._size < LARGEST_BODY_BYTES:
            self._collected.append(data)
            self._size += len(data)
            if self._size >= LARGEST_BODY_BYTES:
                self._drop_upstream()
                self._engine_refused()

    def chunks(self, data: bytes, payload_bytes: int) -> None:
        """Whole events in whole chunks, on their way as they are."""
        self.last_byte_s = self._plane.lately_s
        assert self._scanner is not None
        self._scanner.feed(data)
        self.exchange.answer_bytes += payload_bytes
        self.outlet.write_chunks(data, payload_bytes)

    def ended(self) -> None:
        """The engine's answer is complete."""
        mode = self._mode
        self._upstream = None  # it is back in its pool
        if mode is Mode.ERROR:
            self._engine_refused()
            return
        if mode is Mode.CLOSED:
            return
        if mode is Mode.WHOLE:
            body = b"".join(self._collected)
            self._first_byte()
            self._out_whole(self._status, self.lines, body)
            return
        if mode is Mode.EVENTS:
            assert self._events is not None
            if rest := self._events.rest():
                self._put_events(rest)
        if not self._began:
            self._begin(self._status, self.lines, None)
        self._close(Outcome.OK, complete=True)
        self.outlet.end()

    def lost(self, reason: str, *, connected: bool) -> None:
        """The connection to the engine broke, or none could be had."""
        if self._mode is Mode.CLOSED:
            return
        log.info("engine lost", request_id=self.exchange.request_id, replica=self.exchange.replica, reason=reason)
        self._engine_is_gone(Outcome.LOST)

    def stalled(self) -> None:
        """Its engine answers nobody: what has not begun goes elsewhere."""
        if self._claim is not None and (not self._began or self._mode is Mode.WAITING):
            self._drop_upstream()
            self._engine_is_gone(Outcome.STALLED)

    def _engine_is_gone(self, outcome: Outcome) -> None:
        claim, inquiry = self._claim, self._inquiry
        assert claim is not None
        assert inquiry is not None
        self._upstream = None
        if self._mode in (Mode.EVENTS, Mode.STREAM) and self._began and self.exchange.first_byte_s is not None:
            self._cut_off(claim, outcome)
            return
        again = self._plane.admission.may_retry(claim, self.exchange.retries)
        self._land(outcome)
        if not again:
            message = f"The engine of the model '{claim.model}' went away {self.exchange.retries + 1} times; try again."
            self.fail(EngineLost(message, retry_after_s=1))
            return
        self.exchange.retries += 1
        self._mode = Mode.WAITING
        self.takes_chunks = False
        inquiry.avoid = (*inquiry.avoid, claim.replica)
        try:
            self._admit(inquiry)
        except GatewayError as error:
            self.fail(error)

    def _engine_refused(self) -> None:
        claim, inquiry = self._claim, self._inquiry
        assert claim is not None
        assert inquiry is not None
        body = b"".join(self._collected)
        error = rewrite(
            self._status,
            body,
            endpoint=inquiry.endpoint,
            model=claim.model,
            request_id=self.exchange.request_id,
        )
        if isinstance(error, EngineNotReady):
            self._engine_is_gone(Outcome.BUSY)
        else:
            self.fail(error)

    # -- 4: to the caller --------------------------------------------------------------------------------------------

    def _begin(self, status: int, head: bytes, length: int | None) -> None:
        self._began = True
        self.outlet.begin(status, head, length)

    def _out_whole(self, status: int, head: bytes, body: bytes) -> None:
        exchange = self.exchange
        exchange.answer_bytes = len(body)
        if b"json" in head:
            exchange.usage = usage_of(body)
        if self._tap is not None:
            self._tap.feed(body)
        self._close(Outcome.OK, complete=True)
        if self._began:  # comments, while it was held
            self.outlet.write(body)
            self.outlet.end()
        else:
            self.outlet.whole(status, head, body)

    def _first_byte(self) -> None:
        if self.exchange.first_byte_s is None:
            if self._claim is not None:
                self._plane.admission.answered(self._claim)
            self.exchange.first_byte_s = self._plane.now() - self.exchange.started_s

    def _put_events(self, data: bytes) -> None:
        if not self._began:
            # An engine sends the head of a stream before it computes: until now, it was the engine that was waited for.
            self.exchange.engine_s = self._plane.now() - self._sent_s
            self._begin(self._status, self.lines, None)
        assert self._events is not None
        assert self._scanner is not None
        self._scanner.feed(data)
        self._put(data)
        self.takes_chunks = self._tap is None and self._events.empty

    def _put(self, data: bytes) -> None:
        self._first_byte()
        self.exchange.answer_bytes += len(data)
        if self._tap is not None:
            self._tap.feed(data)
        self.outlet.write(data)

    def fail(self, error: GatewayError) -> None:
        """The answer is this error: as a whole, or as the last event of what was begun."""
        if self._mode is Mode.CLOSED:
            return
        self._close(Outcome.OK)
        self.exchange.code = error.code
        endpoint, request_id = self.head.endpoint, self.exchange.request_id
        if self._began:
            self.outlet.write(error_event(error, endpoint.dialect, request_id))
            self.outlet.end()
        else:
            self.outlet.whole(error.status, error_lines(error), error_body(error, endpoint.dialect, request_id))

    def _cut_off(self, claim: Claim, outcome: Outcome) -> None:
        """After the first byte: a stream of events ends with an error event, anything else stays unfinished."""
        error = EngineLost(f"The engine of the model '{claim.model}' went away while it was answering.")
        events = self._mode is Mode.EVENTS
        self.exchange.broken, self.exchange.code = True, error.code
        self._close(outcome)
        if events:
            self.outlet.write(error_event(error, self.head.endpoint.dialect, self.exchange.request_id))
            self.outlet.end()
        else:
            self.outlet.abort()

    # -- the caller's side -------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """The caller left: whatever it had, a place in the queue or in an engine, is free again."""
        if self._mode is Mode.CLOSED:
            return
        exchange = self.exchange
        exchange.client_gone = True
        if not self._began:
            exchange.status, exchange.code = ClientGone.status, ClientGone.code
        self._drop_upstream()
        self._close(Outcome.LEFT)

    def pause(self) -> None:
        """The caller reads more slowly than the engine writes: the engine's socket waits, not our memory."""
        self._paused = True
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        self._paused = False
        self.last_byte_s = self._plane.now()
        if self._upstream is not None:
            self._upstream.resume()

    @property
    def waits_for_engine(self) -> bool:
        return self._claim is not None and not self._paused

    @property
    def claim(self) -> Claim | None:
        return self._claim

    # -- the end -----------------------------------------------------------------------------------------------------

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    def _land(self, outcome: Outcome) -> None:
        """Its place is free again."""
        claim, self._claim = self._claim, None
        if claim is not None:
            self._plane.flying.discard(self)
            self._plane.admission.give_back(claim, outcome)

    def _close(self, outcome: Outcome, *, complete: bool = False) -> None:
        """Everything it held is given back, once. ``complete``: the engine's answer is there to its end."""
        self._mode = Mode.CLOSED
        self._upstream = None
        if self._held_since_s is not None:
            self._plane.admission.leave(self)
            self._note_wait(woken=self._starting)
        self._land(outcome)
        if self._scanner is not None:
            self.exchange.usage = self._scanner.usage
        if self._tap is not None:
            tap, self._tap = self._tap, None
            if complete:
                tap.done()
            else:
                tap.broken()
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()


def error_lines(error: GatewayError) -> bytes:
    given = [(name.encode(), value.encode()) for name, value in error.headers()]
    return lines([(b"content-type", b"application/json"), *given])


def renamed(inquiry: Inquiry, name: str) -> bytes:
    """The body with the model's name at that upstream."""
    endpoint = inquiry.endpoint
    if inquiry.path_model is not None:
        return inquiry.body
    if endpoint.body is BodyKind.FORM:
        return forms.renamed(inquiry.body, endpoint, first(inquiry.headers, b"content-type"), name)
    fields = msgspec.json.decode(inquiry.body, type=dict[str, msgspec.Raw])
    fields[endpoint.model_field] = msgspec.Raw(msgspec.json.encode(name))
    return msgspec.json.encode(fields)
