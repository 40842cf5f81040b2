"""Owns one running engine: renews its lease, passes orders on, and notices when it is gone or hangs.

Used by the node actor until the keeper actor has taken over, and by that from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal

from models.fleet.pulse import CHANGING_SILENT_AFTER_S, SILENT_AFTER_S, Pulse
from models.runtimes import proc
from models.runtimes.client import EngineConnection
from models.runtimes.host.engine_log import STACKS_SIGNAL
from models.runtimes.host.exits import read_exit_report
from models.runtimes.protocol import EngineError, EngineStatus, Fault
from models.runtimes.sockets import answers
from models.runtimes.torch.shared_process import shares_process
from models.runtimes.wire import Operation

DRAIN_S = 5.0  # the controller has drained it through the routes before; this is for what did not end by then
STOP_GRACE_S = 5.0  # beyond the drain
CHANGE_TIMEOUT_S = 300.0  # a hundred gigabytes over a slow bus; a hang shows long before

log = logging.getLogger("roundhouse.fleet")


class EngineKeeper:
    """Keeps the engine behind ``connection`` alive until ``release`` or ``stop``; ends it when it hangs."""

    def __init__(self, connection: EngineConnection) -> None:
        self._connection = connection
        self._stopping = False
        self._changing = False
        self._started_ticks = proc.start_ticks(self.status.pid)
        self._guard = asyncio.get_running_loop().create_task(self._keep())

    @property
    def status(self) -> EngineStatus:
        return self._connection.status

    async def wait_ready(self) -> EngineStatus:
        """Raises EngineError when the engine fails to load."""
        return await self._connection.wait_ready()

    async def sleep(self) -> EngineStatus:
        """Raises EngineError."""
        return await self._change("sleep", DRAIN_S)

    async def wake(self) -> EngineStatus:
        """Raises EngineError."""
        return await self._change("wake")

    async def _change(self, op: Operation, drain_s: float | None = None) -> EngineStatus:
        self._changing = True
        try:
            reply = await self._connection.ask(op, CHANGE_TIMEOUT_S, drain_s=drain_s)
        except TimeoutError as problem:
            raise EngineError(f"the engine did not {op} within {CHANGE_TIMEOUT_S:.0f} s", "hang") from problem
        finally:
            self._changing = False
        self._note_cut(reply.cut)
        return reply.status

    async def stop(self, drain_s: float = DRAIN_S) -> None:
        """Ask the engine to end, then make sure of it; returns once its process is gone.

        Requests in flight have ``drain_s`` to end; those that do not are cut with an error.
        """
        self._stopping = True
        await end_process(self.status, STOP_GRACE_S if await self._heeds_stop(drain_s) else 0.0)
        await self.release()

    async def _heeds_stop(self, drain_s: float) -> bool:
        """Whether it is ending by itself; False when it does not answer."""
        if is_stopped(self.status.pid):
            return False
        try:
            reply = await self._connection.ask("stop", drain_s + STOP_GRACE_S, drain_s=drain_s)
        except EngineError:  # it is ending already
            return True
        except OSError:
            return False
        self._note_cut(reply.cut)
        return True

    async def watch(self) -> str | None:
        """Wait until the engine's process is gone; the reason, or None when it was stopped or released on purpose."""
        await self._connection.closed.wait()
        return None if self._stopping else self._connection.end_reason()

    @property
    def fault(self) -> Fault:
        """What kind of end it came to, once it has ended."""
        return self._connection.end().fault

    def end(self) -> EngineError | None:
        """Why it has ended; None while it lives."""
        return self._connection.end() if self._connection.closed.is_set() else None

    async def release(self) -> None:
        """Let go without ending the engine: somebody else keeps it."""
        self._stopping = True
        self._guard.cancel()
        await self._connection.close()

    def _note_cut(self, count: int) -> None:
        if count:
            log.warning("%s: %d requests were cut after draining", self.status.order.replica_id, count)

    async def _keep(self) -> None:
        """Renew the lease for as long as the engine answers; end one that does not."""
        pulse = Pulse(lambda: self._connection.call("renew", None), self._patience_s, self._ask_for_stacks)
        try:
            silent_s = await pulse.stopped()
        except EngineError:  # it is gone, which shows in ``closed``
            return
        why = silence(self.status.pid, silent_s)
        log.error("%s: %s; it is ended", self.status.order.replica_id, why)
        self._connection.condemn(why, "hang")
        # Also where others live in it: a process that answers nobody is lost to all of them.
        await end_process(self.status, 0.0, with_others=True)

    def _patience_s(self) -> float:
        """While it loads, the time that a start may take at most is the bound, and the controller keeps it.

        A stopped process is not busy with anything, whatever it was told to do.
        """
        if self._stopping:
            return math.inf
        if is_stopped(self.status.pid):
            return SILENT_AFTER_S
        if self.status.state == "loading":
            return math.inf
        return CHANGING_SILENT_AFTER_S if self._changing else SILENT_AFTER_S

    def _ask_for_stacks(self) -> None:
        """Have it write to its log where it hangs, if it still can."""
        pid = self.status.pid
        if self._started_ticks is None or proc.start_ticks(pid) != self._started_ticks:
            return
        if proc.catches(pid, STACKS_SIGNAL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, STACKS_SIGNAL)


def silence(pid: int, silent_s: float) -> str:
    """One sentence about an engine that did not answer."""
    return f"the engine did not answer for {silent_s:.0f} s{': its process is stopped' if is_stopped(pid) else ''}"


def is_stopped(pid: int) -> bool:
    """By a signal or a debugger: such a process does nothing until it is told to go on."""
    found = proc.stat(pid)
    return found is not None and found.state in "Tt"


async def end_process(status: EngineStatus, grace_s: float, *, with_others: bool = False) -> None:
    """Wait for the engine's process to end; after ``grace_s`` kill it.

    One that shares its process with other replicas is waited for alone, and its process is killed only
    ``with_others``: one that does not end then ends with its lease.
    """
    if shares_process(status.order) and not with_others:
        await _replica_gone(status, grace_s)
        return
    started = proc.start_ticks(status.pid)
    waited_s = 0.0
    while started is not None and proc.start_ticks(status.pid) == started:
        if waited_s >= grace_s:
            with contextlib.suppress(ProcessLookupError):
                os.kill(status.pid, signal.SIGKILL)
            grace_s = math.inf
        await asyncio.sleep(0.005)
        waited_s += 0.005


async def _replica_gone(status: EngineStatus, grace_s: float) -> None:
    """A shared process leaves a report once it has freed what the replica held."""
    path = status.order.control_path
    waited_s = 0.0
    while proc.start_ticks(status.pid) is not None:
        report = read_exit_report(path)
        if (report is not None and report.pid == status.pid) or (waited_s >= grace_s and not answers(path)):
            return
        if waited_s >= grace_s:
            log.error("%s does not end; its lease will end it", status.order.replica_id)
            return
        await asyncio.sleep(0.005)
        waited_s += 0.005
