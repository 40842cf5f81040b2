"""From closing a connection to the engine's noticing, on one clock."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from loadtests.gateway import leaving
from loadtests.gateway.fake_engine import Stats
from loadtests.gateway.leaving import leave_times_ms


class Engine:
    """Streams to whoever comes; it says that they left ``late_s`` after they did."""

    def __init__(self, listener: socket.socket, late_s: float = 0.0, notices: bool = True, events: int = 1000) -> None:
        self._listener, self._late_s, self._notices, self._events = listener, late_s, notices, events
        self._aborted, self._last_ns = 0, 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                with caller:
                    caller.recv(65536)
                    with contextlib.suppress(OSError):
                        for _ in range(self._events):
                            caller.sendall(b"data: x\n\n")
                            time.sleep(0.001)
                time.sleep(self._late_s)
                if self._notices:
                    self._last_ns = time.monotonic_ns()
                    self._aborted += 1

    def look(self) -> Stats:
        return Stats(0, 0, 0, self._aborted, self._last_ns)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


def port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_each_try_is_timed(listener: socket.socket) -> None:
    engine = Engine(listener, late_s=0.02)
    times = leave_times_ms(port(listener), b"GET", engine.look, 3)
    assert len(times) == 3
    assert all(each >= 20 for each in times)


def test_an_engine_that_never_notices_costs_the_patience(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "PATIENCE_S", 0.1)
    engine = Engine(listener, notices=False)
    assert leave_times_ms(port(listener), b"GET", engine.look, 2) == [100.0, 100.0]


def test_a_stream_that_is_cut_off_is_no_measurement(listener: socket.socket) -> None:
    engine = Engine(listener, events=1)
    with pytest.raises(ConnectionError, match="closed before the caller left"):
        leave_times_ms(port(listener), b"GET", engine.look, 1)
