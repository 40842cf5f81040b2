"""What the processes of an installation take, from /proc."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PSS = re.compile(rb"^Pss:\s+(\d+) kB$", re.MULTILINE)
_RSS = re.compile(rb"^Rss:\s+(\d+) kB$", re.MULTILINE)
_AVAILABLE = re.compile(rb"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Taken:
    """By some processes together.

    ``pss_bytes``: their memory, a page that n processes share counting 1/n each. ``rss_bytes``: shared pages whole.
    """

    processes: int
    pss_bytes: int
    rss_bytes: int
    descriptors: int
    threads: int

    def document(self) -> dict[str, int]:
        return {
            "processes": self.processes,
            "pss_mib": self.pss_bytes >> 20,
            "rss_mib": self.rss_bytes >> 20,
            "descriptors": self.descriptors,
            "threads": self.threads,
        }


def taken(pids: Iterable[int], proc: Path = Path("/proc")) -> Taken:
    """Processes that end meanwhile count as gone."""
    processes = pss_bytes = rss_bytes = descriptors = threads = 0
    for pid in pids:
        try:
            rollup = (proc / str(pid) / "smaps_rollup").read_bytes()
            descriptors += len(os.listdir(proc / str(pid) / "fd"))
            threads += len(os.listdir(proc / str(pid) / "task"))
        except OSError:
            continue
        processes += 1
        pss_bytes += _sum(_PSS, rollup)
        rss_bytes += _sum(_RSS, rollup)
    return Taken(processes, pss_bytes, rss_bytes, descriptors, threads)


def _sum(pattern: re.Pattern[bytes], rollup: bytes) -> int:
    return 1024 * sum(int(kilobytes) for kilobytes in pattern.findall(rollup))


def with_variable(name: str, value: str, proc: Path = Path("/proc")) -> Iterator[int]:
    """Processes of this user that were started with the environment variable ``name`` set to ``value``."""
    wanted = f"{name}={value}".encode()
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue
            if wanted in environ.split(b"\0"):
                yield int(entry.name)


def available_bytes(proc: Path = Path("/proc")) -> int:
    """What the kernel says could still be taken without swapping."""
    found = _AVAILABLE.search((proc / "meminfo").read_bytes())
    return 1024 * int(found[1]) if found else 0
