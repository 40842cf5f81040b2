"""HTTP/1.1 answers out of pieces of any size (RFC 9112). Pure."""

from __future__ import annotations

LARGEST_HEAD_BYTES = 64 * 1024
LARGEST_CHUNK_BYTES = 64 * 1024 * 1024
LONGER = "a chunk is longer than it said"


class AnswerError(ValueError):
    """What came is no HTTP answer."""


class Answer:
    """Feed it what the socket gave; it returns the part of the body that came with it.

    ``status``: 0 until the head is there. ``done``: the body is complete. ``keep``: another request may follow on the
    same connection. ``rest``: bytes after the end, which nobody asked for.
    """

    __slots__ = ("_chunked", "_left", "_owed", "_rest", "_trailers", "done", "headers", "keep", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.done = False
        self.keep = False
        self._rest = b""
        self._chunked = False
        self._left: int | None = None  # bytes of a body with a length; None: it ends with its connection
        self._owed = 0  # bytes of the chunk that has begun, its line end included
        self._trailers = False

    def feed(self, data: bytes) -> bytes:
        """Raises AnswerError."""
        if not self.status:
            data = self._head(data)
            if not self.status:
                return b""
        if self.done:
            self.keep = self.keep and not data
            return b""
        if self._chunked:
            return self._chunks(data)
        if self._left is None:
            return data
        body = data[: self._left]
        self._left -= len(body)
        if not self._left:
            self.done = True
            self.keep = self.keep and len(body) == len(data)
        return body

    def close(self) -> None:
        """The connection ended. Raises AnswerError when the answer was not complete."""
        if not self.status:
            raise AnswerError("the connection was closed before the answer")
        if not self.done and (self._chunked or self._left is not None):
            raise AnswerError("the connection was closed in the middle of the answer")
        self.done, self.keep = True, False

    def _head(self, data: bytes) -> bytes:
        """What follows the head; interim answers (1xx) are passed over."""
        data = self._rest + data
        while not self.status:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > LARGEST_HEAD_BYTES:
                    raise AnswerError(f"the head of the answer is larger than {LARGEST_HEAD_BYTES} bytes")
                self._rest = data
                return b""
            status = self._read_head(data[:end])
            data = data[end + 4 :]
            self.status = status if status >= 200 else 0
        self._rest = b""
        return data

    def _read_head(self, head: bytes) -> int:
        first, *lines = head.split(b"\r\n")
        words = first.split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit() or len(words[1]) != 3:
            raise AnswerError(f"this is no HTTP/1.1 answer: {first[:60]!r}")
        status = int(words[1])
        headers: dict[bytes, bytes] = {}
        self.headers = headers
        for line in lines:
            name, _, value = line.partition(b":")
            name, value = name.strip().lower(), value.strip()
            headers[name] = headers[name] + b", " + value if name in headers else value  # RFC 9110, 5.2
        connection = {word.strip() for word in headers.get(b"connection", b"").lower().split(b",")}
        self.keep = b"close" not in connection and (words[0] != b"HTTP/1.0" or b"keep-alive" in connection)
        self._chunked = headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked")
        length = headers.get(b"content-length")
        if not self._chunked and length is not None:
            if not length.isdigit():
                raise AnswerError(f"the answer's content-length is {length[:60]!r}")
            self._left = int(length)
        if status in (204, 304) or (self._left == 0 and not self._chunked):
            self.done = status >= 200
            self._left, self._chunked = 0, False
        return status

    def _chunks(self, data: bytes) -> bytes:
        found: list[bytes] = []
        if self._owed:
            piece, data = data[: self._owed], data[self._owed :]
            found.append(self._owed_part(piece))
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while not self.done:
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                if end - at > LARGEST_HEAD_BYTES:
                    raise AnswerError("the size of a chunk does not end")
                break
            if self._trailers:
                self.done = line_end == at
                at = line_end + 2
                continue
            size = _size(data[at:line_end])
            if not size:
                self._trailers = True
                at = line_end + 2
                continue
            begin = line_end + 2
            at = begin + size + 2
            if at > end:  # what there is of it counts now: its events came when they came
                self._owed = size + 2
                found.append(self._owed_part(data[begin:end]))
                at = end
                break
            if data[at - 2 : at] != b"\r\n":
                raise AnswerError(LONGER)
            found.append(data[begin : at - 2])
        self._rest = data[at:]
        if self.done:
            self.keep = self.keep and not self._rest
        return found[0] if len(found) == 1 else b"".join(found)

    def _owed_part(self, piece: bytes) -> bytes:
        """The body's part of the next bytes of a chunk."""
        inside = max(0, self._owed - 2)
        line_end = b"\r\n"[max(0, 2 - self._owed) :]
        if not line_end.startswith(piece[inside:]):
            raise AnswerError(LONGER)
        self._owed -= len(piece)
        return piece[:inside]


def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    try:
        size = int(digits, 16)
    except ValueError:
        size = -1
    if not 0 <= size <= LARGEST_CHUNK_BYTES or digits[:1] in b"+-_":
        raise AnswerError(f"this is no size of a chunk: {line[:60]!r}")
    return size


def server_timing(value: bytes) -> dict[str, float]:
    """Milliseconds by name (https://www.w3.org/TR/server-timing/); entries without a duration are left out."""
    found: dict[str, float] = {}
    for entry in value.decode("latin-1").split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        for parameter in parameters:
            key, _, text = parameter.partition("=")
            if key.strip().lower() != "dur" or not name:
                continue
            try:
                found[name] = float(text.strip().strip('"'))
            except ValueError:
                continue
    return found
