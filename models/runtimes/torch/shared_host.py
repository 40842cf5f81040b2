"""What the process runs that several replicas of one device share: an engine host for each, and the one end of all."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import socket
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from models.runtimes.host.engine_host import END_SIGNALS, EngineHost, leave, settle
from models.runtimes.host.engine_log import explain_crashes
from models.runtimes.host.exits import ExitRecords
from models.runtimes.launcher.handover import Handed, receive
from models.runtimes.proc import trim_heap
from models.runtimes.protocol import EngineError, EngineOrder, EngineStatus, ExitReport, Runtime
from models.runtimes.torch.contained import in_one_line
from models.runtimes.torch.memory_watch import MemoryWatch, outgrown, reserved_bytes
from models.runtimes.torch.shared_log import CURRENT, ReplicaLog, split_outputs
from models.runtimes.torch.shared_process import Note, SharedDevice, process_log, shared_device, tell
from models.runtimes.vllm.mapped_pages import read_pages
from models.runtimes.wire import encode

TURNS = 50  # of the event loop, in which the replica's cancelled tasks end and let go of its engine
PR_SET_NAME = 15

log = logging.getLogger("roundhouse.engine")


def become_shared(handed: Handed, runtime: Runtime, channel: socket.socket, runner: asyncio.Runner) -> NoReturn:
    """Turn this detached process into the shared one of the order's device; never returns."""
    code = 1
    try:
        order = handed.order
        device = shared_device(order.device)
        split_outputs()
        try:
            settle(_for_all(order, device), handed.connection)
        except OSError:
            tell(channel, "greeted", order.control_path)  # the owner has been told
            raise
        _name_process(f"rh-{device}")
        with runner:
            code = runner.run(SharedHost(runtime, channel).run(handed))
            leave(code)
    except BaseException:  # noqa: BLE001 - the last thing this process does is to say why
        traceback.print_exc()
    finally:
        leave(code)


def _for_all(order: EngineOrder, device: SharedDevice) -> EngineOrder:
    """Whose log the process's own log is."""
    log_path = process_log(order, os.getpid())
    return msgspec.structs.replace(order, replica_id=f"shared-{device}", model_id="", log_path=log_path)


@dataclass(eq=False)
class _Tenant:
    handed: Handed
    host: EngineHost
    task: asyncio.Task[None] | None = None

    @property
    def control_path(self) -> str:
        return self.handed.order.control_path


