"""One line per request: encoded as it ends, written by a thread a few times a second. Prompts and keys never get here.

A reader of the log that has stopped reading costs lines, which are counted, but no request any time.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import threading
import time
from collections.abc import Callable
from enum import StrEnum

import msgspec
import structlog

from gateway.exchange import OTHER_ENDPOINT, Exchange
from gateway.logs import LONGEST_PATH, is_quiet, log_exchange, writes_json

FLUSH_S = 0.25
MOST_WAITING_LINES = 50_000
LAST_FLUSH_S = 2.0  # at the end; a reader that stands still gets no more of our time
PIPE_BYTES = 4096  # PIPE_BUF: several workers may write into one pipe, and up to this a write is not torn
WRITE_BYTES = 1 << 16
_MILLISECONDS = tuple(f".{count:03d}Z" for count in range(1000))

log = structlog.get_logger(__name__)


class Mode(StrEnum):
    """``ERRORS``: answered with an error, cut off, or left by its caller."""

    ALL = "all"
    ERRORS = "errors"
    OFF = "off"


class Line(msgspec.Struct, omit_defaults=True):
    """Under the names that structlog's lines have, so that one reader reads all. The usual is left out."""

    event: str | None
    request_id: str
    method: str
    path: str
    endpoint: str
    model: str
    status: int
    seconds: float
    level: str | None
    logger: str | None
    timestamp: str
    stream: bool = False
    replica: str | None = None
    retries: int = 0
    address: str = ""  # of a caller whose request went wrong
    key_id: str = ""
    tenant: str = ""
    code: str | None = None
    first_byte_s: float | None = None
    engine_s: float | None = None
    hold_s: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    client_gone: bool = False
    broken: bool = False


class AccessLog:
    """``write``: takes whole lines; by default they go to stderr. Where a person reads along, structlog writes them.

    Raises ValueError for an unknown ``mode``.
    """

    def __init__(
        self,
        mode: str = Mode.ALL,
        write: Callable[[bytes], object] | None = None,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self.mode = Mode(mode)
        self.dropped = 0
        self._write = write
        self._unix = unix
        self._lines: list[bytes] = []
        self._second, self._stamp = -1, ""
        self._encode = msgspec.json.Encoder().encode
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._json = write is not None

    def observe(self, exchange: Exchange, duration_s: float) -> None:
        """Called once for each request. About 1.5 us; 0.2 us when nothing is to be written."""
        mode = self.mode
        if mode is not Mode.ALL and (mode is Mode.OFF or not _went_wrong(exchange)):
            return
        if not self._json:
            log_exchange(exchange, duration_s)
            return
        if exchange.endpoint == OTHER_ENDPOINT and is_quiet(exchange):
            return
        if len(self._lines) >= MOST_WAITING_LINES:
            self.dropped += 1
            return
        self._lines.append(self._encode(self._line(exchange, duration_s)))

    def start(self) -> None:
        """Once logging is configured. ``stop`` writes what is left."""
        level = logging.getLogger("gateway.requests")
        if not level.isEnabledFor(logging.INFO):
            self.mode = Mode.OFF
        if self._write is None:
            # At debug level all is told, also of probes.
            self._json = writes_json() and not level.isEnabledFor(logging.DEBUG)
            self._write = _to(sys.stderr.fileno()) if self._json else None
        if self._json and self.mode is not Mode.OFF and self._thread is None:
            self._thread = threading.Thread(target=self._keep_writing, name="access-log", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join(LAST_FLUSH_S)
            self._thread = None

    def flush(self) -> None:
        """Raises OSError. Whole lines in the order of their requests; ``observe`` may go on beside it."""
        lines = self._lines[:]
        del self._lines[: len(lines)]
        if lines and self._write is not None:
            self._write(b"\n".join((*lines, b"")))

    def _keep_writing(self) -> None:
        told = 0
        while not self._ending.wait(FLUSH_S):
            self._try()
            if self.dropped > told:
                log.warning("lines of the access log were dropped: their reader is too slow", lines=self.dropped - told)
                told = self.dropped
        self._try()

    def _try(self) -> None:
        try:
            self.flush()
        except OSError:
            self.dropped += 1  # nobody is there to be told

    def _line(self, exchange: Exchange, duration_s: float) -> Line:
        usage = exchange.usage
        first_byte_s = exchange.first_byte_s
        return Line(
            "request",
            exchange.request_id,
            exchange.method,
            exchange.path[:LONGEST_PATH],
            exchange.endpoint,
            exchange.model,
            exchange.status,
            int(duration_s * 1e6) / 1e6,  # a fifth of what round() takes
            "info",
            "gateway.requests",
            self._timestamp(),
            exchange.stream,
            exchange.replica,
            exchange.retries,
            exchange.address if exchange.status >= 400 else "",
            exchange.key_id,
            exchange.tenant,
            exchange.code,
            None if first_byte_s is None else int(first_byte_s * 1e6) / 1e6,
            int(exchange.engine_s * 1e6) / 1e6 if exchange.engine_s else None,
            int(exchange.hold_s * 1e6) / 1e6 if exchange.held else None,
            usage.prompt if usage is not None else 0,
            usage.completion if usage is not None else 0,
            exchange.client_gone,
            exchange.broken,
        )

    def _timestamp(self) -> str:
        unix_s = self._unix()
        second = int(unix_s)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return self._stamp + _MILLISECONDS[int((unix_s - second) * 1000)]


def _went_wrong(exchange: Exchange) -> bool:
    return exchange.status >= 400 or exchange.client_gone or exchange.broken


def _to(descriptor: int) -> Callable[[bytes], None]:
    """Writes whole lines at a time, so that those of several workers stay apart."""
    most_bytes = PIPE_BYTES if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else WRITE_BYTES

    def write(data: bytes) -> None:
        start = 0
        while start < len(data):
            end = data.rfind(b"\n", start, start + most_bytes) + 1 or start + most_bytes
            start += os.write(descriptor, data[start:end])

    return write
