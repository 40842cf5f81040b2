"""Server-sent events, read as fast as Python can: the same events as ``loadtests.sse`` finds (the tests hold it to
that), without decoding what a load test does not look at."""

from __future__ import annotations

LARGEST_EVENT_BYTES = 8 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
Event = tuple[bytes, bytes]


class EventsTooLarge(ValueError):
    """An event beyond LARGEST_EVENT_BYTES."""


class StreamEvents:
    """Feed it pieces of a stream; it returns (name, data) of the events that became complete. ``name``: b"" unless the
    server named it."""

    __slots__ = ("_at_start", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._at_start = True

    def feed(self, data: bytes) -> list[Event]:
        """Raises EventsTooLarge."""
        if self._rest:
            data = self._rest + data
        if self._at_start:
            if len(data) < 3 and _BOM.startswith(data):
                self._rest = data
                return []
            self._at_start = False
            data = data.removeprefix(_BOM)
        held = b""
        if b"\r" in data:
            if data.endswith(b"\r"):  # an LF that belongs to it may follow
                data, held = data[:-1], b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        blocks = data.split(b"\n\n")
        self._rest = blocks.pop() + held
        if len(self._rest) > LARGEST_EVENT_BYTES:
            raise EventsTooLarge(f"an event is larger than {LARGEST_EVENT_BYTES} bytes")
        found: list[Event] = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:
                found.append((b"", block[6:]))
            elif (event := _read(block)) is not None:
                found.append(event)
        return found


def _read(block: bytes) -> Event | None:
    name, lines = b"", []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value
    return (name, b"\n".join(lines)) if lines else None
