"""Starts parts as real processes: each leads a session of its own, has its own log and ends with the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gateway.service.processes import PROC, ProcessId, everyone, identify, send
from gateway.service.spec import PartSpec
from gateway.service.sweep import sweep

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
TAIL_BYTES = 16 * 1024
LARGEST_LOG_BYTES = 32 * 2**20


class Running(Protocol):
    """A started part."""

    @property
    def id(self) -> ProcessId: ...

    async def wait(self) -> int:
        """Its exit status, negative for a signal. May be awaited by several."""

    def signal(self, signum: signal.Signals) -> None:
        """Does nothing when it has ended."""

    async def clear(self) -> None:
        """Kill what is left in its session; returns when it is gone."""


class Host(Protocol):
    """Everything that the supervisor does to the world."""

    def spawn(self, spec: PartSpec) -> Running:
        """Raises OSError."""

    def log_path(self, part: str) -> Path: ...

    def log_lines(self, part: str, most: int) -> list[str]:
        """The last lines that the part wrote since it was last started."""


class LocalHost:
    """Parts as children of this process. One thread: the death signal is tied to the thread that starts a child."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._log_starts: dict[str, int] = {}
        self._started: dict[int, LocalProcess] = {}

    def adopt_orphans(self) -> None:
        """Whatever loses its parent below this process becomes its child, so that nothing gets out of reach."""
        self._prctl(PR_SET_CHILD_SUBREAPER, 1)

    def spawn(self, spec: PartSpec) -> LocalProcess:
        log = self.log_path(spec.name)
        if log.exists() and log.stat().st_size > LARGEST_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            log.chmod(0o600)
            self._log_starts[spec.name] = output.tell()
            process = subprocess.Popen(
                spec.command,
                env=dict(spec.env),
                cwd=self._logs,  # a neutral place: nothing there can be imported by mistake, and cores are found
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=self._die_with(os.getpid()),
            )
        self._started = {pid: child for pid, child in self._started.items() if not child.over}
        started = self._started[process.pid] = LocalProcess(process)
        return started

    def reap_orphans(self) -> None:
        """Collect the exit statuses of adopted processes; those started here are waited for elsewhere."""
        for pid in _children():
            child = self._started.get(pid)
            if child is None or child.over:
                with contextlib.suppress(ChildProcessError):  # somebody else was faster
                    os.waitpid(pid, os.WNOHANG)

    def log_path(self, part: str) -> Path:
        return self._logs / f"{part}.log"

    def log_lines(self, part: str, most: int) -> list[str]:
        try:
            with self.log_path(part).open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(min(self._log_starts.get(part, 0), end), end - TAIL_BYTES))
                return file.read().decode(errors="replace").splitlines()[-most:]
        except OSError:
            return []

    def _die_with(self, parent: int) -> Callable[[], None]:
        def in_child() -> None:
            # SIGTERM, so that Redis writes its last second; the guard makes sure of those that do not heed it.
            self._prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)  # the parent was gone before the death signal was in place

        return in_child

    def _prctl(self, option: int, value: int) -> None:
        if self._libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))) != 0:
            raise OSError(ctypes.get_errno(), "prctl failed")


class LocalProcess:
    """A child of this process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        # None only when it ended within the last microseconds; then there is nothing left to signal either.
        self._id = identify(process.pid) or ProcessId(process.pid, 0)
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = loop.create_future()
        self._handle = os.pidfd_open(process.pid)  # a zombie can be opened, too: nobody has waited for it yet
        loop.add_reader(self._handle, self._on_end)

    @property
    def id(self) -> ProcessId:
        return self._id

    @property
    def over(self) -> bool:
        return self._ended.done()

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    def signal(self, signum: signal.Signals) -> None:
        if not self.over:
            send(self._id, signum)

    async def clear(self) -> None:
        def left() -> frozenset[ProcessId]:
            return frozenset(process.id for process in everyone() if process.session == self._id.pid)

        await asyncio.to_thread(sweep, left, grace_s=0.0)

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._handle)
        os.close(self._handle)
        self._ended.set_result(self._process.wait())


def _children() -> list[int]:
    try:
        return [int(pid) for pid in (PROC / "self" / "task" / str(os.getpid()) / "children").read_text().split()]
    except OSError:
        return []  # a kernel without the list: orphans stay zombies until this process ends
