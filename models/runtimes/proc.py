"""What the kernel says of a process: its place among the others, its processor time, its memory."""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
ENDED = "ZX"  # states of a process that holds nothing any more but its exit status

_PRIVATE = re.compile(rb"^Private_(?:Clean|Dirty):\s+(\d+) kB$", re.MULTILINE)
_CAUGHT = re.compile(r"^SigCgt:\s+([0-9a-f]+)$", re.MULTILINE)
_RSS = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Stat:
    """A line of /proc/<pid>/stat. ``start_ticks``: from the machine's boot; pids are used again, both together are not.

    ``cpu_ticks``: processor time of all its threads, its own and the kernel's on its behalf.
    """

    state: str
    parent: int
    session: int
    cpu_ticks: int
    start_ticks: int


def stat(pid: int) -> Stat | None:
    """None when there is no such process. One that has ended and was not waited for (a zombie) still has its line."""
    try:
        # The name in parentheses may itself hold spaces and parentheses.
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return Stat(
        state=fields[0],
        parent=int(fields[1]),
        session=int(fields[3]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        start_ticks=int(fields[19]),
    )


def start_ticks(pid: int) -> int | None:
    """When the living process ``pid`` began; None when there is none: a zombie is dead."""
    found = stat(pid)
    return None if found is None or found.state in ENDED else found.start_ticks


def cpu_s(pid: int | None = None) -> float:
    """Seconds of processor time that a process has used in all; 0 when it is gone."""
    found = stat(pid or os.getpid())
    return found.cpu_ticks / os.sysconf("SC_CLK_TCK") if found else 0.0


def private_bytes(pid: int | None = None) -> int:
    """Resident bytes that the process shares with nobody: what its end would give back. 0 when it is gone."""
    try:
        rollup = Path(f"/proc/{pid or 'self'}/smaps_rollup").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 1024 * sum(int(kilobytes) for kilobytes in _PRIVATE.findall(rollup))


def rss_bytes(pid: int | None = None) -> int:
    """Resident bytes, shared ones included. 0 when the process is gone."""
    try:
        status = Path(f"/proc/{pid or 'self'}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = _RSS.search(status)
    return 1024 * int(found[1]) if found else 0


def available_bytes() -> int:
    """Of the machine's memory, what can be had without swapping."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", (PROC / "meminfo").read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def is_ending(pid: int) -> bool:
    """Whether the process is gone or about to be: its first thread is, others may need a moment more."""
    found = stat(pid)
    return found is None or found.state in ENDED


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler of its own for this signal; one that has none may be ended by it."""
    try:
        found = _CAUGHT.search((PROC / str(pid) / "status").read_text())
    except OSError:
        return False
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)


def trim_heap() -> None:
    """Give the C heap's free pages back to the kernel (glibc; nothing happens elsewhere)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
