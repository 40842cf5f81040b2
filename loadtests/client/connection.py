"""One HTTP/1.1 connection, as a machine that its socket's readiness drives: connect, hello, send, read, again."""

from __future__ import annotations

import _socket
import errno
import select
import ssl
from collections.abc import Callable
from typing import Protocol

from loadtests.client.address import Address
from loadtests.client.answers import Answer, AnswerError, server_timing
from loadtests.client.call import CONNECT_FAILED, CONNECTION_LOST, NO_DESCRIPTORS, STREAM_BROKEN, Call
from loadtests.client.chunks import told_error
from loadtests.client.dialects import CUT, DIALECTS
from loadtests.client.moments import ANCILLARY_BYTES, SO_TIMESTAMPNS, Stamps, clock
from loadtests.client.stream_events import EventsTooLarge, StreamEvents
from loadtests.client.tls import Tls

READ_BYTES = 32 * 1024
READS, WRITES = select.EPOLLIN | select.EPOLLRDHUP, select.EPOLLOUT
_IN_PROGRESS = (0, errno.EINPROGRESS)
_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
# A server that closed before it heard of a request tells so within a round trip; later, it has dropped the request.
STALE_S, STALE_TRIPS = 0.05, 2

Finished = Callable[[Call], None]


class Owner(Protocol):
    """What a connection tells of itself."""

    stamps: Stamps

    def watch(self, connection: Connection, mask: int) -> None: ...

    def read_late(self, late_s: float) -> None: ...

    def over(self, connection: Connection, call: Call, again: bool) -> None:
        """The call has its end; ``again``: it was lost on a connection that had gone stale."""

    def gone(self, connection: Connection) -> None: ...


