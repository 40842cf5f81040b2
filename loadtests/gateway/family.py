"""A process and all that descend from it: their processor time, memory and descriptors, from /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
POLL_S = 0.02
KILL_WAIT_S = 10.0
_PARENT, _USER, _SYSTEM, _BORN = 1, 11, 12, 19  # fields of /proc/PID/stat after the name


@dataclass(frozen=True, slots=True)
class Usage:
    """``rss_bytes`` of all together; ``largest_rss_bytes`` of the largest one."""

    processes: int
    cpu_s: float
    rss_bytes: int
    largest_rss_bytes: int
    descriptors: int


def family(root: int, proc: Path = PROC) -> list[int]:
    """The process and its descendants; [] when it is gone."""
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit() and (fields := _stat(entry)):
            children.setdefault(int(fields[_PARENT]), []).append(int(entry.name))
    if not (proc / str(root)).is_dir():
        return []
    found = [root]
    for pid in found:  # grows meanwhile
        found += children.get(pid, [])
    return found


def busy_s(cores: Collection[int], proc: Path = PROC) -> float:
    """Processor time that all programs and the kernel for them had on these cores, without interrupts."""
    ticks = 0
    for line in (proc / "stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            ticks += sum(map(int, fields[:3]))  # user, nice, system
    return ticks / os.sysconf("SC_CLK_TCK")


def end_rest(pids: Iterable[int], patience_s: float, proc: Path = PROC) -> list[int]:
    """Waits for processes to be gone, and kills what is not; which those were.

    For what descended from a process that was ended and left them behind. ``pids`` must have been found moments ago.
    """
    known = {pid: _born(pid, proc) for pid in pids}
    killed = _left(known, patience_s, proc)
    for pid in killed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _left(known, KILL_WAIT_S, proc)
    return killed


def _left(known: Mapping[int, str | None], patience_s: float, proc: Path) -> list[int]:
    """Those that are still there when patience ends."""
    give_up_s = time.monotonic() + patience_s
    while left := [pid for pid, born in known.items() if born and _born(pid, proc) == born]:
        if time.monotonic() >= give_up_s:
            break
        time.sleep(POLL_S)
    return left


def _born(pid: int, proc: Path) -> str | None:
    """When the process began, so that another one of its number is not taken for it; None: it is gone, or a zombie."""
    fields = _stat(proc / str(pid))
    return fields[_BORN] if fields and fields[0] not in "ZX" else None


def usage(pids: Iterable[int], proc: Path = PROC) -> Usage:
    """Processes that end meanwhile, or are somebody else's, count as gone."""
    ticks_per_s, page_bytes = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    ticks = descriptors = 0
    sizes: list[int] = []
    for pid in pids:
        folder = proc / str(pid)
        try:
            resident = int((folder / "statm").read_text().split()[1]) * page_bytes
            open_here = len(os.listdir(folder / "fd"))
        except OSError:
            continue
        if fields := _stat(folder):
            ticks += int(fields[_USER]) + int(fields[_SYSTEM])
            descriptors += open_here
            sizes.append(resident)
    return Usage(len(sizes), ticks / ticks_per_s, sum(sizes), max(sizes, default=0), descriptors)


def _stat(folder: Path) -> list[str]:
    """The fields after the name, which may hold anything."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
