"""Runs the program ``engine``, and asks it what it saw."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.coldstart.child import running, tail
from loadtests.gateway.cores import children_on
from loadtests.gateway.problems import DidNotStart

START_TIMEOUT_S = 10.0
POLL_S = 0.01
ASK = b"GET /stats HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Stats:
    """``aborted``: streams whose caller left; ``last_abort_ns``: when that was noticed last (CLOCK_MONOTONIC)."""

    served: int
    streams: int
    open_streams: int
    aborted: int
    last_abort_ns: int


@contextlib.contextmanager
def fake_engine(program: Path, addresses: Sequence[int | str], cores: Collection[int], log: Path) -> Iterator[None]:
    """Listens on all ``addresses``: ports of loopback, or unix:PATH. Raises DidNotStart."""
    with contextlib.ExitStack() as stack:
        with children_on(cores):
            process = stack.enter_context(running([str(program), *map(str, addresses)], os.environ, log))
        give_up_s = time.perf_counter() + START_TIMEOUT_S
        while "ready" not in tail(log):
            if process.poll() is not None or time.perf_counter() > give_up_s:
                raise DidNotStart(f"the benchmark's engine did not start:\n{tail(log)}")
            time.sleep(POLL_S)
        yield


class Window:
    """A connection of its own to an engine's figures."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=START_TIMEOUT_S)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def look(self) -> Stats:
        """Raises OSError when the engine is gone."""
        self._socket.sendall(ASK)
        length = 0
        while (line := self._file.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line[15:])
        if not length:
            raise ConnectionError("the engine closed the connection")
        document = json.loads(self._file.read(length))
        return Stats(**{name: document[name] for name in Stats.__slots__})
