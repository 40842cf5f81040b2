"""The way back of a request: what the engine answers, taken apart only as far as needed, and passed on to the caller.

``Mode`` says what is done with the bytes that come. Until the first of them is with the caller, a lost engine means
another try; an unstreamed answer is kept back for that.
"""

from __future__ import annotations

from enum import Enum, auto

from gateway.admit import Claim, Outcome
from gateway.dialects import error_body, error_event
from gateway.engine_errors import LARGEST_BODY_BYTES
from gateway.errors import EngineLost, GatewayError
from gateway.metering.counting import Count, End, count_for, prompt_of
from gateway.metering.wishes import Wish
from gateway.plane.chunks import framed, payload_of
from gateway.plane.heads import AnswerHead, RequestHead
from gateway.plane.outlet import Outlet, Tap
from gateway.plane.seated import Seated
from gateway.plane.statuses import error_lines
from gateway.plane.upstream import EVENTS, Upstream
from gateway.sse import WholeEvents
from gateway.usage import usage_of

# An unstreamed answer up to this size is read whole before its head goes out: until then it can still be tried again.
WHOLE_ANSWER_BYTES = 1 << 20


class Mode(Enum):
    WAITING = auto()  # for the head of an answer
    ERROR = auto()  # the engine refused; what it says is being read
    WHOLE = auto()  # being read before any of it goes out
    EVENTS = auto()
    STREAM = auto()  # bytes as they come
    CLOSED = auto()


class Relay(Seated):
    """An ``Asker``, which tells an ``Outlet``. ``_close`` is called before the caller has the end of its answer,
    ``_engine_refused`` when the engine's refusal is there."""

    # Defaults of the class: a request sets only what it comes to need.
    takes_chunks = False
    sent_again = False
    last_byte_s: float | None = None  # of the engine, or when it was asked
    lines = b""
    _upstream: Upstream | None = None
    _mode = Mode.WAITING
    _size = 0
    _status = 0
    _events: WholeEvents | None = None
    _count: Count | None = None  # of what is passed on
    _wish: Wish | None = None  # what the caller wants to be told of tokens, where the engine was asked for more
    _tap: Tap | None = None
    _began = False  # something was sent to the caller
    _sent_s = 0.0
    _at_once = False  # the connection to the engine was there already
    _paused = False

    outlet: Outlet
    head: RequestHead

    def _close(self, outcome: Outcome, status: int = 0, *, complete: bool = False, answered: bool = True) -> None:
        raise NotImplementedError

    def _engine_refused(self) -> None:
        raise NotImplementedError

    # -- from the engine ---------------------------------------------------------------------------------------------

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
            assert self._inquiry is not None
            self._count = count_for(self.head.endpoint, self._inquiry.peek, self._wish)
        elif (head.media.startswith("audio/") and head.length is None) or (head.length or 0) > WHOLE_ANSWER_BYTES:
            # Sound is listened to while it is made: an engine that does not say how much there will be sends it so.
            self._mode = Mode.STREAM
            self._size = -1 if head.length is None else head.length
            self._count_end()
        else:
            self._mode = Mode.WHOLE

    def _count_end(self) -> None:
        if b"json" in self.lines and self._inquiry is not None:
            self._count = End(prompt_of(self._inquiry.peek))

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
                self._count_end()
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
        """Whole events in whole chunks, on their way as they are but for what the caller did not ask for."""
        self.last_byte_s = self._plane.lately_s
        count = self._count
        assert count is not None
        if count.edits:
            payload = count.feed(payload_of(data))
            payload_bytes = len(payload)
            if not payload_bytes:
                return
            data = framed(payload)
        else:
            count.feed(data)
        if self.slot is not None:
            self.slot.count(count.prompt, count.completion)
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

    # -- to the caller -------------------------------------------------------------------------------------------------

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
        self._close(Outcome.OK, status, complete=True)
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
        self._put(data)
        self.takes_chunks = self._tap is None and self._events.empty

    def _put(self, data: bytes) -> None:
        count = self._count
        if count is not None:
            data = count.feed(data)
            if not data:
                return
        if self.exchange.first_byte_s is None:
            self._first_byte()
            if self._plane.recorder is not None:
                self._plane.recorder.note(self, self.account)
        if count is not None and self.slot is not None:
            self.slot.count(count.prompt, count.completion)
        self.exchange.answer_bytes += len(data)
        if self._tap is not None:
            self._tap.feed(data)
        self.outlet.write(data)

    def fail(self, error: GatewayError) -> None:
        """The answer is this error: as a whole, or as the last event of what was begun, if that is events."""
        if self._mode is Mode.CLOSED:
            return
        raw = self._mode is Mode.STREAM
        self.exchange.code = error.code
        self._close(Outcome.OK, error.status, answered=self._is_charged(error))
        endpoint, request_id = self.head.endpoint, self.exchange.request_id
        if self._began and raw:
            self.outlet.abort()
        elif self._began:
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

    # -- as fast as the caller reads -----------------------------------------------------------------------------------

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

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
