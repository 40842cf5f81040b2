"""What a connection says no with: to what is no request, to one before its end, or instead of looking at it."""

from __future__ import annotations

from gateway import request_ids
from gateway.dialects import Dialect, dialect_of, error_body
from gateway.errors import GatewayError, HeadNotValid
from gateway.exchange import Exchange
from gateway.plane.asgi import AsgiCall
from gateway.plane.chunks import BadChunk
from gateway.plane.heads import BadHead
from gateway.plane.intake import Intake, State
from gateway.plane.statuses import error_lines

SKIPPED_BYTES = 64 << 10  # a refused body that is this small is read over, and the connection lives on


class Refusing(Intake):
    """An early refusal is read: what is left of a short body is read over, and a connection that ends lingers."""

    __slots__ = ("_call",)

    _call: AsgiCall | None  # that has the request, where it is none of inference

    def kill(self) -> None:
        raise NotImplementedError

    def _bad_head(self, wrong: BadHead) -> None:
        self._buffer = b""
        self.exchange = self._new_exchange("", "")
        self._refuse_connection(HeadNotValid(wrong.message, wrong.status))

    def _bad_body(self, wrong: BadChunk) -> None:
        self._refuse(HeadNotValid(f"The request's body is not framed as HTTP asks: {wrong}."))

    def _refuse(self, error: GatewayError) -> None:
        """An answer before the request's end, or instead of looking at it."""
        exchange, head = self.exchange, self._head
        if self._answered or self._state in (State.LINGER, State.CLOSED):
            return
        assert exchange is not None
        exchange.code = error.code
        if self._call is not None:
            self._call.cancel()
            if self._call.started:
                self.kill()
                return
        dialect = dialect_of(exchange.path)
        if head is not None and head.endpoint is not None:
            dialect = head.endpoint.dialect
            if self._plane.recorder is not None:
                self._plane.recorder.refused(exchange, error.status)
        if self._state is State.BODY and not self._skips_rest():
            self._keep = False
        self.whole(error.status, error_lines(error), error_body(error, dialect, exchange.request_id))

    def _skips_rest(self) -> bool:
        """A short rest of a refused body is read over. One that the caller was asked to wait with may never come."""
        head = self._head
        return (
            head is not None and not head.expects_continue and self._dechunker is None and self._left <= SKIPPED_BYTES
        )

    def _refuse_connection(self, error: GatewayError) -> None:
        """For what is not even a request."""
        assert self.exchange is not None
        self._reset()
        self._keep = False
        self._state = State.BODY
        self._left = SKIPPED_BYTES + 1
        self.exchange.code = error.code
        self.whole(error.status, error_lines(error), error_body(error, Dialect.OPENAI, self.exchange.request_id))

    def _new_exchange(self, method: str, path: str, given: str | None = None) -> Exchange:
        request_id = request_ids.new_request_id() if given is None else request_ids.accept(given)
        return Exchange(request_id, method, path, self._plane.now())
