"""A caller that writes HTTP/1.1 by hand, and a strict reader of answers that shares no code with the gateway."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Any

PATIENCE_S = 15.0  # an answer that is not there by then counts as a hang; never a figure to be met
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [\x20-\x7e]*")
_HEADER_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ ]?([\x20-\x7e\x80-\xff]*)")
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,16})(;[\x20-\x7e]*)?")
_BODILESS = frozenset({204, 304})


class Broken(AssertionError):
    """What came is no HTTP, or ends in the middle."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``interim``: statuses of the 1xx answers before it. ``chunks``: lengths of the chunks, when it was chunked."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    interim: tuple[int, ...] = ()
    chunks: tuple[int, ...] | None = None

    def header(self, name: str) -> str | None:
        found = [value for given, value in self.headers if given == name]
        assert len(found) <= 1, f"{name} came {len(found)} times"
        return found[0] if found else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def closing(self) -> bool:
        return (self.header("connection") or "").lower() == "close"

    @property
    def events(self) -> list[bytes]:
        """Whole events of a stream, without their blank lines. Raises Broken when the last one is not whole."""
        if self.body and not self.body.endswith(b"\n\n"):
            raise Broken(f"the stream ends in the middle of an event: {self.body[-80:]!r}")
        return self.body.split(b"\n\n")[:-1]

    def error(self) -> dict[str, Any]:
        """The OpenAI error object, checked for its form."""
        assert self.header("content-type") == "application/json", self
        document = self.json
        assert set(document) == {"error"}, document
        error = document["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert isinstance(error["message"], str), error
        assert error["message"], error
        assert isinstance(error["type"], str), error
        assert isinstance(error["code"], str | None), error
        assert isinstance(error["param"], str | None), error
        assert self.header("x-request-id"), self
        return dict(error)


@dataclass
class Reader:
    """Takes answers out of a socket's bytes. ``rest``: what came and was not yet taken."""

    socket: socket.socket
    rest: bytearray = field(default_factory=bytearray)

    def answer(self, method: str = "POST") -> Answer:
        interim: list[int] = []
        while True:
            status, headers = self._head()
            if status >= 200:
                break
            assert not headers, f"an interim answer with headers: {headers}"
            interim.append(status)
        names = [name for name, _ in headers]
        for single in ("content-length", "transfer-encoding", "content-type", "x-request-id", "connection", "date"):
            assert names.count(single) <= 1, f"{single} came {names.count(single)} times: {headers}"
        given = dict(headers)
        length, coding = given.get("content-length"), given.get("transfer-encoding")
        assert length is None or coding is None, headers
        if method == "HEAD" or status in _BODILESS:
            assert coding is None
            return Answer(status, headers, b"", tuple(interim))
        if coding is not None:
            assert coding == "chunked", headers
            body, chunks = self._chunked()
            return Answer(status, headers, body, tuple(interim), chunks)
        if length is not None:
            assert re.fullmatch(r"0|[1-9][0-9]*", length), headers
            return Answer(status, headers, self._exactly(int(length)), tuple(interim))
        assert given.get("connection") == "close", f"a body without end: {headers}"
        return Answer(status, headers, self.until_closed(), tuple(interim))

    def until_closed(self) -> bytes:
        """Raises ConnectionResetError, and TimeoutError when it stays open."""
        while data := self.socket.recv(1 << 16):
            self.rest += data
        everything = bytes(self.rest)
        self.rest.clear()
        return everything

    def _head(self) -> tuple[int, list[tuple[str, str]]]:
        first, *lines = self._until(b"\r\n\r\n").split(b"\r\n")
        status = _STATUS_LINE.fullmatch(first)
        if status is None:
            raise Broken(f"no status line: {first[:200]!r}")
        headers = []
        for line in lines:
            header = _HEADER_LINE.fullmatch(line)
            if header is None:
                raise Broken(f"no header line: {line[:200]!r}")
            headers.append((header[1].decode().lower(), header[2].decode("latin-1").strip()))
        return int(status[1]), headers

    def _chunked(self) -> tuple[bytes, tuple[int, ...]]:
        parts: list[bytes] = []
        while True:
            line = _CHUNK_LINE.fullmatch(self._until(b"\r\n"))
            if line is None:
                raise Broken("no chunk size")
            size = int(line[1], 16)
            if size == 0:
                break
            parts.append(self._exactly(size))
            if self._exactly(2) != b"\r\n":
                raise Broken("a chunk is longer than it says")
        while trailer := self._until(b"\r\n"):
            if _HEADER_LINE.fullmatch(trailer) is None:
                raise Broken(f"no trailer: {trailer[:200]!r}")
        return b"".join(parts), tuple(map(len, parts))

    def _until(self, end: bytes) -> bytes:
        while (at := self.rest.find(end)) < 0:
            self._more()
        found = bytes(self.rest[:at])
        del self.rest[: at + len(end)]
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self.rest) < size:
            self._more()
        found = bytes(self.rest[:size])
        del self.rest[:size]
        return found

    def _more(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise Broken(f"the connection ended in the middle of an answer, after {bytes(self.rest[-200:])!r}")
        self.rest += data


class Caller:
    """One connection to the gateway."""

    def __init__(self, port: int, *, receive_bytes: int | None = None) -> None:
        """``receive_bytes``: of the socket's buffer, for those who read slowly."""
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = Reader(self.socket)

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, data: bytes) -> Caller:
        self.socket.sendall(data)
        return self

    def try_send(self, data: bytes) -> int:
        """How many bytes were taken before the gateway refused more."""
        taken, view = 0, memoryview(data)
        try:
            while taken < len(data):
                taken += self.socket.send(view[taken : taken + (1 << 18)])
        except (BrokenPipeError, ConnectionResetError):
            pass
        return taken

    def answer(self, method: str = "POST") -> Answer:
        return self.reader.answer(method)

    def ask(self, data: bytes, method: str = "POST") -> Answer:
        return self.send(data).answer(method)

    def is_closed(self) -> bool:
        """Waits for the gateway to close; True when nothing came before."""
        try:
            return self.reader.until_closed() == b""
        except ConnectionResetError:
            return not self.reader.rest

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Gone as a process that was killed is: without a goodbye."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()


def head(*headers: tuple[str, str], method: str = "POST", path: str = "/v1/chat/completions") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: gateway", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunked(body: bytes, *sizes: int, end: bytes = b"0\r\n\r\n") -> bytes:
    """``body`` in chunks of these sizes, the last of them again and again."""
    out, at, left = bytearray(), 0, list(sizes) or [len(body) or 1]
    while at < len(body):
        size = left.pop(0) if len(left) > 1 else left[0]
        piece = body[at : at + size]
        out += b"%x\r\n%b\r\n" % (len(piece), piece)
        at += size
    return bytes(out) + end


def in_pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    at = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[start:stop] for start, stop in pairwise(at)]
