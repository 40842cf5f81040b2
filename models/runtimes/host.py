"""What every engine child runs, whatever its runtime: load, serve HTTP and the control wire, end with its lease."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import uvloop

from models.runtimes.control import ControlServer, Lease
from models.runtimes.http_server import Gate, HttpServer
from models.runtimes.logs import log_to_stderr
from models.runtimes.protocol import (
    Engine,
    EngineError,
    EngineOrder,
    EngineReply,
    EngineState,
    EngineStatus,
    Runtime,
    exit_path,
)
from models.runtimes.sockets import SocketTaken, bind_private, remove
from models.runtimes.wire import ControlRequest

DRAIN_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 2.0
END_SIGNALS = (signal.SIGTERM, signal.SIGINT)
OOM_SCORE = 300  # short of memory, the kernel ends an engine rather than the launcher or the store

log = logging.getLogger("roundhouse.engine")


def become(order: EngineOrder, runtime: Runtime, connection: socket.socket, received_s: float) -> NoReturn:
    """Turn this freshly forked process into the ordered engine; never returns.

    ``received_s``: when the launcher read the order, on the monotonic clock, which fork does not reset.
    """
    code = 1
    try:
        _detach(order)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(EngineHost(order, runtime, received_s).run(connection))
            _leave(code)  # closing the loop would wait for the runtime's threads
    except BaseException:  # noqa: BLE001 - the last thing this process does is to say why
        traceback.print_exc()
    finally:
        _leave(code)


def _leave(code: int) -> NoReturn:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # no atexit, no destructors: the kernel frees everything at once


def _detach(order: EngineOrder) -> None:
    """Leave the launcher's session, signals, log and devices. Must come before anything that may touch a GPU."""
    os.environ["CUDA_VISIBLE_DEVICES"] = (order.device.uuid or "") if order.device.kind == "cuda" else ""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    Path(order.log_path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log_file = os.open(order.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log_file, 1)
    os.dup2(log_file, 2)
    os.close(nothing)
    os.close(log_file)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    log_to_stderr("%(asctime)s %(levelname)s %(name)s: %(message)s")


class EngineHost:
    """Owns the one engine of this process."""

    def __init__(self, order: EngineOrder, runtime: Runtime, received_s: float) -> None:
        self._order = order
        self._runtime = runtime
        self._received_s = received_s
        self._status = EngineStatus(
            state="loading", pid=os.getpid(), order=order, timings_s={"fork": time.monotonic() - received_s}
        )
        self._engine: Engine | None = None
        self._gate: Gate | None = None
        self._changing = asyncio.Lock()  # one change of tier at a time
        self._ended: asyncio.Future[str]  # why this engine ends on purpose, or the EngineError that broke it
        self._control: ControlServer
        self._lease: Lease
        self._http: HttpServer | None = None
        self._lease_watch: asyncio.Task[None]
        self._sockets: list[str] = []

    async def run(self, connection: socket.socket) -> int:
        """The exit code: 0 when it was stopped or its lease ended, 1 when it failed."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._lease = Lease(self._order.lease_s, loop.time)
        self._control = ControlServer(self._status, self._handle)
        for number in END_SIGNALS:
            loop.add_signal_handler(number, self._end, f"signal {number.name}")
        await self._control.adopt(connection)
        try:
            log.info("ending: %s", await self._live())
        except EngineError as problem:
            log.error("failed: %s", problem)
            self._become("failed", error=str(problem))
            return 1
        finally:
            await self._close()
        return 0

    async def _close(self) -> None:
        for number in END_SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)
        await self._control.flush()
        self._remove_sockets()
        self._control.close()
        if self._http is not None:
            self._http.close()
        if self._engine is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._engine.close(), CLOSE_TIMEOUT_S)

    async def _live(self) -> str:
        """From binding to the wish to end; that wish's reason. Raises EngineError when the engine fails."""
        if self._order.lease_s <= 0:
            raise EngineError(
                f"lease_s must be above 0, not {self._order.lease_s:g}: without a lease nothing would end it"
            )
        self._http = HttpServer(await self._bind())
        self._lease_watch = asyncio.create_task(self._watch_lease())
        loading = asyncio.create_task(self._load())
        await _first(loading, self._ended)
        if self._ended.done():
            return self._ended.result()
        self._engine = engine = loading.result()
        self._gate = Gate(engine.app)
        # The kernel takes some milliseconds to add up the memory; the server starts meanwhile.
        measured, _ = await asyncio.gather(asyncio.to_thread(engine.measured), self._http.start(self._gate))
        timings_s = {**self._status.timings_s, **engine.timings_s, "ready": time.monotonic() - self._received_s}
        self._become("ready", measured=measured, timings_s=timings_s)
        log.info("ready: %s", ", ".join(f"{phase} {spent_s:.3f} s" for phase, spent_s in timings_s.items()))
        dying = asyncio.create_task(engine.watch())
        await _first(dying, self._ended)
        if self._ended.done():
            return self._ended.result()
        raise EngineError(dying.result())

    async def _bind(self) -> socket.socket:
        """The HTTP socket; it accepts nobody before the engine is ready. The control socket listens from now on."""
        try:
            control = bind_private(self._order.control_path)
            remove(exit_path(self._order.control_path))
            self._sockets.append(self._order.control_path)
            await self._control.listen(control)
            listener = bind_private(self._order.http_path)
            self._sockets.append(self._order.http_path)
        except SocketTaken as problem:
            raise EngineError(f"replica {self._order.replica_id} is running already") from problem
        except OSError as problem:
            raise EngineError(f"the engine's sockets cannot be made: {problem.strerror or problem}") from problem
        return listener

    async def _load(self) -> Engine:
        try:
            return await self._runtime.load(self._order)
        except EngineError:
            log.exception("loading failed")
            raise
        except Exception as problem:
            # A runtime names what it knows; the rest is a defect whose traceback belongs into the log alone.
            log.exception("loading failed in an unforeseen way")
            raise EngineError("the engine could not be loaded for a reason it does not know: see its log") from problem

    def _become(self, state: EngineState, **changes: Any) -> None:
        self._status = msgspec.structs.replace(self._status, state=state, **changes)
        self._control.push(self._status)

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    async def _watch_lease(self) -> None:
        await self._lease.expired()
        self._end(f"nobody renewed the lease of {self._order.lease_s:g} s")

    def _remove_sockets(self) -> None:
        for path in self._sockets:
            remove(path)

    async def _handle(self, request: ControlRequest) -> EngineReply:
        error: str | None = None
        try:
            await self._do(request)
        except EngineError as problem:
            error = str(problem)
        except Exception:
            log.exception("%s failed in an unforeseen way", request.op)
            error = f"the engine broke when it was told to {request.op}: see its log"
            if not self._ended.done():
                self._ended.set_exception(EngineError(error))
        return EngineReply(seq=request.seq, ok=error is None, status=self._status, error=error)

    async def _do(self, request: ControlRequest) -> None:
        match request.op:
            case "renew":
                self._lease.renew()
            case "status":
                if self._engine is not None:
                    self._status = msgspec.structs.replace(self._status, measured=self._engine.measured())
            case "stop":
                # Only once the answer is on its way.
                asyncio.get_running_loop().call_soon(self._end, "it was told to stop")
            case "sleep":
                async with self._changing:
                    await self._sleep()
            case "wake":
                async with self._changing:
                    await self._wake()

    async def _sleep(self) -> None:
        engine, gate = self._loaded()
        if self._status.state == "asleep":
            return
        gate.shut("engine_asleep", "The engine is asleep.")
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await gate.drained()
            await engine.sleep()
        except TimeoutError as problem:
            gate.open()
            raise EngineError(f"it cannot sleep: {gate.in_flight} requests are still in flight") from problem
        except EngineError:
            gate.open()
            raise
        self._become("asleep", measured=engine.measured())

    async def _wake(self) -> None:
        engine, gate = self._loaded()
        if self._status.state == "ready":
            return
        await engine.wake()
        gate.open()
        self._become("ready", measured=engine.measured())

    def _loaded(self) -> tuple[Engine, Gate]:
        if self._engine is None or self._gate is None:
            raise EngineError("the engine is still loading")
        return self._engine, self._gate


async def _first(*waited_for: asyncio.Future[Any]) -> None:
    await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