class Connection:
    """Carries one call at a time. ``used``: how many before this one. ``heard_s``: of its last byte, or its start."""

    def __init__(self, owner: Owner, address: Address) -> None:
        """Raises OSError when there is no descriptor left."""
        self.owner = owner
        self.used = 0
        self.heard_s = 0.0
        self.call: Call | None = None
        self.finished: Finished | None = None
        self.socket: _socket.socket = address.open()
        self.fd = self.socket.fileno()
        self._address = address
        self._connected = False
        self._began_s = 0.0
        self._trip_s = 0.0
        self._unsent = b""
        self._mask = 0
        self._heard = False
        self._answer = Answer()
        self._events: StreamEvents | None = None
        self._event = DIALECTS["chat"].event
        self._body: list[bytes] = []
        self._tls: Tls | None = None

    def ask(self, call: Call, finished: Finished) -> None:
        """Send it, at once where the connection is there."""
        self.call, self.finished = call, finished
        self._answer, self._events, self._body, self._heard = Answer(), None, [], False
        dialect = DIALECTS[call.ask.dialect]
        self._event = dialect.event
        self._unsent = self._request(call, dialect.path)
        self.heard_s = call.sent_s
        if self._connected:
            self._send()
        elif not self._began_s:
            self._connect()

    def _request(self, call: Call, path: str) -> bytes:
        ask = call.ask
        key = f"Authorization: Bearer {ask.key}\r\n" if ask.key else ""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._address.host}\r\n{key}Content-Type: application/json\r\n"
            f"Accept: application/json, text/event-stream\r\nContent-Length: {len(ask.body)}\r\n\r\n"
        )
        return head.encode() + ask.body

    def _connect(self) -> None:
        self._began_s = clock()
        code = self.socket.connect_ex(self._address.at)
        if code not in _IN_PROGRESS:
            self._lost(CONNECT_FAILED, f"cannot connect: {errno.errorcode.get(code, code)}")
            return
        if self._address.family != _socket.AF_UNIX:
            self.socket.setsockopt(_socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._want(READS | WRITES)

    def _want(self, mask: int) -> None:
        if mask != self._mask:
            self._mask = mask
            self.owner.watch(self, mask)

    def ready(self, mask: int) -> None:
        """Its socket can be read or written."""
        if mask & WRITES and not self._connected:
            self._is_connected()
        elif mask & WRITES and self._unsent:
            self._send()
        if mask & ~WRITES and self.fd >= 0:
            self._read()

    def _is_connected(self) -> None:
        code = self.socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if code:
            self._lost(CONNECT_FAILED, f"cannot connect: {errno.errorcode.get(code, code)}")
            return
        self._connected = True
        self._trip_s = clock() - self._began_s
        if self._address.tls is not None:
            self._tls = Tls(self._address.tls, self._address.server_name)
        else:
            self._has_connected()
        self._send()

    def _has_connected(self) -> None:
        if self.call is not None:
            self.call.connect_s = clock() - self._began_s

    def _send(self) -> None:
        if self._tls is not None:
            try:
                self._unsent = self._tls.wrap(self._unsent)
            except ssl.SSLError as problem:
                self._lost(CONNECT_FAILED, f"TLS: {problem}")
                return
        unsent = self._unsent if self._tls is None else self._tls.outgoing
        try:
            sent = self.socket.send(unsent) if unsent else 0
        except BlockingIOError:
            sent = 0
        except OSError as problem:
            self._closed(f"while sending: {problem.strerror or problem}")
            return
        rest = unsent[sent:]
        if self._tls is None:
            self._unsent = rest
        else:
            self._tls.outgoing = rest
        self._want(READS | WRITES if rest else READS)

    def _read(self) -> None:
        try:
            data, ancillary, _, _ = self.socket.recvmsg(READ_BYTES, ANCILLARY_BYTES)
        except BlockingIOError:
            return
        except OSError as problem:
            self._closed(problem.strerror or str(problem))
            return
        now_s = clock()
        arrived_s = self.owner.stamps.arrived_s(ancillary, now_s)
        self.owner.read_late(now_s - arrived_s)
        if not data:
            self._closed("the connection was closed")
            return
        if self._tls is not None:
            data = self._decrypted(self._tls, data)
            if not data:
                return
        if self.call is None:
            self.drop()  # nobody asked
        else:
            self._take(self.call, data, arrived_s)

    def _decrypted(self, tls: Tls, data: bytes) -> bytes:
        """Nothing, too, where the connection was lost over it."""
        was_ready = tls.ready
        try:
            data = tls.unwrap(data)
        except ssl.SSLError as problem:
            self._lost(CONNECTION_LOST if was_ready else CONNECT_FAILED, f"TLS: {problem}")
            return b""
        if tls.ready and not was_ready:
            self._has_connected()
        if tls.outgoing or self._unsent:
            self._send()
        return data if self.fd >= 0 else b""

    def _take(self, call: Call, data: bytes, now_s: float) -> None:
        self.heard_s = now_s
        self._heard = True
        answer = self._answer
        try:
            new = not answer.status
            body = answer.feed(data)
            if new and answer.status:
                self._begin(call, answer, now_s)
            if body:
                if call.first_byte_s is None:
                    call.first_byte_s = now_s
                if self._events is None:
                    self._body.append(body)
                else:
                    for name, event in self._events.feed(body):
                        self._event(call, name, event, now_s)
        except (AnswerError, EventsTooLarge) as problem:
            self._lost(STREAM_BROKEN, str(problem))
            return
        if answer.done:
            self._end(call, now_s)

    def _begin(self, call: Call, answer: Answer, now_s: float) -> None:
        call.status = answer.status
        call.head_s = now_s
        timing = answer.headers.get(b"server-timing")
        if timing:
            call.timing_ms = server_timing(timing)
        if answer.headers.get(b"content-type", b"").lower().startswith(b"text/event-stream") and answer.status < 400:
            self._events = StreamEvents()

    def _end(self, call: Call, now_s: float) -> None:
        call.ended_s = now_s
        if self._events is None:
            body = b"".join(self._body)
            if call.status >= 400:
                told_error(call, body)
            else:
                DIALECTS[call.ask.dialect].whole(call, body)
        elif not call.closed:
            call.fail(STREAM_BROKEN, CUT)
        self.used += 1
        keep = self._answer.keep
        self.call = None
        self.owner.over(self, call, again=False)
        if not keep and self.call is None:
            self.drop()

    @property
    def reusable(self) -> bool:
        return self.fd >= 0 and self.call is None and self._answer.keep

    def _closed(self, why: str) -> None:
        """By the other side: the end of some answers, the loss of others."""
        call = self.call
        if call is None:
            self.drop()
            return
        if not self._connected:
            self._lost(CONNECT_FAILED, f"cannot connect: {why}")
            return
        if self.used and not self._heard and clock() - call.sent_s < STALE_S + STALE_TRIPS * self._trip_s:
            self._give_up(call, again=True)
            return
        try:
            self._answer.close()
        except AnswerError as problem:
            self._lost(CONNECTION_LOST, f"{problem} ({why})")
            return
        self._end(call, clock())

    def _lost(self, error: str, message: str) -> None:
        call = self.call
        if call is None:
            self.drop()
            return
        call.fail(error, message)
        self._give_up(call, again=False)

    def abort(self, error: str, message: str) -> None:
        """Its caller waits no longer."""
        self._lost(error, message)

    def _give_up(self, call: Call, again: bool) -> None:
        call.ended_s = None if again else clock()
        self.call = None
        self.drop()
        self.owner.over(self, call, again)

    def drop(self) -> None:
        """The owner forgets the descriptor first: it may be another's at once."""
        if self.fd >= 0:
            self.owner.gone(self)
            self.fd = -1
            self.socket.close()


def failure_of(problem: OSError) -> tuple[str, str]:
    """(error, message) where not even a socket could be had."""
    if problem.errno in _DESCRIPTORS:
        return NO_DESCRIPTORS, "the generator has no descriptors left (ulimit -n)"
    return CONNECT_FAILED, f"no socket: {problem}"
