"""Unix time that nobody can set: for what is compared with times of before, such as how long a replica was idle."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SLEW = 0.01  # seconds per second


class SteadyClock:
    """Unix time that runs on the machine's monotonic clock, and never jumps nor runs backwards.

    It begins as the wall clock says. What that is set by afterwards it makes up for by SLEW: it is true again after a
    while, and no duration is ever wrong by more than one in a hundred. ``wall`` is for what goes by the calendar.
    """

    def __init__(self, unix: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._unix, self._monotonic = unix, monotonic
        self._shown_s, self._asked_s = unix(), monotonic()

    def __call__(self) -> float:
        now_s = self._monotonic()
        passed_s, self._asked_s = max(0.0, now_s - self._asked_s), now_s
        most_s = passed_s * SLEW
        self._shown_s += passed_s
        self._shown_s += max(-most_s, min(most_s, self._unix() - self._shown_s))
        return self._shown_s

    def wall(self) -> float:
        """Unix time as the machine has it now; it may jump."""
        return self._unix()


class SinceBoot(NamedTuple):
    """``boot``: which one; "" where the machine does not say. ``since_s``: what passed since, suspended or not."""

    boot: str
    since_s: float


def since_boot(boot_id: Path = Path("/proc/sys/kernel/random/boot_id")) -> SinceBoot:
    """By which two processes of a machine agree on how long ago something was, whatever is done to its clock."""
    try:
        boot = boot_id.read_text().strip()
    except OSError:
        boot = ""
    return SinceBoot(boot, time.clock_gettime(time.CLOCK_BOOTTIME))
