"""The OpenMP libraries of this process, and how many threads one of its threads computes with.

A process may have several: torch brings one along, and extensions use the system's. The number is a thread's own.
torch.set_num_threads is no way to set it, for vLLM replaces that by nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import threading
from functools import cache
from pathlib import Path

NICENESS = 10

_LIBRARY = re.compile(r"(/\S*/libi?[go]?omp[^/\s]*\.so[^\s]*)$", re.MULTILINE)


@cache
def libraries() -> tuple[ctypes.CDLL, ...]:
    """Those that are loaded when it is first asked, which a warm process does for the engines that it forks."""
    import torch

    torch.get_num_threads()  # has torch set the calling thread up now, not later
    found = []
    for path in sorted(set(_LIBRARY.findall(Path("/proc/self/maps").read_text()))):
        with contextlib.suppress(OSError):
            found.append(ctypes.CDLL(path))
    return tuple(library for library in found if hasattr(library, "omp_set_num_threads"))


def set_threads(count: int) -> None:
    """For what the calling thread computes from now on. A smaller team costs some 40 us to become a larger one."""
    import torch

    torch.get_num_threads()  # a thread's first call sets its number
    for library in libraries():
        library.omp_set_num_threads(count)


def threads() -> int:
    """That the calling thread computes with."""
    return max((int(library.omp_get_max_threads()) for library in libraries()), default=1)


def step_aside() -> None:
    """Make the calling thread one that computes alone and gives way to all others."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    set_threads(1)
