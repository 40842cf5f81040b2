"""Ends processes for good: asked first, then killed, and looked for again until none is left."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.service.processes import ProcessId, send

LOOK_EVERY_S = 0.02
KILL_WAIT_S = 10.0  # a killed process may hang in the kernel for a while, never for good


@dataclass(frozen=True, slots=True)
class Swept:
    """``ended``: processes that were there and are gone. ``left``: those that would not die."""

    ended: frozenset[ProcessId]
    left: frozenset[ProcessId]


def sweep(
    look: Callable[[], frozenset[ProcessId]],
    *,
    grace_s: float,
    now: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
    signal_one: Callable[[ProcessId, signal.Signals], bool] = send,
) -> Swept:
    """End every process that ``look`` names, those included that appear meanwhile.

    Each gets SIGTERM once; from ``grace_s`` on everybody gets SIGKILL. Returns when ``look`` names nobody any more, or
    ``KILL_WAIT_S`` after the grace.
    """
    began = now()
    seen: set[ProcessId] = set()
    while True:
        there = look()
        patient = now() - began < grace_s
        for process in there if not patient else there - seen:
            signal_one(process, signal.SIGTERM if patient else signal.SIGKILL)
        seen |= there
        if not there or now() - began > grace_s + KILL_WAIT_S:
            return Swept(ended=frozenset(seen - there), left=there)
        pause(LOOK_EVERY_S)
