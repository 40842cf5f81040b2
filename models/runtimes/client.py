"""Owners' side of the launcher's socket and of the control wire (asyncio)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal

import msgspec

from models.runtimes import wire
from models.runtimes.host.exits import read_exit_report
from models.runtimes.protocol import (
    EngineError,
    EngineOrder,
    EngineReply,
    EngineState,
    EngineStatus,
    ExitReport,
    Fault,
    LauncherStatus,
    Refusal,
    exit_path,
)
from models.runtimes.sockets import remove
from models.runtimes.wire import ControlRequest, LauncherRequest, Operation

PING_TIMEOUT_S = 2.0
GREETING_TIMEOUT_S = 2.0
CALL_TIMEOUT_S = 30.0
REPORT_WAIT_S = 0.25  # the launcher reaps a dead child within a few milliseconds
REPORT_POLL_S = 0.005


class EngineHungUp(EngineError):
    """The connection was closed before the engine said what it is."""


def doing(state: EngineState, asked: Collection[Operation] = ()) -> str:
    """What an engine was doing when it ended, to go behind "it ended"."""
    if "wake" in asked:
        return "while it woke"
    if "sleep" in asked:
        return "while it fell asleep"
    return {"loading": "while it loaded", "ready": "while it served", "asleep": "while it slept"}.get(state, "")


class LauncherClient:
    """Talks to the launcher that listens on ``socket_path``."""

    def __init__(self, socket_path: str | Path) -> None:
        self._path = str(socket_path)

    async def ping(self, timeout_s: float = PING_TIMEOUT_S) -> LauncherStatus:
        """Raises OSError when there is no launcher, TimeoutError when it does not answer."""
        return await self._ask("ping", timeout_s)

    async def recycle(self, timeout_s: float = PING_TIMEOUT_S) -> LauncherStatus:
        """Have the warm process replaced, while orders are served and engines go on. Raises as ``ping`` does."""
        return await self._ask("recycle", timeout_s)

    async def _ask(self, op: Literal["ping", "recycle"], timeout_s: float) -> LauncherStatus:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(self._path, limit=wire.LINE_LIMIT_BYTES)
            try:
                writer.write(wire.encode(LauncherRequest(op=op)))
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
        remove(exit_path(order.control_path))  # of an earlier engine of this name
        writer.write(wire.encode(LauncherRequest(op="start", order=order)))
        try:
            return await EngineConnection.greet(reader, writer)
        except EngineHungUp as problem:
            # The launcher hangs up only as it declines, with a word: a child has died before it could speak.
            report = await _until_reported(lambda: read_exit_report(order.control_path))
            if report is None:
                raise
            raise EngineError(report.reason("before it could load"), report.fault) from problem


class EngineConnection:
    """One control connection to an engine; ``status`` is always the latest that it has pushed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: EngineStatus) -> None:
        self.status = status
        self.closed = asyncio.Event()  # the engine is gone or the connection was closed
        self._reader = reader
        self._writer = writer
        self._sequence = 0
        self._waiting: dict[int, asyncio.Future[EngineReply]] = {}
        self._doing: set[Operation] = set()  # what it was asked for and has not answered
        self._verdict: tuple[str, Fault] | None = None
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
        if not line.endswith(b"\n"):
            writer.close()
            raise EngineHungUp("it hung up at once")
        message = wire.decode_from_engine(line)
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
                raise self.end()
            if self.status.state in ("ready", "asleep"):
                return self.status
            if self.status.state == "failed":
                # Whoever hears of the failure may count on the process, its memory and its sockets being gone.
                await self.closed.wait()
                continue
            self._changed.clear()
            await self._changed.wait()

    async def call(
        self, op: Operation, timeout_s: float | None = CALL_TIMEOUT_S, *, drain_s: float | None = None
    ) -> EngineStatus:
        """Ask for ``op``; the status afterwards. Raises EngineError when refused or gone, TimeoutError when silent.

        ``drain_s``, of ``sleep`` and ``stop``: how long requests in flight may go on. ``timeout_s`` None: for ever.
        """
        return (await self.ask(op, timeout_s, drain_s=drain_s)).status

    async def ask(
        self, op: Operation, timeout_s: float | None = CALL_TIMEOUT_S, *, drain_s: float | None = None
    ) -> EngineReply:
        """As ``call``, with the whole reply."""
        if self.closed.is_set():
            raise self.end()
        self._sequence += 1
        sequence = self._sequence
        answer: asyncio.Future[EngineReply] = asyncio.get_running_loop().create_future()
        self._waiting[sequence] = answer
        try:
            self._writer.write(wire.encode(ControlRequest(seq=sequence, op=op, drain_s=drain_s)))
            self._doing.add(op)
            reply = await asyncio.wait_for(answer, timeout_s)
            self._doing.discard(op)
        finally:
            self._waiting.pop(sequence, None)
        if not reply.ok:
            raise EngineError(reply.error or f"the engine refused to {op}", reply.fault or "other")
        return reply

    def condemn(self, reason: str, fault: Fault) -> None:
        """Its owner is about to end it: for this reason, whatever its process will seem to have died of."""
        self._verdict = (reason, fault)

    def end(self) -> EngineError:
        """Why the engine is gone, as far as anybody knows."""
        if self._verdict is not None:
            return EngineError(*self._verdict)
        if self.status.state == "failed" and self.status.error:
            return EngineError(self.status.error, self.status.fault or "other")
        report = self._exit_report()
        during = doing(self.status.state, self._doing)
        if report is None:
            return EngineError(f"the engine's process {self.status.pid} ended {during}".rstrip())
        return EngineError(report.reason(during), report.fault)

    def end_reason(self) -> str:
        """``end`` as one sentence."""
        return str(self.end())

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
                    waiting.set_exception(self.end())

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
        if self.status.pid:  # else the launcher declined: there never was a process
            await _until_reported(self._exit_report)


async def _until_reported(read: Callable[[], ExitReport | None]) -> ExitReport | None:
    waited_s = 0.0
    while (report := read()) is None and waited_s < REPORT_WAIT_S:
        await asyncio.sleep(REPORT_POLL_S)
        waited_s += REPORT_POLL_S
    return report


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
