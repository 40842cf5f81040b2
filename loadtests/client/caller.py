"""All calls of a process: one loop over their sockets, and what is due when. Drives itself or is driven by gevent."""

from __future__ import annotations

import heapq
import itertools
import select
from collections.abc import Callable
from typing import Protocol

from loadtests.client.address import Address
from loadtests.client.call import TIMEOUT, Call
from loadtests.client.connection import Connection, Finished, failure_of
from loadtests.client.moments import Alarm, Stamps, clock
from loadtests.client.reading import Lateness

AT_ONCE = 256  # sockets looked at before the clock is looked at again
SWEEP_S = 0.5
_NEVER = float("inf")


class Poll(Protocol):
    """``select.epoll``, which gevent takes out of ``select``: it is passed in."""

    def register(self, fd: int, eventmask: int = ...) -> None: ...

    def modify(self, fd: int, eventmask: int) -> None: ...

    def unregister(self, fd: int) -> None: ...

    def poll(self, timeout: float | None = ..., maxevents: int = ...) -> list[tuple[int, int]]: ...

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class Caller:
    """``timeout_s``: without a byte until a call is given up. ``keep``: connections are used again, the last one first.

    ``late``: how long reads waited for Python. ``events``: how often a socket had something. ``retried``: calls that
    met a connection which the other side had just closed.
    """

    def __init__(self, address: Address, poll: Poll, timeout_s: float = 120.0, keep: bool = True) -> None:
        self.stamps = Stamps()
        self.late = Lateness()
        self.events = 0
        self.connections = 0
        self.retried = 0
        self._address = address
        self._poll = poll
        self._timeout_s = timeout_s
        self._keep = keep
        self._by_fd: dict[int, Connection] = {}
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._alarm = Alarm()
        self._sweep_s = clock() + SWEEP_S
        poll.register(self._alarm.fd, select.EPOLLIN)
        self._alarm.set(self._sweep_s)

    @property
    def open_calls(self) -> int:
        return len(self._open)

    def fileno(self) -> int:
        """Readable when ``service`` has something to do: an epoll can be waited for like any other file."""
        return self._poll.fileno()

    def begin(self, call: Call, finished: Finished) -> None:
        """Send it now; ``finished`` is called once, with its end. It may be called before this returns."""
        call.sent_s = clock()
        self._start(call, finished, self._idle.pop() if self._idle else None)

    def _start(self, call: Call, finished: Finished, connection: Connection | None) -> None:
        try:
            connection = connection or self._connect()
        except OSError as problem:
            call.fail(*failure_of(problem))
            call.ended_s = clock()
            finished(call)
            return
        self._open.add(connection)
        connection.ask(call, finished)

    def _connect(self) -> Connection:
        connection = Connection(self, self._address)
        self._by_fd[connection.fd] = connection
        self.connections += 1
        return connection

    def at(self, when_s: float, do: Callable[[], None]) -> None:
        """``do`` when the clock says ``when_s``."""
        heapq.heappush(self._due, (when_s, next(self._numbers), do))
        self._set_alarm()

    def _set_alarm(self) -> None:
        self._alarm.set(min(self._due[0][0] if self._due else _NEVER, self._sweep_s))

    def service(self, timeout_s: float = 0.0) -> None:
        """Do what there is to do; wait up to ``timeout_s`` for it."""
        ready = self._poll.poll(timeout_s, AT_ONCE)
        self.stamps.adjust()
        rang = False
        for fd, mask in ready:
            connection = self._by_fd.get(fd)
            if connection is not None:
                connection.ready(mask)
            elif fd == self._alarm.fd:
                rang = True
                self._alarm.take()
        self.events += len(ready)
        self._do_due()
        if rang:
            self._set_alarm()

    def _do_due(self) -> None:
        now_s = clock()
        due = self._due
        while due and due[0][0] <= now_s:
            heapq.heappop(due)[2]()
        if now_s >= self._sweep_s:
            self._sweep_s = now_s + SWEEP_S
            for connection in list(self._open):
                if now_s - connection.heard_s > self._timeout_s:
                    connection.abort(TIMEOUT, f"no answer within {self._timeout_s:g} s")

    def abort(self, call: Call, error: str, message: str) -> None:
        """Its caller waits no longer; nothing happens when it has ended."""
        for connection in list(self._open):
            if connection.call is call:
                connection.abort(error, message)

    def abort_all(self, error: str, message: str) -> int:
        """Every open call ends now; how many those were."""
        cut = list(self._open)
        for connection in cut:
            connection.abort(error, message)
        return len(cut)

    def close(self) -> None:
        """Connections are closed; calls must have ended."""
        for connection in list(self._by_fd.values()):
            connection.drop()
        self._poll.unregister(self._alarm.fd)
        self._alarm.close()
        self._poll.close()

    # What connections tell.

    def watch(self, connection: Connection, mask: int) -> None:
        try:
            self._poll.modify(connection.fd, mask)
        except FileNotFoundError:
            self._poll.register(connection.fd, mask)

    def read_late(self, late_s: float) -> None:
        self.late.add(late_s)

    def over(self, connection: Connection, call: Call, again: bool) -> None:
        self._open.discard(connection)
        finished = connection.finished
        connection.finished = None
        if finished is None:
            return
        if again:
            self.retried += 1
            self._start(call, finished, None)  # on a connection of its own: every idle one may be as stale
            return
        if self._keep and connection.reusable:
            self._idle.append(connection)
        elif connection.fd >= 0:
            connection.drop()
        finished(call)

    def gone(self, connection: Connection) -> None:
        self._by_fd.pop(connection.fd, None)
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        try:
            self._poll.unregister(connection.fd)
        except FileNotFoundError:
            return
