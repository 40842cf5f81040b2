"""One inference request on its way: looked at, given a place, sent, answered; tried again where that is safe.

No task and no future belong to it on the usual way: each step is called by the event before it. The steps:
1. ``start``: the body is looked at, the model found, what it may use reserved (``granted`` later, if not at once).
2. ``_admit``: a place on a replica, at once or later, or a refusal (``gateway.plane.seated``).
3. ``_send``: to the engine. What comes back goes to the caller (``gateway.plane.relay``). Until the first byte of that,
   a lost engine means another try (R2); after it, an error event.
``_close`` settles everything exactly once, however it ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import structlog

from gateway import forms
from gateway.admit import Claim, Outcome
from gateway.capabilities import check_capability
from gateway.endpoints import BodyKind
from gateway.engine_errors import EngineNotReady, rewrite
from gateway.errors import ClientGone, GatewayError, Unexpected
from gateway.exchange import Exchange
from gateway.headers import first, lines, to_engine
from gateway.inquiry import Inquiry
from gateway.metering.wishes import ENDPOINTS as TELLING
from gateway.metering.wishes import RUNTIME as TELLS
from gateway.metering.wishes import asking_for_usage
from gateway.plane.heads import RequestHead
from gateway.plane.outlet import Extension, Outlet
from gateway.plane.relay import Mode, Relay

if TYPE_CHECKING:
    from gateway.plane.plane import Plane

EVENT_HEAD = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
HELD_COMMENT = b": waiting for the model\n\n"

log = structlog.get_logger(__name__)


class Flight(Relay):
    """``outlet``: where the answer goes. ``exchange``: its facts."""

    _tells = False  # its engine can be asked to tell tokens with each event
    _task: asyncio.Task[None] | None = None

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
            if plane.recorder is not None and plane.recorder.full:
                raise plane.recorder.refusal()
            route = plane.admission.find(inquiry.peek.model)
            exchange.model = route.model_id
            check_capability(route, inquiry.endpoint)
            if plane.recorder is not None and exchange.stream:
                self._tells = route.runtime == TELLS and inquiry.endpoint.name in TELLING
            inquiry.account.check_model(route, inquiry.peek.model)
            extension = plane.extensions.get(inquiry.endpoint.name)
            if extension is not None and extension.wants(inquiry):
                self._task = asyncio.get_running_loop().create_task(self._prepare(extension, inquiry))
                return
            self._reserve(inquiry, route)
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
                self._close(Outcome.OK, ready.status)
                self.outlet.whole(ready.status, ready.head, ready.body)
                return
            self._tap = extension.tap(inquiry, self.exchange.request_id)
            self._reserve(inquiry, self._plane.admission.find(self.exchange.model))
        except GatewayError as error:
            self.fail(error)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("unexpected error", request_id=self.exchange.request_id)
            self.fail(Unexpected(self.exchange.request_id))

    def comment(self) -> None:
        """While it is held: a sign of life, for callers whose patience is with silence rather than with time."""
        if self._held_since_s is None or not self.exchange.stream:
            return
        if not self._began:
            self._begin(200, EVENT_HEAD, None)
        self.outlet.write(HELD_COMMENT)

    # -- 3: to the engine, perhaps to another one ---------------------------------------------------------------------

    def _send(self, claim: Claim) -> None:
        self._claim = claim
        self._mode = Mode.WAITING
        exchange, inquiry, head = self.exchange, self._inquiry, self.head
        assert inquiry is not None
        exchange.replica = claim.replica
        body = inquiry.body
        if self._tells or claim.serves_as is not None:
            body = self._body_for(inquiry, claim)
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
        recorder = self._plane.recorder
        if recorder is not None:
            self.from_s = self._sent_s
            if self.slot is not None:
                recorder.note(self, self.account)
        self._at_once = True
        pool.send(
            self,
            b"%b%b%bx-request-id: %b\r\n%bcontent-length: %d\r\n\r\n%b"
            % (start, pool.extra_lines, head.engine_lines, exchange.request_id.encode(), trace, len(body), body),
        )
        self._at_once = False

    def _body_for(self, inquiry: Inquiry, claim: Claim) -> bytes:
        body = inquiry.body if claim.serves_as is None else renamed(inquiry, claim.serves_as)
        if self._tells:
            body, self._wish = asking_for_usage(body)
        return body

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
        self._plane.flying.discard(self)
        self._again(claim, inquiry, outcome)

    def _begin_anew(self) -> None:
        self._mode = Mode.WAITING
        self.takes_chunks = False
        self._count = None

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

    # -- the end -----------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """The caller left: whatever it had, a place in the queue or in an engine, is free again."""
        if self._mode is Mode.CLOSED:
            return
        exchange = self.exchange
        exchange.client_gone = True
        if not self._began:
            exchange.status, exchange.code = ClientGone.status, ClientGone.code
        self._drop_upstream()
        self._close(Outcome.LEFT, ClientGone.status)

    @property
    def _is_over(self) -> bool:
        return self._mode is Mode.CLOSED

    def _stop(self) -> None:
        self._drop_upstream()

    def _close(self, outcome: Outcome, status: int = 0, *, complete: bool = False, answered: bool = True) -> None:
        """Everything it held is given back, and its usage written down, once. What is left to the caller is to be sent.

        ``status``: that it is told, unless it has been told one. ``complete``: the engine's answer is there to its end.
        ``answered``: not with an error that is no fault of the caller's.
        """
        self._mode = Mode.CLOSED
        self._upstream = None
        if self._held_since_s is not None:
            self._leave_queue()
        self._plane.flying.discard(self)
        self._land(outcome)
        if self._count is not None:
            self.exchange.usage, self.estimated = self._count.usage(complete=complete)
        if self._plane.recorder is not None:
            # Signs of life while it was held are no answer, though their caller was told 200 with them.
            told = self._began and (self.exchange.first_byte_s is not None or not status)
            self._plane.recorder.over(self, self.exchange.status if told else status, self.account)
        if self._limiter is not None:
            self._settle(self._limiter, answered=answered)
        if self._tap is not None:
            tap, self._tap = self._tap, None
            if complete:
                tap.done()
            else:
                tap.broken()
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()


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
