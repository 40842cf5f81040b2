"""Server-Sent Events as the gateway needs them: where one ends."""

from __future__ import annotations

LONGEST_EVENT_BYTES = 4 << 20


class WholeEvents:
    """Lets only whole events through, so that a stream whose engine died can still end with an error event of its own.

    What is kept back is the unfinished end of the last event, useless to any reader.
    """

    def __init__(self) -> None:
        self._rest = b""

    @property
    def empty(self) -> bool:
        """Nothing is kept back: the next bytes begin an event."""
        return not self._rest

    def feed(self, data: bytes) -> bytes:
        """The bytes that may go out now; empty when ``data`` finishes no event."""
        buffer = self._rest + data if self._rest else data
        end = max(_after(buffer, b"\n\n"), _after(buffer, b"\r\n\r\n"))
        if end == 0 and len(buffer) > LONGEST_EVENT_BYTES:
            end = len(buffer)  # not a stream of events; do not keep it all
        self._rest = buffer[end:]
        return buffer[:end]

    def rest(self) -> bytes:
        """What is left when the stream ends properly: some engines leave out the last blank line."""
        rest, self._rest = self._rest, b""
        return rest


def _after(buffer: bytes, mark: bytes) -> int:
    at = buffer.rfind(mark)
    return 0 if at < 0 else at + len(mark)
