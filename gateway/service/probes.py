"""How the supervisor sees that a part can do its work. All return False for "not yet" and raise nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from gateway.service.spec import Probe
from models.store.errors import StoreError
from models.store.exposed import PONG, ping

ANSWER_TIMEOUT_S = 2.0
LONGEST_LINE_BYTES = 64 * 1024

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def redis_answers(socket_path: Path, password: Callable[[], str | None] = lambda: None) -> Probe:
    """PONG; while Redis still loads its data it answers with an error. ``password``: raises StoreError."""

    async def probe() -> bool:
        try:
            question = ping(password())
        except StoreError:
            return False
        return await _ask(socket_path, question, answered_lines=question.count(b"\n")) == PONG

    return probe


def listens(host: str, port: int) -> Probe:
    async def probe() -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ANSWER_TIMEOUT_S), _hang_up(await asyncio.open_connection(host, port)):
                return True
        return False

    return probe


async def never() -> bool:
    """Of a part that could only end."""
    return False


def launcher_is_warm(socket_path: Path) -> Probe:
    """It takes orders from the beginning, but forks only when it has imported everything."""

    async def probe() -> bool:
        return (await launcher_status(socket_path)).get("ready") is True

    return probe


async def launcher_status(socket_path: Path) -> dict[str, object]:
    """What the launcher says of itself; empty when it does not answer."""
    line = await _ask(socket_path, b'{"op": "ping"}\n')
    try:
        status = json.loads(line)
    except ValueError:
        return {}
    return status if isinstance(status, dict) else {}


def file_appears(path: Path) -> Probe:
    async def probe() -> bool:
        return path.exists()

    return probe


class LogLine:
    """Ready once the part has written a line that begins with ``start``. ``prepare`` goes before each of its starts."""

    def __init__(self, log: Path, start: str) -> None:
        self._log = log
        self._start = start.encode()
        self._from_bytes = 0

    def prepare(self) -> None:
        self._from_bytes = self._log.stat().st_size if self._log.exists() else 0

    async def __call__(self) -> bool:
        try:
            with self._log.open("rb") as file:
                file.seek(self._from_bytes)
                return any(line.startswith(self._start) for line in file)
        except OSError:
            return False


def http_ok(host: str, port: int, path: str, tls: bool = False) -> Probe:
    """GET answers 200. ``tls``: whatever certificate it shows; the question is whether it is there."""

    async def probe() -> bool:
        return await http_status(host, port, path, tls) == 200

    return probe


async def http_status(host: str, port: int, path: str, tls: bool = False) -> int | None:
    """The status of a GET, or None when there is no answer."""
    request = f"GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n".encode()
    line = b""
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        connecting = asyncio.open_connection(host, port, ssl=_any_certificate() if tls else None)
        async with asyncio.timeout(ANSWER_TIMEOUT_S), _hang_up(await connecting) as streams:
            line = await _line(streams, request)
    words = line.split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None


def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _ask(socket_path: Path, question: bytes, answered_lines: int = 1) -> bytes:
    """The last line of the answer; empty when there is none in time."""
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        connecting = asyncio.open_unix_connection(socket_path, limit=LONGEST_LINE_BYTES)
        async with asyncio.timeout(ANSWER_TIMEOUT_S), _hang_up(await connecting) as streams:
            line = await _line(streams, question)
            for _ in range(answered_lines - 1):
                line = await streams[0].readline()
            return line
    return b""


async def _line(streams: Streams, question: bytes) -> bytes:
    reader, writer = streams
    writer.write(question)
    return await reader.readline()


@contextlib.asynccontextmanager
async def _hang_up(streams: Streams) -> AsyncIterator[Streams]:
    try:
        yield streams
    finally:
        streams[1].close()