class SharedHost:
    """Ends with its last replica. When a call into one model hangs, or all together outgrow what is reserved for
    them, nothing but the end of the process frees what they hold: then all of them fail.
    """

    def __init__(
        self,
        runtime: Runtime,
        channel: socket.socket,
        outgrown: Callable[[int], Coroutine[Any, Any, str]] | None = None,
    ) -> None:
        """``outgrown`` waits for this process to hold much more than so many bytes; one clear sentence."""
        self._runtime = runtime
        self._outgrown = outgrown or _outgrown
        self._channel: socket.socket | None = channel
        self._tenants: dict[str, _Tenant] = {}  # by control path
        self._ending = 0  # that are no tenants any more, and have not freed everything
        self._records = ExitRecords()
        self._doomed = ""  # why nothing more is taken
        self._changed = asyncio.Event()  # who lives here
        self._empty: asyncio.Future[None]

    async def run(self, first: Handed) -> int:
        """The exit code."""
        loop = asyncio.get_running_loop()
        self._empty = loop.create_future()
        for number in END_SIGNALS:
            loop.add_signal_handler(number, self._on_signal, f"signal {number.name}")
        assert self._channel is not None
        self._channel.setblocking(False)
        loop.add_reader(self._channel, self._take)
        self._admit(first)
        memory = asyncio.create_task(self._mind_memory())
        await self._empty
        memory.cancel()
        return 0

    # Orders

    def _take(self) -> bool:
        """One more order, if there is one; whether there was."""
        try:
            handed = receive(self._channel) if self._channel is not None else None
        except BlockingIOError:
            return False
        except OSError:
            handed = None
        except (ValueError, msgspec.DecodeError):
            log.exception("an order could not be read")
            return False
        if handed is None:  # the launcher is gone: what is here goes on, and nothing more comes
            self._hang_up()
            return False
        self._admit(handed)
        return True

    def _hang_up(self) -> None:
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
            self._channel = None

    def _tell(self, note: Note, control_path: str) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):
                tell(self._channel, note, control_path)

    def _admit(self, handed: Handed) -> None:
        order = handed.order
        path = order.control_path
        if self._doomed or path in self._tenants:
            self._decline(handed, self._doomed or f"replica {order.replica_id} is running already")
            return
        host = EngineHost(order, self._runtime, handed.received_s, on_loaded=explain_crashes, heeds_signals=False)
        tenant = _Tenant(handed, host)
        self._tenants[path] = tenant
        self._changed.set()
        tenant.task = asyncio.create_task(self._live(tenant))

    def _decline(self, handed: Handed, why: str) -> None:
        status = EngineStatus(state="failed", pid=os.getpid(), order=handed.order, error=why, fault="other")
        with contextlib.suppress(OSError):
            handed.connection.send(encode(status))
        handed.connection.close()
        self._tell("greeted", handed.order.control_path)

    # A replica's life

    async def _live(self, tenant: _Tenant) -> None:
        path = tenant.control_path
        code = 1
        try:
            output = ReplicaLog(tenant.handed.order)
        except OSError as problem:
            self._decline(tenant.handed, f"the engine's log cannot be written: {problem.strerror or problem}")
        else:
            code = await self._live_logged(tenant, output)
        del self._tenants[path]
        self._ending += 1
        self._changed.set()
        self._lose_all_after(tenant)
        tenant.host.forget()
        for _ in range(TURNS):
            await asyncio.sleep(0)
        await asyncio.to_thread(_release)
        # Only now its memory is free: whoever waits for its end may count on that.
        # The launcher hears of it first: the next order for this replica may come at once.
        self._tell("ended", path)
        self._records.write(path, ExitReport(pid=os.getpid(), replica_id=tenant.handed.order.replica_id, code=code))
        self._ending -= 1
        self._end_when_empty()

    async def _live_logged(self, tenant: _Tenant, output: ReplicaLog) -> int:
        CURRENT.set(output)
        bounded = asyncio.create_task(output.keep_bounded())
        try:
            return await tenant.host.run(tenant.handed.connection, lambda: self._tell("greeted", tenant.control_path))
        except Exception:
            log.exception("the replica broke")
            return 1
        finally:
            CURRENT.set(None)
            bounded.cancel()
            output.close()

    def _lose_all_after(self, tenant: _Tenant) -> None:
        """One that hangs keeps its thread and its memory for as long as there is a process."""
        status = tenant.host.status
        if status.state == "failed" and status.fault == "hang":
            name = tenant.handed.order.model_id
            self._lose_all(EngineError(f"the process that it shared with {name} is ended, for {status.error}", "hang"))

    def _lose_all(self, problem: EngineError) -> None:
        self._doomed = str(problem)
        for tenant in self._tenants.values():
            # Not now: one that has just come must have begun before it can fail.
            asyncio.get_running_loop().call_soon(tenant.host.fail, problem)

    def _end_when_empty(self) -> None:
        while not self._tenants and self._take():  # one came while the last one ended
            pass
        if not self._tenants and not self._ending and not self._empty.done():
            self._hang_up()
            self._empty.set_result(None)

    def _on_signal(self, reason: str) -> None:
        for tenant in self._tenants.values():
            tenant.host.on_signal(reason)

    # Memory

    async def _mind_memory(self) -> None:
        """The whole process against the sum of what is reserved: whose memory it is, nobody can tell."""
        while True:
            self._changed.clear()
            reserved = sum(reserved_bytes(tenant.handed.order.budget) for tenant in self._tenants.values())
            waiting = (asyncio.create_task(self._outgrown(reserved)), asyncio.create_task(self._changed.wait()))
            try:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if waiting[0] in done:
                    why = f"in a process shared by {len(self._tenants)} replicas, {waiting[0].result()}"
                    log.error("%s", why)
                    self._lose_all(EngineError(why, "memory"))
                    return
            finally:
                for task in waiting:
                    task.cancel()


async def _outgrown(reserved: int) -> str:
    held = (await asyncio.to_thread(read_pages)).private_bytes
    return await outgrown(MemoryWatch(reserved, held))


def _release() -> None:
    """Give back what the last replica held: cycles, the heap's free pages, the device's cached blocks."""
    gc.collect()
    trim_heap()
    try:
        import torch

        torch.cuda.empty_cache()  # nothing happens where CUDA was never begun
    except (ImportError, RuntimeError) as problem:
        log.warning("the device's free memory stays with the process: %s", in_one_line(problem))


def _name_process(name: str) -> None:
    """What ``ps`` and ``top`` show."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name[:15])
    ctypes.CDLL(None).prctl(PR_SET_NAME, name[:15].encode(), 0, 0, 0)
