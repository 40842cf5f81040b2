"""HTTP's chunked framing (RFC 9112 section 7.1), both ways. Strict: what is not exactly a chunk is refused."""

from __future__ import annotations

from enum import Enum, auto

LONGEST_SIZE_LINE = 256  # digits and extensions, which are read over
MOST_TRAILER_BYTES = 8192
MOST_SMALL_CHUNKS = 10_000  # of any size; of more, the mean size counts
LAST = b"0\r\n\r\n"

_HEX = frozenset(b"0123456789abcdefABCDEF")
_KNOWN_LINES = 4096
_sizes: dict[bytes, int] = {}  # size lines seen before: streams repeat the same few


class BadChunk(Exception):
    """What is wrong with the framing."""


class _State(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    ENDED = auto()


def size_of(line: bytes) -> int:
    """Bytes of the chunk that a size line (without its CRLF) announces. Raises BadChunk."""
    known = _sizes.get(line)
    if known is not None:
        return known
    digits, semicolon, extension = line.partition(b";")
    if semicolon:
        digits = digits.rstrip(b" \t")
        if any((byte < 32 and byte != 9) or byte == 127 for byte in extension):
            raise BadChunk("a chunk extension has control characters")
    if not 0 < len(digits) <= 15 or not _HEX.issuperset(digits):
        raise BadChunk("a chunk does not begin with its size")
    size = int(digits, 16)
    if len(_sizes) < _KNOWN_LINES and not semicolon:
        _sizes[line] = size
    return size


def framed(data: bytes) -> bytes:
    """One chunk; ``data`` is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole_events(data: bytes) -> int:
    """Payload bytes of ``data`` where it is nothing but whole chunks that each end with a whole event; else 0.

    The last chunk does not count as one: where it is there, somebody has to look closely.
    """
    at, end, payload = 0, len(data), 0
    while at < end:
        line_end = data.find(b"\r\n", at, at + 20)
        if line_end < 0:
            return 0
        size = _sizes.get(data[at:line_end])
        if size is None:
            try:
                size = size_of(data[at:line_end])
            except BadChunk:
                return 0
        if size < 3:
            return 0
        at = line_end + size + 4
        if at > end or data[at - 4 : at] != b"\n\n\r\n":
            return 0
        payload += size
    return payload


def payload_of(data: bytes) -> bytes:
    """Without framing; of ``data`` as ``whole_events`` likes it."""
    begin = data.find(b"\r\n") + 2
    end = begin + _size(data[: begin - 2])
    if end + 2 == len(data):
        return data[begin:end]
    parts = [data[begin:end]]
    while end + 2 < len(data):
        line = end + 2
        begin = data.find(b"\r\n", line) + 2
        end = begin + _size(data[line : begin - 2])
        parts.append(data[begin:end])
    return b"".join(parts)


def _size(line: bytes) -> int:
    return _sizes.get(line) or size_of(line)


class Dechunker:
    """Takes a body out of its chunks, however they are cut.

    ``smallest_bytes``: what many chunks must hold in the mean. Each costs time, whatever it holds: two callers who sent
    single bytes kept a worker busy for nine seconds.
    """

    __slots__ = (
        "_announced_bytes", "_chunks", "_left", "_line", "_smallest_bytes", "_state", "_trailer_bytes", "parts",
    )  # fmt: skip

    def __init__(self, smallest_bytes: int = 0) -> None:
        self._smallest_bytes = smallest_bytes
        self._chunks = self._announced_bytes = 0
        self._state = _State.SIZE
        self._line = b""
        self._left = 0
        self._trailer_bytes = 0
        self.parts: list[bytes] = []  # what came out since the last ``take``

    @property
    def ended(self) -> bool:
        return self._state is _State.ENDED

    @property
    def between_chunks(self) -> bool:
        return self._state is _State.SIZE and not self._line

    def take(self) -> bytes:
        parts, self.parts = self.parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def feed(self, data: bytes) -> bytes:
        """What of ``data`` comes after the end of the body; empty before. Raises BadChunk."""
        at, end = 0, len(data)
        while at < end and self._state is not _State.ENDED:
            if self._state is _State.DATA:
                part = data[at : at + self._left]
                self.parts.append(part)
                at += len(part)
                self._left -= len(part)
                if self._left == 0:
                    self._state = _State.DATA_END
                continue
            if self._state is _State.SIZE and not self._line:
                at = self._take_whole_chunks(data, at)
            at = self._take_line(data, at)
        if self._chunks > MOST_SMALL_CHUNKS and self._announced_bytes < self._chunks * self._smallest_bytes:
            raise BadChunk("it is cut into too many small chunks")
        return data[at:]

    def _take_whole_chunks(self, data: bytes, at: int) -> int:
        """Those that are here from size to end and have nothing special, in a sixth of the time."""
        while True:
            line_end = data.find(b"\r\n", at, at + 20)
            size = _sizes.get(data[at:line_end]) if line_end >= 0 else None
            if not size:
                return at
            stop = line_end + 2 + size
            if data[stop : stop + 2] != b"\r\n":
                return at
            self.parts.append(data[line_end + 2 : stop])
            self._chunks += 1
            self._announced_bytes += size
            at = stop + 2

    def _take_line(self, data: bytes, at: int) -> int:
        """Up to and with a LF; the CR before it may have come earlier."""
        line_end = data.find(b"\n", at)
        taken = data[at:] if line_end < 0 else data[at : line_end + 1]
        self._line += taken
        if len(self._line) > LONGEST_SIZE_LINE and self._state is not _State.TRAILER:
            raise BadChunk("a chunk's size line is too long")
        if self._state is _State.DATA_END and not b"\r\n".startswith(self._line[:2]):
            raise BadChunk("a chunk is longer than its size")
        if self._state is _State.TRAILER:
            self._trailer_bytes += len(taken)
            if self._trailer_bytes > MOST_TRAILER_BYTES:
                raise BadChunk("the trailer is too long")
        if line_end >= 0:
            if not self._line.endswith(b"\r\n"):
                raise BadChunk("a line of the framing does not end with CR LF")
            line, self._line = self._line[:-2], b""
            if b"\r" in line:
                raise BadChunk("a line of the framing has a CR in it")
            self._end_line(line)
        return at + len(taken)

    def _end_line(self, line: bytes) -> None:
        if self._state is _State.DATA_END:
            if line:
                raise BadChunk("a chunk is longer than its size")
            self._state = _State.SIZE
        elif self._state is _State.SIZE:
            self._left = size_of(line)
            self._chunks += 1
            self._announced_bytes += self._left
            self._state = _State.DATA if self._left else _State.TRAILER
        elif not line:
            self._state = _State.ENDED
