"""Whether the kernel ended a process for want of memory: its log where one may read it, else its counters."""

from __future__ import annotations

import os
import re
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
KERNEL_LOG = Path("/dev/kmsg")
LONGEST_RECORD_BYTES = 8192
MOST_RECORDS = 100_000

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class MemoryKills:
    """Remembers the kernel's counters, so that a later death can be laid against them."""

    def __init__(self, proc: Path = PROC, cgroups: Path = CGROUPS, kernel_log: Path = KERNEL_LOG) -> None:
        self._machine = proc / "vmstat"
        self._group = _group_file(proc, cgroups)
        self._kernel_log = kernel_log
        self._before = self._counts()

    def explain(self, pid: int) -> str | None:
        """Why a process that SIGKILL ended had to go, as far as the kernel tells; None when it tells of nothing."""
        before, now = self._before, self._counts()
        self._before = now
        if _says_so(self._kernel_log, pid):
            return "the kernel ended it because memory had run out"
        machine, group = (after > earlier for after, earlier in zip(now, before, strict=True))
        if group:
            return "probably ended by the kernel: the memory limit of its control group was reached just then"
        if machine:
            return "probably ended by the kernel: the machine ran out of memory just then"
        return None

    def _counts(self) -> tuple[int, int]:
        return _count(self._machine), _count(self._group) if self._group else 0


def _count(path: Path) -> int:
    try:
        found = _COUNT.search(path.read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _group_file(proc: Path, cgroups: Path) -> Path | None:
    """Where this process's control group counts its kills: version 2, else version 1."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return None
    candidates = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            candidates.append(cgroups / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            candidates.append(cgroups / "memory" / path.lstrip("/") / "memory.oom_control")
    return next((path for path in candidates if _readable(path)), None)


def _readable(path: Path) -> bool:
    return os.access(path, os.R_OK)


def _says_so(kernel_log: Path, pid: int) -> bool:
    """Read the kernel's log to its end; not permitted is not said."""
    wanted = f"Killed process {pid} ".encode()
    try:
        log = os.open(kernel_log, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        for _ in range(MOST_RECORDS):
            try:
                record = os.read(log, LONGEST_RECORD_BYTES)
            except BrokenPipeError:  # records were overwritten meanwhile
                continue
            if not record:
                return False
            if wanted in record:
                return True
    except OSError:  # BlockingIOError: the end
        return False
    finally:
        os.close(log)
    return False
