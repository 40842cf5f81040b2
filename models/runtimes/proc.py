"""What the kernel says of a process's memory."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

_PRIVATE = re.compile(rb"^Private_(?:Clean|Dirty):\s+(\d+) kB$", re.MULTILINE)
_RSS = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


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


def is_ending(pid: int) -> bool:
    """Whether the process is gone or about to be: its first thread is, others may need a moment more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def trim_heap() -> None:
    """Give the C heap's free pages back to the kernel (glibc; nothing happens elsewhere)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
