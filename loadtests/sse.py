"""Server-sent events out of a byte stream that arrives in pieces of any size (WHATWG HTML, section 9.2.6). Pure."""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_EVENT_BYTES = 8 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class SseError(ValueError):
    """The stream is not one of server-sent events, or an event is larger than ``LARGEST_EVENT_BYTES``."""


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event. ``name`` is ``message`` unless the server named it; lines of ``data`` are joined by newlines."""

    data: str
    name: str = "message"


class SseParser:
    """Feed it what the socket gave; it returns the events that became complete with it."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._at_start = True
        self._after_cr = False  # a line ended with CR at the end of a piece: an LF that follows belongs to it
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._name = b""

    @property
    def in_event(self) -> bool:
        """Whether the stream would now end in the middle of an event."""
        return bool(self._unread or self._data)

    def feed(self, piece: bytes) -> list[SseEvent]:
        """Raises SseError for an event beyond ``LARGEST_EVENT_BYTES`` or for data that is not UTF-8."""
        self._unread += piece
        if self._at_start and not self._skip_bom():
            return []
        events = []
        while (line := self._next_line()) is not None:
            if line:
                self._field(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        if len(self._unread) + self._data_bytes > LARGEST_EVENT_BYTES:
            raise SseError(f"an event is larger than {LARGEST_EVENT_BYTES} bytes")
        return events

    def _skip_bom(self) -> bool:
        """False while it cannot be told yet whether the stream begins with a byte order mark."""
        head = bytes(self._unread[:3])
        if head != _BOM and _BOM.startswith(head):
            return False
        self._at_start = False
        if head == _BOM:
            del self._unread[:3]
        return True

    def _next_line(self) -> bytes | None:
        """The next line without its end (LF, CR or CR LF), or None when it is not complete."""
        if self._after_cr and self._unread:
            self._after_cr = False
            if self._unread[0] == 0x0A:
                del self._unread[0]
        feed, ret = self._unread.find(b"\n"), self._unread.find(b"\r")
        end = min(feed, ret) if feed >= 0 and ret >= 0 else max(feed, ret)
        if end < 0:
            return None
        line = bytes(self._unread[:end])
        self._after_cr = end == ret
        del self._unread[: end + 1]
        return line

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value)
        elif name == b"event":
            self._name = value
        # A comment (no name), id, retry and unknown fields say nothing to a load test.

    def _dispatch(self) -> SseEvent | None:
        lines, name = self._data, self._name
        self._data, self._data_bytes, self._name = [], 0, b""
        if not lines:
            return None
        try:
            return SseEvent(b"\n".join(lines).decode(), name.decode() or "message")
        except UnicodeDecodeError as problem:
            raise SseError(f"an event is not UTF-8: {problem}") from None
