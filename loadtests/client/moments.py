"""When something arrived: by the kernel, which notes it before Python is told, and so is never late.

What a busy generator reads late would otherwise look like a slow service. SO_TIMESTAMPNS (Linux, socket(7)) has the
kernel hand out with each read when the last packet in it came; ``late`` counts how long Python took to fetch it.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections.abc import Sequence

SO_TIMESTAMPNS = 35  # and SCM_TIMESTAMPNS; asm-generic/socket.h, the same on x86-64 and arm64
ANCILLARY_BYTES = 64
_TIMESPEC = struct.Struct("qq")
_NS = 1_000_000_000
_TFD_NONBLOCK, _TFD_CLOEXEC, _TFD_ABSTIME = 0o4000, 0o2000000, 1

Ancillary = Sequence[tuple[int, int, bytes]]
clock = time.monotonic  # CLOCK_MONOTONIC: one for all processes of a machine


class Stamps:
    """Turns the kernel's times (CLOCK_REALTIME) into ours. ``adjust`` as often as the two may have moved apart."""

    __slots__ = ("_offset_ns", "seen")

    def __init__(self) -> None:
        self.seen = 0
        self.adjust()

    def adjust(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def arrived_s(self, ancillary: Ancillary, now_s: float) -> float:
        """``now_s`` where the kernel said nothing, or something that cannot be."""
        if not ancillary or ancillary[0][1] != SO_TIMESTAMPNS:
            return now_s
        seconds, ns = _TIMESPEC.unpack_from(ancillary[0][2])
        self.seen += 1
        arrived_s: float = (seconds * _NS + ns - self._offset_ns) * 1e-9
        return min(arrived_s, now_s)


class Alarm:
    """A timerfd: readable at the time that it was set to, to the microsecond, where an event loop's own timers are
    whole milliseconds. Raises OSError."""

    __slots__ = ("_libc", "_set_for_s", "fd")

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._set_for_s = 0.0

    def set(self, at_s: float) -> None:
        """Does nothing when it is set to that time."""
        if at_s == self._set_for_s:
            return
        at_ns = max(1, int(at_s * _NS))  # 0 would switch it off
        value = struct.pack("qqqq", 0, 0, at_ns // _NS, at_ns % _NS)
        if self._libc.timerfd_settime(self.fd, _TFD_ABSTIME, value, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        self._set_for_s = at_s

    def take(self) -> None:
        """It rang."""
        self._set_for_s = 0.0
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return

    def close(self) -> None:
        os.close(self.fd)
