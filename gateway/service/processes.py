"""Processes as /proc tells of them. Pids are used again, so a start time belongs to each."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from models.home import INSTANCE_ENV
from models.runtimes import proc
from models.runtimes.proc import PROC as PROC


@dataclass(frozen=True, slots=True)
class ProcessId:
    """``start_ticks``: clock ticks from the machine's boot to the process's start."""

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Process:
    id: ProcessId
    parent: int
    session: int
    uid: int

    @property
    def pid(self) -> int:
        return self.id.pid


def find(pid: int) -> Process | None:
    """The living process with this pid. A zombie is dead: it holds nothing but its exit status."""
    try:
        uid = (PROC / str(pid)).stat().st_uid
    except OSError:
        return None
    found = proc.stat(pid)
    if found is None or found.state in proc.ENDED:
        return None
    return Process(ProcessId(pid, found.start_ticks), parent=found.parent, session=found.session, uid=uid)


def identify(pid: int) -> ProcessId | None:
    process = find(pid)
    return process.id if process else None


def alive(process: ProcessId) -> bool:
    return identify(process.pid) == process


def environment(pid: int) -> dict[str, str]:
    """As the process was started with; empty when it is gone or somebody else's."""
    try:
        raw = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def command_line(pid: int) -> str:
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return os.fsdecode(raw.rstrip(b"\0").replace(b"\0", b" "))


def everyone() -> Iterator[Process]:
    """Every living process of this user."""
    uid = os.geteuid()
    for name in os.listdir(PROC):
        if name.isdigit():
            process = find(int(name))
            if process is not None and process.uid == uid:
                yield process


def ancestors(pid: int) -> frozenset[int]:
    """``pid`` itself, its parent, and so on up."""
    chain: set[int] = set()
    process = find(pid)
    while process is not None and process.pid not in chain:
        chain.add(process.pid)
        process = find(process.parent)
    return frozenset(chain)


def descendants(roots: Iterable[int], processes: Iterable[Process]) -> frozenset[ProcessId]:
    """Children of ``roots``, their children and so on, without the roots themselves."""
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    found: set[ProcessId] = set()
    waiting = list(roots)
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child.id not in found:
                found.add(child.id)
                waiting.append(child.pid)
    return frozenset(found)


def family(
    instance: str, noted: frozenset[ProcessId] = frozenset(), also_below: int | None = None
) -> frozenset[ProcessId]:
    """Every process of an installation: tagged with ``instance`` or ``noted`` to be one, below such a one, or in the
    session of such a one.

    The tag is in the environment that a process was started with; some, as Redis, write over it, which is why the
    others count as well. ``also_below``: a process whose descendants belong to it whatever they carry. The asking
    process and its ancestors never do.
    """
    processes = list(everyone())
    ours = {
        process.pid: process
        for process in processes
        if process.id in noted or environment(process.pid).get(INSTANCE_ENV) == instance
    }
    mine = ancestors(os.getpid())
    led = {process.session for process in ours.values() if process.session == process.pid} - {os.getsid(0)}
    found = {process.id for process in processes if process.pid in ours or process.session in led}
    found |= descendants(ours.keys() - mine, processes)
    if also_below is not None:
        found |= descendants((also_below,), processes)
    return frozenset(process for process in found if process.pid not in mine)


def send(process: ProcessId, signum: signal.Signals) -> bool:
    """Signal exactly this process; False when it is gone. Raises PermissionError."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # The handle pins whoever has the pid now; only then is it safe to ask who that is.
        if identify(process.pid) != process:
            return False
        signal.pidfd_send_signal(handle, signum)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
