"""What every engine child runs, whatever its runtime: load, serve HTTP and the control wire, end with its lease."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec
import uvloop

from models.runtimes import wire
from models.runtimes.host.control import ControlServer, Lease
from models.runtimes.host.door import Door
from models.runtimes.host.engine_log import EngineLog, explain_crashes
from models.runtimes.host.http_server import HttpServer
from models.runtimes.host.stall import StallWatch
from models.runtimes.loaded import DRAIN_S, LoadedEngine
from models.runtimes.logs import log_to_stderr
from models.runtimes.proc import cpu_s
from models.runtimes.protocol import (
    Engine,
    EngineError,
    EngineOrder,
    EngineReply,
    EngineState,
    EngineStatus,
    Fault,
    Runtime,
    exit_path,
)
from models.runtimes.sockets import SocketTaken, bind_private, remove
from models.runtimes.wire import ControlRequest

CLOSE_TIMEOUT_S = 2.0
END_SIGNALS = (signal.SIGTERM, signal.SIGINT)
OOM_SCORE = 300  # short of memory, the kernel ends an engine rather than the launcher or the store

log = logging.getLogger("roundhouse.engine")

Result = TypeVar("Result")


def detach() -> asyncio.Runner:
    """What a forked child does before it has an order: leave the launcher's session and signals, make an event loop."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    # Now: changing a logger looks at all others, 4 ms after a fork. Standard error is the engine's log by ``settle``.
    log_to_stderr("%(asctime)s %(levelname)s %(name)s: %(message)s")
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    runner.get_loop()
    return runner


def become(
    order: EngineOrder,
    runtime: Runtime,
    connection: socket.socket,
    received_s: float,
    runner: asyncio.Runner,
    greeted: Callable[[], None],
) -> NoReturn:
    """Turn this detached process into the ordered engine; never returns.

    ``received_s``: when the launcher read the order, on the monotonic clock, which all processes share. ``greeted`` is
    called once the engine has said on ``connection`` what it is.
    """
    code = 1
    try:
        try:
            settle(order, connection)
        except OSError:
            greeted()  # the owner has been told
            raise
        with runner:
            host = EngineHost(order, runtime, received_s, on_loaded=explain_crashes)
            code = runner.run(host.run(connection, greeted))
            leave(code)  # closing the loop would wait for the runtime's threads
    except BaseException:  # noqa: BLE001 - the last thing this process does is to say why
        traceback.print_exc()
    finally:
        leave(code)


def leave(code: int) -> NoReturn:
    """End this process at once."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # no atexit, no destructors: the kernel frees everything at once


def settle(order: EngineOrder, connection: socket.socket) -> None:
    """Take the order's device and log. Must come before anything that may touch a GPU.

    Raises OSError when there can be no log, which the owner is told on ``connection``.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = (order.device.uuid or "") if order.device.kind == "cuda" else ""
    output = EngineLog(order)
    try:
        output.take()
    except OSError as problem:
        why = f"the engine's log cannot be written: {problem.strerror or problem}"
        status = EngineStatus(state="failed", pid=os.getpid(), order=order, error=why, fault="other")
        with contextlib.suppress(OSError):
            connection.send(wire.encode(status))
        raise
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    explain_crashes()
    output.keep_bounded()


