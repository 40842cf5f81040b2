"""Work that nobody waits for: it gets the disk and the processor when nobody else wants them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import threading

# include/uapi/linux/ioprio.h; the C library has no wrapper
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_WHO_PROCESS = 1
_CLASS_IDLE = 3 << 13
_NICEST = 19


def be_humble() -> None:
    """This thread alone. Where the kernel refuses, the work is done as any other."""
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None, use_errno=True).syscall(number, _WHO_PROCESS, 0, _CLASS_IDLE)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICEST)
