"""Picking the finished response out of an answer on its way to the caller."""

from __future__ import annotations

from collections.abc import Callable

# The events that end a stream carry the whole response. In the data of an event no line begins with a name: line ends
# inside of JSON texts are escaped.
_COMPLETED, _INCOMPLETE, _FAILED = _ENDS = (
    b"event: response.completed",
    b"event: response.incomplete",
    b"event: response.failed",
)
_LONGEST_END = max(map(len, _ENDS))
_OUTPUT = b"event: response.output_"
_OTHER = b"-"  # the beginning of a line that is not kept
_DATA = b"\ndata:"

Keep = Callable[[bytes], None]  # is given the JSON of a response, or of the event that has it


class WholeTap:
    """Of an answer that is one JSON document."""

    def __init__(self, keep: Keep, most_bytes: int) -> None:
        self._keep, self._most_bytes = keep, most_bytes
        self._parts: list[bytes] = []
        self._bytes = 0

    def feed(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes <= self._most_bytes:
            self._parts.append(data)
        else:
            self._parts.clear()

    def done(self) -> None:
        if self._parts:
            self._keep(b"".join(self._parts))
            self._parts.clear()

    def broken(self) -> None:
        self._parts.clear()


class StreamTap(WholeTap):
    """Of a stream: everything before the event that ends it is looked at and let go."""

    def __init__(self, keep: Keep, most_bytes: int) -> None:
        super().__init__(keep, most_bytes)
        self._found = False
        self._tail = b""  # of an event that is not whole yet: the name of its end may be cut in two

    def feed(self, data: bytes) -> None:
        if self._found:
            super().feed(data)
            return
        # Nearly every piece is one event of some output, and whole.
        if not self._tail and data.startswith(_OUTPUT) and data.endswith(b"\n\n") and data.find(b"\nevent:") < 0:
            return
        seen = self._tail + data if self._tail else data
        if _COMPLETED in seen or _INCOMPLETE in seen or _FAILED in seen:
            lines = b"\n" + seen
            starts = [at for at in (lines.find(b"\n" + end) for end in _ENDS) if at >= 0]
            if starts:
                self._found = True
                super().feed(seen[min(starts) :])
                return
        self._tail = b"" if seen.endswith(b"\n\n") else _last_line(seen)

    def done(self) -> None:
        event = b"".join(self._parts)
        self._parts.clear()
        at = event.find(_DATA)
        if at >= 0:
            line = event[at + len(_DATA) :]
            self._keep(line.partition(b"\n")[0].strip())


def _last_line(seen: bytes) -> bytes:
    """As much of the unfinished last line as can matter."""
    start = seen.rfind(b"\n") + 1
    return seen[start:] if len(seen) - start <= _LONGEST_END else _OTHER