class EngineHost:
    """Owns one engine, in general the only one of its process.

    ``on_loaded`` is called once it has loaded, before it serves. ``heeds_signals``: SIGTERM and SIGINT are for it.
    """

    def __init__(
        self,
        order: EngineOrder,
        runtime: Runtime,
        received_s: float,
        *,
        on_loaded: Callable[[], None] = lambda: None,
        heeds_signals: bool = True,
    ) -> None:
        self._on_loaded = on_loaded
        self._signals = END_SIGNALS if heeds_signals else ()
        self._order = order
        self._runtime = runtime
        self._received_s = received_s
        self._status = EngineStatus(
            state="loading", pid=os.getpid(), order=order, timings_s={"fork": time.monotonic() - received_s}
        )
        self._loaded: LoadedEngine | None = None
        self._changing = asyncio.Lock()  # one change of tier at a time
        self._ended: asyncio.Future[str]  # why this engine ends on purpose, or the EngineError that broke it
        self._control: ControlServer
        self._lease: Lease
        self._http: HttpServer | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._winding_down: asyncio.Future[int] | None = None  # by a signal
        self._winding = 0  # by whomever
        self._sockets: list[str] = []

    async def run(self, connection: socket.socket, greeted: Callable[[], None] = lambda: None) -> int:
        """The exit code: 0 when it was stopped or its lease ended, 1 when it failed."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._lease = Lease(self._order.lease_s, loop.time)
        self._control = ControlServer(self._status, self._handle)
        for number in self._signals:
            loop.add_signal_handler(number, self.on_signal, f"signal {number.name}")
        await self._control.adopt(connection)
        greeted()
        try:
            log.info("ending: %s", await self._live())
        except EngineError as problem:
            log.error("failed: %s", problem)
            self._become("failed", error=str(problem), fault=problem.fault)
            return 1
        finally:
            await self._close()
        return 0

    async def _close(self) -> None:
        for number in self._signals:
            asyncio.get_running_loop().remove_signal_handler(number)
        await self._control.flush()
        if self._loaded is not None:
            await self._loaded.cut("The engine ended before this answer was finished.")
        self._remove_sockets()
        self._control.close()
        if self._http is not None:
            self._http.close()
        if self._loaded is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._loaded.engine.close(), CLOSE_TIMEOUT_S)
        for task in self._tasks:
            task.cancel()

    async def _live(self) -> str:
        """From binding to the wish to end; that wish's reason. Raises EngineError when the engine fails."""
        if self._order.lease_s <= 0:
            raise EngineError(
                f"lease_s must be above 0, not {self._order.lease_s:g}: without a lease nothing would end it"
            )
        self._http = await self._bind()
        self._begin(self._watch_lease())
        loading = self._begin(self._load())
        await _first(loading, self._ended)
        if self._ended.done():
            return self._ended.result()
        engine = loading.result()
        self._on_loaded()
        loaded = self._loaded = LoadedEngine(engine, self._order.device)
        arriving = self._begin(loaded.arrive())
        await _first(arriving, self._ended)
        if self._ended.done():
            return self._ended.result()
        # The kernel takes some milliseconds to add up the memory; the server starts meanwhile.
        measured, _ = await asyncio.gather(asyncio.to_thread(engine.measured), self._http.start(loaded.gate))
        phases_s = {**engine.timings_s, **loaded.timings_s, "ready": time.monotonic() - self._received_s}
        timings_s = {**self._status.timings_s, **phases_s}
        self._become("ready", measured=measured, timings_s=timings_s, detail=engine.describe())
        log.info("ready: %s", ", ".join(f"{phase} {spent_s:.3f} s" for phase, spent_s in timings_s.items()))
        return await self._serve(loaded)

    async def _serve(self, loaded: LoadedEngine) -> str:
        """Until somebody wants it to end; that wish's reason. Raises EngineError when it breaks or hangs."""
        gate = loaded.gate
        dying = self._begin(loaded.engine.watch())
        stalling = self._begin(StallWatch().stalled(lambda: gate.in_flight, lambda: gate.progress, cpu_s))
        await _first(dying, stalling, self._ended)
        if self._ended.done():
            return self._ended.result()
        if stalling.done():
            faulthandler.dump_traceback(all_threads=True)  # to the log: where it hangs
            raise EngineError(stalling.result(), "hang")
        raise EngineError(dying.result())

    def _begin(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """A task that ends with this engine at the latest."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        return task

    async def _bind(self) -> HttpServer:
        """It accepts nobody before the engine is ready. The control socket listens from now on. Raises EngineError."""
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
        door = Door.of(self._order)
        if door is not None:
            self._status = msgspec.structs.replace(self._status, tcp_port=door.port)
        return HttpServer(listener, door)

    async def _load(self) -> Engine:
        try:
            return await self._runtime.load(self._order)
        except EngineError:
            log.exception("loading failed")
            raise
        except MemoryError as problem:
            log.exception("loading failed")
            raise EngineError("the machine has not enough memory to load the model", "memory") from problem
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

    @property
    def status(self) -> EngineStatus:
        return self._status

    def fail(self, problem: EngineError) -> None:
        """End it for a reason that lies outside of it."""
        if not self._ended.done():
            self._ended.set_exception(problem)

    def forget(self) -> None:
        """Once it has ended: hold nothing of the engine any more, where the process goes on without it."""
        self._loaded = self._http = None
        self._tasks.clear()

    def on_signal(self, reason: str) -> None:
        """The first one lets requests end for a while; a second one is meant."""
        if self._winding_down is None:
            self._winding_down = self._begin(self._wind_down(reason, DRAIN_S))
        else:
            self._end(reason)

    async def _wind_down(self, reason: str, drain_s: float) -> int:
        """End once nothing is in flight, after ``drain_s`` at the latest; how many requests were cut."""
        self._winding += 1
        try:
            return await self._loaded.wind_down(drain_s) if self._loaded is not None else 0
        finally:
            self._winding -= 1
            if not self._winding:  # only once the answers to all who said ``stop`` are on their way
                asyncio.get_running_loop().call_soon(self._end, reason)

    async def _watch_lease(self) -> None:
        await self._lease.expired()
        await self._wind_down(f"nobody renewed the lease of {self._order.lease_s:g} s", DRAIN_S)

    def _remove_sockets(self) -> None:
        for path in self._sockets:
            remove(path)

    async def _handle(self, request: ControlRequest) -> EngineReply:
        error: str | None = None
        fault: Fault | None = None
        cut = 0
        try:
            cut = await self._do(request)
        except EngineError as problem:
            error, fault = str(problem), problem.fault
        except Exception:
            log.exception("%s failed in an unforeseen way", request.op)
            error, fault = f"the engine broke when it was told to {request.op}: see its log", "other"
            self.fail(EngineError(error))
        return EngineReply(seq=request.seq, ok=error is None, status=self._status, error=error, fault=fault, cut=cut)

    async def _do(self, request: ControlRequest) -> int:
        """How many requests were cut. Raises EngineError."""
        drain_s = DRAIN_S if request.drain_s is None else max(0.0, request.drain_s)
        match request.op:
            case "renew":
                self._lease.renew()
            case "status":
                if self._loaded is not None:
                    self._status = msgspec.structs.replace(self._status, **self._facts(self._loaded))
            case "stop":
                return await self._wind_down("it was told to stop", drain_s)
            case "sleep":
                async with self._changing:
                    return await self._sleep(drain_s)
            case "wake":
                async with self._changing:
                    await self._wake()
        return 0

    async def _sleep(self, drain_s: float) -> int:
        loaded = self._ready()
        if self._status.state == "asleep":
            return 0
        cut = await loaded.sleep(drain_s)
        self._become("asleep", **self._facts(loaded))
        return cut

    async def _wake(self) -> None:
        loaded = self._ready()
        if self._status.state == "ready":
            return
        await loaded.wake()
        self._become("ready", **self._facts(loaded))

    def _facts(self, loaded: LoadedEngine) -> dict[str, Any]:
        """What its status says of how it is now."""
        engine = loaded.engine
        timings_s = {**self._status.timings_s, **loaded.timings_s}
        return {"measured": engine.measured(), "detail": engine.describe(), "timings_s": timings_s}

    def _ready(self) -> LoadedEngine:
        if self._loaded is None or self._status.state == "loading":
            raise EngineError("the engine is still loading")
        return self._loaded


async def _first(*waited_for: asyncio.Future[Any]) -> None:
    await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
