"""Owners' side of the launcher's socket and of the control wire (asyncio)."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec

from models.runtimes import wire
from models.runtimes.exits import read_exit_report
from models.runtimes.protocol import (
    EngineError,
    EngineOrder,
    EngineReply,
    EngineStatus,
    ExitReport,
    LauncherStatus,
    Refusal,
)
from models.runtimes.sockets import remove
from models.runtimes.wire import ControlRequest, LauncherRequest, Operation

PING_TIMEOUT_S = 2.0
GREETING_TIMEOUT_S = 2.0
CALL_TIMEOUT_S = 30.0
REPORT_WAIT_S = 0.25  # the launcher reaps a dead child within a few milliseconds
REPORT_POLL_S = 0.005


class LauncherClient:
    """Talks to the launcher that listens on ``socket_path``."""

    def __init__(self, socket_path: str | Path) -> None:
        self._path = str(socket_path)

    async def ping(self, timeout_s: float = PING_TIMEOUT_S) -> LauncherStatus:
        """Raises OSError when there is no launcher, TimeoutError when it does not answer."""
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(self._path, limit=wire.LINE_LIMIT_BYTES)
            try:
                writer.write(wire.encode(LauncherRequest(op="ping")))
                line = await reader.readline()
            finally:
                writer.close()
        if not line:
            raise ConnectionResetError(f"the launcher on {self._path} hung up")
        return msgspec.json.decode(line, type=LauncherStatus)

    async def quit(self) -> None:
        """End the launcher; its engines go on. Raises OSError when there is no launcher."""
        reader, writer = await asyncio.open_unix_connection(self._path)
        writer.write(wire.encode(LauncherRequest(op="quit")))
        await reader.read()
        writer.close()

    async def start(self, order: EngineOrder) -> EngineConnection:
        """Have an engine forked; returns with its first status, long before it is ready.

        While the launcher is warming this waits. Raises EngineError when it refuses, OSError when there is none.
        """
        reader, writer = await asyncio.open_unix_connection(self._path, limit=wire.LINE_LIMIT_BYTES)
        writer.write(wire.encode(LauncherRequest(op="start", order=order)))
        return await EngineConnection.greet(reader, writer)


class EngineConnection:
    """One control connection to an engine; ``status`` is always the latest that it has pushed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: EngineStatus) -> None:
        self.status = status
        self.closed = asyncio.Event()  # the engine is gone or the connection was closed
        self._reader = reader
        self._writer = writer
        self._sequence = 0
        self._waiting: dict[int, asyncio.Future[EngineReply]] = {}
        self._changed = asyncio.Event()
        self._pump = asyncio.get_running_loop().create_task(self._receive())

    @classmethod
    async def connect(cls, control_path: str | Path, timeout_s: float = GREETING_TIMEOUT_S) -> EngineConnection:
        """Adopt a running engine. Raises OSError when it is gone, TimeoutError (an OSError) when it does not answer."""
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(str(control_path), limit=wire.LINE_LIMIT_BYTES)
            try:
                return await cls.greet(reader, writer)
            except EngineError as problem:
                raise ConnectionResetError(str(problem)) from problem
            except BaseException:
                writer.close()
                raise

    @classmethod
    async def greet(cls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> EngineConnection:
        """Wait for the engine's first status on a fresh connection. Raises EngineError when there is none."""
        try:
            line = await reader.readline()
        except ConnectionError:
            line = b""
        message = wire.decode_from_engine(line) if line.endswith(b"\n") else Refusal(refused="it hung up at once")
        if isinstance(message, EngineStatus):
            return cls(reader, writer, message)
        writer.close()
        raise EngineError(message.refused if isinstance(message, Refusal) else "it did not say what it is")

    async def wait_ready(self) -> EngineStatus:
        """The status once the engine has loaded (an adopted one may be asleep).

        Raises EngineError with the engine's own sentence when it failed or ended, once its process is gone.
        """
        while True:
            if self.closed.is_set():
                raise EngineError(self.end_reason())
            if self.status.state in ("ready", "asleep"):
                return self.status
            if self.status.state == "failed":
                # Whoever hears of the failure may count on the process, its memory and its sockets being gone.
                await self.closed.wait()
                continue
            self._changed.clear()
            await self._changed.wait()

    async def call(self, op: Operation, timeout_s: float = CALL_TIMEOUT_S) -> EngineStatus:
        """Ask for ``op``; the status afterwards. Raises EngineError when refused or gone, TimeoutError when silent."""
        if self.closed.is_set():
            raise EngineError(self.end_reason())
        self._sequence += 1
        sequence = self._sequence
        answer: asyncio.Future[EngineReply] = asyncio.get_running_loop().create_future()
        self._waiting[sequence] = answer
        try:
            self._writer.write(wire.encode(ControlRequest(seq=sequence, op=op)))
            reply = await asyncio.wait_for(answer, timeout_s)
        finally:
            self._waiting.pop(sequence, None)
        if not reply.ok:
            raise EngineError(reply.error or f"the engine refused to {op}")
        return reply.status

    def end_reason(self) -> str:
        """Why the engine is gone, as far as anybody knows."""
        if self.status.state == "failed" and self.status.error:
            return self.status.error
        report = self._exit_report()
        return report.reason() if report else f"the engine's process {self.status.pid} ended"

    async def close(self) -> None:
        """Hang up; the engine goes on under its lease."""
        self._pump.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._pump
        self._writer.close()

    async def _receive(self) -> None:
        try:
            while (line := await self._reader.readline()).endswith(b"\n"):
                self._take(wire.decode_from_engine(line))
            await self._await_report()
        except (ConnectionError, msgspec.DecodeError, ValueError):  # ValueError: a line beyond the limit
            await self._await_report()
        finally:
            self.closed.set()
            self._changed.set()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(EngineError(self.end_reason()))

    def _take(self, message: EngineStatus | EngineReply | Refusal) -> None:
        if isinstance(message, Refusal):
            return
        if isinstance(message, EngineReply):
            waiting = self._waiting.get(message.seq)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
            self.status = message.status
        else:
            self.status = message
        self._changed.set()

    def _exit_report(self) -> ExitReport | None:
        report = read_exit_report(self.status.order.control_path)
        return report if report is not None and report.pid == self.status.pid else None

    async def _await_report(self) -> None:
        """The socket closes a moment before the launcher can say why: whoever waits for ``closed`` wants the reason."""
        waited_s = 0.0 if self.status.pid else REPORT_WAIT_S  # the launcher declined: there never was a process
        while self._exit_report() is None and waited_s < REPORT_WAIT_S:
            await asyncio.sleep(REPORT_POLL_S)
            waited_s += REPORT_POLL_S


async def scan(engines_dir: str | Path) -> list[EngineStatus]:
    """Ask every engine that has its control socket (``*.ctl``) under a folder; sockets of dead ones are removed.

    An engine that lives but does not answer in GREETING_TIMEOUT_S is left alone and left out.
    """
    paths = sorted(Path(engines_dir).glob("*.ctl"))
    found = await asyncio.gather(*(_ask(path) for path in paths))
    return [status for status in found if status is not None]


async def _ask(path: Path) -> EngineStatus | None:
    try:
        connection = await EngineConnection.connect(path)
    except TimeoutError:
        return None
    except ConnectionRefusedError:
        remove(str(path))
        remove(str(path.with_suffix(".http")))
        return None
    except OSError:
        return None
    status = connection.status
    await connection.close()
    return status
