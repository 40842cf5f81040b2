"""An engine's end of the control wire: who is connected, what they ask, and the lease that they renew."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import msgspec

from models.runtimes import wire
from models.runtimes.protocol import EngineReply, EngineStatus, Refusal
from models.runtimes.wire import ControlRequest

FLUSH_TIMEOUT_S = 1.0
FLUSH_POLL_S = 0.001
SLOWEST_READER_BYTES = 1 << 20  # an owner that reads nothing is hung up on

Handler = Callable[[ControlRequest], Awaitable[EngineReply]]


class Lease:
    """Runs out ``lease_s`` seconds after its last renewal, on the clock of the event loop."""

    def __init__(self, lease_s: float, clock: Callable[[], float]) -> None:
        self._lease_s = lease_s
        self._clock = clock
        self._ends_at = clock() + lease_s

    def renew(self) -> None:
        self._ends_at = self._clock() + self._lease_s

    def left_s(self) -> float:
        return max(0.0, self._ends_at - self._clock())

    async def expired(self) -> None:
        """Wait until nobody has renewed it for its whole length."""
        while (left_s := self.left_s()) > 0:
            await asyncio.sleep(left_s)


class ControlServer:
    """Greets each connection with the status, answers requests, and tells everybody of changes."""

    def __init__(self, status: EngineStatus, handler: Handler) -> None:
        self._status = status
        self._handler = handler
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def adopt(self, connection: socket.socket) -> None:
        """Serve the connection that the order came in on."""
        connection.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=wire.LINE_LIMIT_BYTES)
        self._greet(writer)  # now: the engine may fail before a task of its own would come to it
        serving = asyncio.get_running_loop().create_task(self._read(reader, writer))
        self._tasks.add(serving)
        serving.add_done_callback(self._tasks.discard)

    async def listen(self, listener: socket.socket) -> None:
        # Kept: uvloop closes the socket of a server that nobody holds.
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=wire.LINE_LIMIT_BYTES)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._greet(writer)
        await self._read(reader, writer)

    def _greet(self, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self._send(writer, self._status)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering: set[asyncio.Task[None]] = set()
        try:
            while (line := await reader.readline()).endswith(b"\n"):
                # Not awaited here: a renewal must get through while a long sleep or wake is being done.
                task = asyncio.get_running_loop().create_task(self._answer(line, writer))
                answering.add(task)
                task.add_done_callback(answering.discard)
        except (ConnectionError, ValueError):  # ValueError: a line beyond the limit
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def close(self) -> None:
        """Hang up on everybody."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.close()

    def push(self, status: EngineStatus) -> None:
        """Tell everybody; later connections are greeted with it."""
        self._status = status
        for writer in tuple(self._writers):
            self._send(writer, status)

    async def flush(self) -> None:
        """Wait, but not for long, until what was said has left this process, which drain() does not promise."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                while any(writer.transport.get_write_buffer_size() for writer in self._writers):
                    await asyncio.sleep(FLUSH_POLL_S)

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            request = wire.decode_control(line)
        except msgspec.DecodeError as problem:  # ValidationError is one
            self._send(writer, Refusal(refused=f"not a control request: {problem}"))
            return
        self._send(writer, await self._handler(request))

    def _send(self, writer: asyncio.StreamWriter, message: EngineStatus | EngineReply | Refusal) -> None:
        if writer.transport.get_write_buffer_size() > SLOWEST_READER_BYTES:
            writer.transport.abort()
        if not writer.is_closing():
            writer.write(wire.encode(message))
