"""How soon an engine hears that its caller has left."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from loadtests.gateway.fake_engine import Stats

PATIENCE_S = 2.0
POLL_S = 0.0005
EVENTS_BEFORE = 3  # of the stream, so that it is well under way
READ_BYTES = 65536


def leave_times_ms(port: int, request: bytes, look: Callable[[], Stats], times: int) -> list[float]:
    """Per try, from closing the connection to the engine's noticing; ``PATIENCE_S`` when it never did.

    Both read the same clock (CLOCK_MONOTONIC). Raises OSError when the gateway refuses or cuts off.
    """
    return [_one(port, request, look) for _ in range(times)]


def _one(port: int, request: bytes, look: Callable[[], Stats]) -> float:
    before = look().aborted
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as caller:
        caller.sendall(request)
        seen = b""
        while seen.count(b"data:") < EVENTS_BEFORE:
            got = caller.recv(READ_BYTES)
            if not got:
                raise ConnectionError("the stream was closed before the caller left")
            seen += got
        left_ns = time.monotonic_ns()
    give_up_ns = left_ns + int(PATIENCE_S * 1e9)
    while time.monotonic_ns() < give_up_ns:
        stats = look()
        if stats.aborted > before:
            return max(0.0, (stats.last_abort_ns - left_ns) / 1e6)
        time.sleep(POLL_S)
    return PATIENCE_S * 1e3
